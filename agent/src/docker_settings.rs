//! Docker's daemon.json: the cgroup driver that it names, and the file with another one, every other setting kept.

use serde_json::{Value, json};

const OPTIONS: &str = "exec-opts";
const KEY: &str = "native.cgroupdriver=";

fn parse(file: &str) -> Result<Value, String> {
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
pub fn driver_of(file: &str) -> Result<Option<String>, String> {
    let value = parse(file)?;
    let options = value[OPTIONS].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(options.filter_map(|option| option.strip_prefix(KEY)).next_back().map(str::to_owned))
}

/// daemon.json with the driver in it. Only these bytes change where the text lets itself be edited; written anew with
/// the same settings otherwise.
pub fn with_driver(file: &str, driver: &str) -> String {
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
