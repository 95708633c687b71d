//! Docker's settings: daemon.json, and the command line that its unit gives dockerd. A setting that stands in both keeps
//! Docker from starting ("the following directives are specified both as a flag and in the configuration file").

use std::path::{Path, PathBuf};

use muster_proto::event::Complaint;
use muster_proto::kubernetes::runtime::{CgroupDriver, RuntimeName};
use serde_json::{Value, json};

use crate::host::query::{RuntimeFacts, RuntimeSettings, RuntimeWish};

const OPTIONS: &str = "exec-opts";
const KEY: &str = "native.cgroupdriver=";

/// What some editors put before the text. Docker takes it since 23.0 (moby 44770).
const BYTE_ORDER_MARK: char = '\u{feff}';

/// dockerd's own words for options that are given as flags and may stand in daemon.json.
const FLAGS: [(&str, &[&str]); 2] = [("hosts", &["-H", "--host"]), (OPTIONS, &["--exec-opt"])];

/// The line of a unit file that starts dockerd, and the file that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CommandLine {
    path: PathBuf,
    line: String,
    /// The lines of environment files whose variables stand on it, each with its file.
    variables: Vec<(PathBuf, String)>,
}

impl CommandLine {
    /// The last ExecStart of the files counts; an empty one takes those before it back.
    fn of(files: &[(PathBuf, String)], environment: &[(PathBuf, String)]) -> Option<Self> {
        let mut found: Option<Self> = None;
        for (path, text) in files {
            // A line that ends with a backslash goes on in the next one.
            let text = text.replace("\\\n", " ");
            for line in text.lines().map(str::trim) {
                if let Some(command) = line.strip_prefix("ExecStart=") {
                    let line = line.to_owned();
                    let variables = Vec::new();
                    found =
                        (!command.trim().is_empty()).then(|| Self { path: path.clone(), line, variables });
                }
            }
        }
        let mut found = found?;
        let stands = |name: &str| found.line.split_whitespace().any(|word| is_variable(word, name));
        let lines =
            environment.iter().flat_map(|(path, text)| text.lines().map(move |line| (path, line.trim())));
        found.variables = lines
            .filter(|(_, line)| line.split_once('=').is_some_and(|(name, _)| stands(name.trim())))
            .map(|(path, line)| (path.clone(), line.to_owned()))
            .collect();
        Some(found)
    }

    /// The words of the line and of its variables.
    fn words(&self) -> impl Iterator<Item = &str> {
        let values =
            self.variables.iter().filter_map(|(_, line)| line.split_once('=')).map(|(_, value)| value);
        std::iter::once(self.line.as_str())
            .chain(values)
            .flat_map(str::split_whitespace)
            .map(|word| word.trim_matches(['"', '\'']))
    }

    /// The file and the line that hold one of these flags.
    fn place(&self, flags: &[&str]) -> (&Path, &str) {
        let holds = |(_, line): &&(PathBuf, String)| flags.iter().any(|flag| line.contains(flag));
        let variable = self.variables.iter().find(holds).map(|(path, line)| (path.as_path(), line.as_str()));
        variable.unwrap_or((&self.path, &self.line))
    }

    /// Whether one of these flags is on it, as `--flag VALUE` or `--flag=VALUE`.
    fn gives(&self, flags: &[&str]) -> bool {
        self.words().any(|word| flags.contains(&word.split('=').next().unwrap_or_default()))
    }

    /// The cgroup driver that it names.
    fn driver(&self) -> Option<&str> {
        let options = self.words().map(|word| word.strip_prefix("--exec-opt=").unwrap_or(word));
        options.filter_map(|option| option.strip_prefix(KEY)).last()
    }

    /// The line that holds one of these flags as evidence.
    fn evidence(&self, flags: &[&str]) -> String {
        let (path, line) = self.place(flags);
        format!("{}: {line}", path.display())
    }
}

/// `$NAME` or `${NAME}`.
fn is_variable(word: &str, name: &str) -> bool {
    word.strip_prefix('$').is_some_and(|own| own.trim_matches(['{', '}']) == name)
}

/// The files from which these unit files take variables.
pub(crate) fn environment_files(unit_files: &[(PathBuf, String)]) -> Vec<PathBuf> {
    let lines = unit_files.iter().flat_map(|(_, text)| text.lines());
    let named = lines.filter_map(|line| line.trim().strip_prefix("EnvironmentFile="));
    named
        .map(|path| PathBuf::from(path.trim().trim_start_matches('-')))
        .filter(|path| path.is_absolute())
        .collect()
}

/// Compares daemon.json and the command line with what is wanted. `unit_files` are those of docker.service in their order,
/// `environment` the files from which they take variables.
pub(crate) fn decide(
    file: Option<&str>,
    unit_files: &[(PathBuf, String)],
    environment: &[(PathBuf, String)],
    wanted: &RuntimeWish,
    running: Option<&RuntimeFacts>,
) -> RuntimeSettings {
    let path = RuntimeName::Docker.row().settings;
    let before = file.unwrap_or_default();
    let unfit = |cause: &str, evidence: String, remedy: String| {
        RuntimeSettings::Unfit(Complaint::new(cause, evidence, remedy))
    };
    if before.starts_with(BYTE_ORDER_MARK) && running.is_none() {
        return unfit(
            "Docker's configuration begins with a byte order mark, which Docker before 23.0 refuses",
            format!("{path}: its first three bytes are EF BB BF"),
            format!("sed -i '1s/^\\xEF\\xBB\\xBF//' {path}, then run again"),
        );
    }
    let (settings, configured) = match parse(before).and_then(|value| Ok((value, driver_of(before)?))) {
        Ok(both) => both,
        Err(problem) => {
            return unfit(
                "Docker's configuration cannot be read, and Docker would not start with it",
                format!("{path}: {problem}"),
                format!("correct {path}, then run again"),
            );
        }
    };
    let command_line = CommandLine::of(unit_files, environment);
    for (setting, flags) in FLAGS {
        let twice = command_line.as_ref().filter(|line| settings.get(setting).is_some() && line.gives(flags));
        if let Some(line) = twice {
            return unfit(
                &format!(
                    "{path} names {setting}, and docker.service passes {} as well: Docker does not start with both",
                    flags[0]
                ),
                line.evidence(flags),
                format!(
                    "take {setting} out of {path}, or {} out of {} (then `sudo systemctl daemon-reload`)",
                    flags[0],
                    line.place(flags).0.display()
                ),
            );
        }
    }
    let Some(driver) = wanted.cgroup_driver else { return RuntimeSettings::Fit };
    let on_command_line = command_line.as_ref().filter(|line| line.gives(FLAGS[1].1));
    if let Some(line) = on_command_line {
        let named = line.driver();
        if named == Some(driver.word()) || running.is_some_and(|docker| docker.cgroup_driver == Some(driver))
        {
            return RuntimeSettings::Fit;
        }
        let named = named.map_or("no driver".to_owned(), |named| format!("{KEY}{named}"));
        let place = line.place(FLAGS[1].1).0.display();
        let remedy = match named.strip_prefix(KEY) {
            Some(other) => format!(
                "take `--exec-opt {named}` out of {place} and `sudo systemctl daemon-reload`; or write `host.cgroupDriver: {other}` \
                 into the cluster file"
            ),
            None => format!(
                "move the options of --exec-opt from {place} into {path} and `sudo systemctl daemon-reload`"
            ),
        };
        return unfit(
            "Docker's options, and with them its cgroup driver, are set on dockerd's command line, not in daemon.json: with both \
             it would not start",
            line.evidence(FLAGS[1].1),
            remedy,
        );
    }
    let running = running.and_then(|docker| docker.cgroup_driver);
    if !must_configure(running, configured.as_deref(), driver) {
        return RuntimeSettings::Fit;
    }
    RuntimeSettings::Rewrite {
        path: path.into(),
        content: with_driver(before, driver.word()),
        restart: running != Some(driver),
    }
}

/// Whether daemon.json must name the driver. One that runs without being named there is Docker's default.
fn must_configure(running: Option<CgroupDriver>, configured: Option<&str>, wanted: CgroupDriver) -> bool {
    match (running, configured) {
        (_, Some(configured)) => configured != wanted.word(),
        (Some(running), None) => running != wanted,
        (None, None) => true,
    }
}

/// Where daemon.json says that all data lies.
pub(crate) fn root(file: &str) -> Option<PathBuf> {
    let settings = parse(file).ok()?;
    // `graph` up to Docker 17.04.
    let set = ["data-root", "graph"].into_iter().find_map(|key| settings[key].as_str());
    set.filter(|path| path.starts_with('/')).map(PathBuf::from)
}

fn parse(file: &str) -> Result<Value, String> {
    let file = file.trim_start_matches(BYTE_ORDER_MARK);
    if file.trim().is_empty() {
        return Ok(json!({}));
    }
    let value: Value = serde_json::from_str(file).map_err(|error| error.to_string())?;
    let options = value.get(OPTIONS);
    match (
        value.is_object(),
        options.is_none_or(|list| list.as_array().is_some_and(|all| all.iter().all(Value::is_string))),
    ) {
        (false, _) => Err("line 1: the file is no JSON object".into()),
        (_, false) => Err("exec-opts is no list of texts".into()),
        _ => Ok(value),
    }
}

/// The driver that daemon.json names; or what is wrong with the file, with its line.
fn driver_of(file: &str) -> Result<Option<String>, String> {
    let value = parse(file)?;
    let options = value[OPTIONS].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(options.filter_map(|option| option.strip_prefix(KEY)).next_back().map(str::to_owned))
}

/// daemon.json with the driver in it. Only these bytes change where the text lets itself be edited; written anew with
/// the same settings otherwise.
fn with_driver(file: &str, driver: &str) -> String {
    let option = format!("{KEY}{driver}");
    let mut wanted = parse(file).unwrap_or_else(|_| json!({}));
    let old = driver_of(file).ok().flatten();
    let mut options = wanted[OPTIONS].as_array().cloned().unwrap_or_default();
    options.retain(|other| !other.as_str().is_some_and(|text| text.starts_with(KEY)));
    options.insert(0, json!(option));
    wanted[OPTIONS] = json!(options);
    let edited = match (old, file.split_once('{')) {
        (Some(old), _) => file.replacen(&format!("\"{KEY}{old}\""), &format!("\"{option}\""), 1),
        (None, Some((head, rest))) if !file.contains("\"exec-opts\"") => {
            let comma = if rest.trim_start().starts_with('}') { "\n" } else { "," };
            format!("{head}{{\n  \"exec-opts\": [\"{option}\"]{comma}{rest}")
        }
        _ => String::new(),
    };
    let same = |text: &str| parse(text).is_ok_and(|value| sorted(&value) == sorted(&wanted));
    if same(&edited) { edited } else { format!("{wanted:#}\n") }
}

/// The settings with the options in one order, for comparing.
fn sorted(settings: &Value) -> Value {
    let mut settings = settings.clone();
    if let Some(options) = settings[OPTIONS].as_array_mut() {
        options.sort_by_key(|option| option.to_string());
    }
    settings
}

#[cfg(test)]
#[path = "docker_settings/tests.rs"]
mod tests;
