//! Docker's settings: daemon.json, and the command line that its unit gives dockerd. A setting that stands in both keeps
//! Docker from starting ("the following directives are specified both as a flag and in the configuration file").

use std::path::PathBuf;

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
}

impl CommandLine {
    /// The last ExecStart of the files counts; an empty one takes those before it back.
    fn of(files: &[(PathBuf, String)]) -> Option<Self> {
        let mut found = None;
        for (path, text) in files {
            // A line that ends with a backslash goes on in the next one.
            let text = text.replace("\\\n", " ");
            for line in text.lines().map(str::trim) {
                if let Some(command) = line.strip_prefix("ExecStart=") {
                    let line = line.to_owned();
                    found = (!command.trim().is_empty()).then(|| Self { path: path.clone(), line });
                }
            }
        }
        found
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.line.split_whitespace().map(|word| word.trim_matches(['"', '\'']))
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

    /// The line as evidence.
    fn evidence(&self) -> String {
        format!("{}: {}", self.path.display(), self.line)
    }
}

/// Compares daemon.json and the command line with what is wanted. `unit_files` are those of docker.service in their order.
pub(crate) fn decide(
    file: Option<&str>,
    unit_files: &[(PathBuf, String)],
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
    let command_line = CommandLine::of(unit_files);
    for (setting, flags) in FLAGS {
        let twice = command_line.as_ref().filter(|line| settings.get(setting).is_some() && line.gives(flags));
        if let Some(line) = twice {
            return unfit(
                &format!(
                    "{path} names {setting}, and docker.service passes {} as well: Docker does not start with both",
                    flags[0]
                ),
                line.evidence(),
                format!(
                    "take {setting} out of {path}, or {} out of {} (then `sudo systemctl daemon-reload`)",
                    flags[0],
                    line.path.display()
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
        let remedy = match named.strip_prefix(KEY) {
            Some(other) => format!(
                "take `--exec-opt {named}` out of {} and `sudo systemctl daemon-reload`; or write `host.cgroupDriver: {other}` into \
                 the cluster file",
                line.path.display()
            ),
            None => format!(
                "move the options of --exec-opt from {} into {path} and `sudo systemctl daemon-reload`",
                line.path.display()
            ),
        };
        return unfit(
            "Docker's options, and with them its cgroup driver, are set on dockerd's command line, not in daemon.json: with both \
             it would not start",
            line.evidence(),
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
mod tests {
    use super::*;

    fn unit(lines: &str) -> Vec<(PathBuf, String)> {
        vec![
            (
                "/lib/systemd/system/docker.service".into(),
                "[Service]\nExecStart=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS\n".into(),
            ),
            ("/etc/systemd/system/docker.service.d/override.conf".into(), lines.into()),
        ]
    }

    fn systemd() -> RuntimeWish {
        RuntimeWish { cgroup_driver: Some(CgroupDriver::Systemd), sandbox_image: None }
    }

    fn running(driver: CgroupDriver) -> RuntimeFacts {
        RuntimeFacts {
            version: "20.10.24".into(),
            cgroup_driver: Some(driver),
            sandbox_image: None,
            cri: crate::host::query::Cri::On,
            root: "/var/lib/docker".into(),
            settings_in_effect: true,
        }
    }

    fn told(finding: RuntimeSettings) -> Complaint {
        match finding {
            RuntimeSettings::Unfit(complaint) => complaint,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_file_is_left_alone_when_the_wanted_driver_runs_without_it() {
        use CgroupDriver::{Cgroupfs, Systemd};
        assert!(!must_configure(Some(Systemd), None, Systemd));
        assert!(!must_configure(Some(Cgroupfs), Some("systemd"), Systemd));
        assert!(must_configure(Some(Systemd), Some("cgroupfs"), Systemd));
        assert!(must_configure(Some(Cgroupfs), None, Systemd));
        assert!(must_configure(None, None, Systemd));
    }

    #[test]
    fn a_driver_on_dockerds_command_line_is_told_with_the_drop_in_and_nothing_is_written() {
        let line = "ExecStart=/usr/sbin/dockerd -H fd:// --exec-opt native.cgroupdriver=cgroupfs --log-opt max-size=20m";
        let files = unit(&format!("[Service]\nExecStart=\n{line}\n"));
        for docker in [None, Some(running(CgroupDriver::Cgroupfs))] {
            let told = told(decide(None, &files, &systemd(), docker.as_ref()));
            assert_eq!(told.evidence, format!("/etc/systemd/system/docker.service.d/override.conf: {line}"));
            assert!(
                told.remedy.contains("take `--exec-opt native.cgroupdriver=cgroupfs` out of /etc/systemd"),
                "{told}"
            );
            assert!(told.remedy.contains("`host.cgroupDriver: cgroupfs`"), "{told}");
        }
        let same = unit(
            "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd \\\n --exec-opt=native.cgroupdriver=systemd\n",
        );
        assert_eq!(decide(None, &same, &systemd(), None), RuntimeSettings::Fit);
        let none = unit("[Service]\nLimitNOFILE=1000\n");
        assert!(matches!(decide(None, &none, &systemd(), None), RuntimeSettings::Rewrite { .. }));
    }

    #[test]
    fn what_keeps_docker_from_starting_is_told_also_when_no_driver_is_wanted() {
        let own = unit("");
        let check = |file| decide(Some(file), &own, &RuntimeWish::default(), None);
        let comma = told(check("{\n  \"log-driver\": \"json-file\",\n}\n"));
        assert!(
            comma.evidence.contains("/etc/docker/daemon.json: trailing comma at line 3 column 1"),
            "{comma}"
        );
        let hosts = told(check("{\"hosts\": [\"unix:///var/run/docker.sock\"]}"));
        assert!(hosts.cause.contains("names hosts, and docker.service passes -H"), "{hosts}");
        assert!(hosts.evidence.contains("docker.service: ExecStart=/usr/sbin/dockerd -H fd://"), "{hosts}");
        let mark = told(check("\u{feff}{}"));
        assert!(mark.cause.contains("byte order mark") && mark.remedy.contains("xEF"), "{mark}");
        let twice = unit("[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd --exec-opt isolation=x\n");
        let twice = told(decide(Some("{\"exec-opts\": []}"), &twice, &RuntimeWish::default(), None));
        assert!(twice.cause.contains("exec-opts"), "{twice}");
    }

    #[test]
    fn a_byte_order_mark_that_this_docker_runs_with_stays() {
        let docker = running(CgroupDriver::Cgroupfs);
        let file = "\u{feff}{\r\n  \"log-driver\": \"json-file\"\r\n}\r\n";
        let RuntimeSettings::Rewrite { content, restart: true, .. } =
            decide(Some(file), &[], &systemd(), Some(&docker))
        else {
            panic!("not written")
        };
        assert!(
            content.starts_with("\u{feff}{\n  \"exec-opts\": [\"native.cgroupdriver=systemd\"],\r\n"),
            "{content:?}"
        );
    }

    #[test]
    fn the_folder_of_all_data_is_the_one_that_the_file_names() {
        assert_eq!(root("{\"data-root\": \"/srv/docker\"}"), Some("/srv/docker".into()));
        assert_eq!((root("{}"), root("oops")), (None, None));
    }

    #[test]
    fn the_driver_is_set_and_every_other_byte_stays() {
        let systemd = "\"exec-opts\": [\"native.cgroupdriver=systemd\"]";
        for (before, after) in [
            ("", format!("{{\n  {}\n}}\n", systemd.replace("[", "[\n    ").replace(']', "\n  ]"))),
            ("{}", format!("{{\n  {systemd}\n}}")),
            ("{\n\t\"z\": 1,\n\t\"a\": 2\n}\n", format!("{{\n  {systemd},\n\t\"z\": 1,\n\t\"a\": 2\n}}\n")),
            (
                "{ \"b\":1,\"exec-opts\" : [ \"x=1\", \"native.cgroupdriver=cgroupfs\" ] }",
                "{ \"b\":1,\"exec-opts\" : [ \"x=1\", \"native.cgroupdriver=systemd\" ] }".to_owned(),
            ),
        ] {
            assert_eq!(with_driver(before, "systemd"), after);
        }
    }

    #[test]
    fn settings_that_cannot_be_edited_in_place_are_all_kept() {
        let before = r#"{"labels": ["\"exec-opts\""], "exec-opts": ["x=1"], "n": {"exec-opts": []}}"#;
        let after = with_driver(before, "systemd");
        assert_eq!(driver_of(&after), Ok(Some("systemd".to_owned())));
        let (mut before, mut after) = (parse(before).unwrap(), parse(&after).unwrap());
        assert_eq!(after["exec-opts"], json!(["native.cgroupdriver=systemd", "x=1"]));
        (before["exec-opts"], after["exec-opts"]) = (json!(0), json!(0));
        assert_eq!(before, after);
    }

    #[test]
    fn a_file_that_is_not_docker_configuration_is_told_with_its_line() {
        assert!(driver_of("{\n  \"a\": 1,\n}\n").unwrap_err().contains("line 3"));
        assert!(driver_of("[]").is_err() && driver_of("{\"exec-opts\": \"x\"}").is_err());
        assert_eq!(driver_of("{\"data-root\": \"/x\"}"), Ok(None));
    }
}
