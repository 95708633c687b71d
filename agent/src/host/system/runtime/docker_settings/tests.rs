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
    let line =
        "ExecStart=/usr/sbin/dockerd -H fd:// --exec-opt native.cgroupdriver=cgroupfs --log-opt max-size=20m";
    let files = unit(&format!("[Service]\nExecStart=\n{line}\n"));
    for docker in [None, Some(running(CgroupDriver::Cgroupfs))] {
        let told = told(decide(None, &files, &[], &systemd(), docker.as_ref()));
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
    assert_eq!(decide(None, &same, &[], &systemd(), None), RuntimeSettings::Fit);
    let none = unit("[Service]\nLimitNOFILE=1000\n");
    assert!(matches!(decide(None, &none, &[], &systemd(), None), RuntimeSettings::Rewrite { .. }));
}

#[test]
fn a_driver_in_the_units_environment_file_is_told_with_that_file() {
    let own = "[Service]\nEnvironmentFile=-/etc/default/docker\nExecStart=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS\n";
    let files = vec![("/lib/systemd/system/docker.service".into(), own.to_owned())];
    assert_eq!(environment_files(&files), [PathBuf::from("/etc/default/docker")]);
    let line = "DOCKER_OPTS=\"--exec-opt native.cgroupdriver=cgroupfs\"";
    let environment = vec![("/etc/default/docker".into(), format!("# options\n{line}\nHTTP_PROXY=x\n"))];
    let told = told(decide(None, &files, &environment, &systemd(), None));
    assert_eq!(told.evidence, format!("/etc/default/docker: {line}"));
    assert!(told.remedy.contains("out of /etc/default/docker"), "{told}");
    let unused = vec![("/etc/default/docker".into(), line.replace("DOCKER_OPTS", "OTHER"))];
    assert!(matches!(decide(None, &files, &unused, &systemd(), None), RuntimeSettings::Rewrite { .. }));
}

#[test]
fn what_keeps_docker_from_starting_is_told_also_when_no_driver_is_wanted() {
    let own = unit("");
    let check = |file| decide(Some(file), &own, &[], &RuntimeWish::default(), None);
    let comma = told(check("{\n  \"log-driver\": \"json-file\",\n}\n"));
    assert!(comma.evidence.contains("/etc/docker/daemon.json: trailing comma at line 3 column 1"), "{comma}");
    let hosts = told(check("{\"hosts\": [\"unix:///var/run/docker.sock\"]}"));
    assert!(hosts.cause.contains("names hosts, and docker.service passes -H"), "{hosts}");
    assert!(hosts.evidence.contains("docker.service: ExecStart=/usr/sbin/dockerd -H fd://"), "{hosts}");
    let mark = told(check("\u{feff}{}"));
    assert!(mark.cause.contains("byte order mark") && mark.remedy.contains("xEF"), "{mark}");
    let twice = unit("[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd --exec-opt isolation=x\n");
    let twice = told(decide(Some("{\"exec-opts\": []}"), &twice, &[], &RuntimeWish::default(), None));
    assert!(twice.cause.contains("exec-opts"), "{twice}");
}

#[test]
fn a_byte_order_mark_that_this_docker_runs_with_stays() {
    let docker = running(CgroupDriver::Cgroupfs);
    let file = "\u{feff}{\r\n  \"log-driver\": \"json-file\"\r\n}\r\n";
    let RuntimeSettings::Rewrite { content, restart: true, .. } =
        decide(Some(file), &[], &[], &systemd(), Some(&docker))
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
