//! What a journal holds of a change.

use super::*;

const SECRET: &str = "a canary";

fn secrets() -> [Change; 3] {
    let (path, content, mode) = (PathBuf::from("a/file"), SECRET.to_owned(), FileMode::exactly(0o600));
    let user = "student".parse().unwrap();
    [
        Change::WriteFile { path: path.clone(), content: content.clone(), mode, secret: true },
        Change::WriteUserFile { user, path, content, mode, secret: true },
        Change::Run(program(ProgramName::Kubeadm, "join").with_input(SECRET)),
    ]
}

fn program(name: ProgramName, argument: &str) -> Program {
    Program::new(name, [argument], Duration::from_secs(1))
}

#[test]
fn no_record_holds_a_secret_and_of_a_secret_file_it_holds_the_digest() {
    for change in secrets() {
        let record = serde_json::to_string(&change.record()).unwrap();
        assert!(!record.contains(SECRET), "{record}");
        assert_eq!(record.contains(&digest_of(SECRET)), !matches!(change, Change::Run(_)), "{record}");
        assert!(!format!("{:?} {}", change.record(), *change.record()).contains(SECRET));
        assert_eq!(change.record().without_contents(), change.record(), "a digest is no content");
    }
}

#[test]
fn a_record_is_read_back_as_the_change_that_it_was() {
    let read = |record: &Recorded| -> Recorded {
        serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap()
    };
    let plain = Change::write("/etc/hosts", "10.0.0.1 m1\n");
    assert_eq!(*read(&plain.record()), plain);
    for change in secrets() {
        assert_eq!(read(&change.record()), change.record());
    }
}

#[test]
fn two_changes_are_the_same_only_when_their_contents_are() {
    let hosts = |content: &str| Change::write("/etc/hosts", content);
    assert_eq!(hosts("a").to_string(), hosts("b").to_string(), "a person reads the same of both");
    assert_ne!(hosts("a"), hosts("b"));
    let join = |input: &str| Change::Run(program(ProgramName::Kubeadm, "join").with_input(input));
    assert_ne!(join("a"), join("b"));
    assert_eq!(join("a"), join("a"));
    assert_ne!(join("a"), Change::Run(program(ProgramName::Kubeadm, "join")));
}

#[test]
fn a_record_of_a_build_that_knew_neither_secret_files_of_the_host_nor_environments_is_read() {
    let older = r#"{"change":"write-file","path":"/etc/hosts","content":"a","mode":420}"#;
    assert_eq!(*serde_json::from_str::<Recorded>(older).unwrap(), Change::write("/etc/hosts", "a"));
    let older = r#"{"change":"run","program":"ufw","arguments":["disable"],"limit":{"secs":1,"nanos":0},"yields_ticket":false}"#;
    let ufw = Change::Run(program(ProgramName::Ufw, "disable"));
    assert_eq!(*serde_json::from_str::<Recorded>(older).unwrap(), ufw);
}

#[test]
fn a_change_that_is_not_known_is_no_change() {
    for unknown in [r#"{"change":"of-tomorrow"}"#, "null", "{}"] {
        assert!(serde_json::from_str::<Recorded>(unknown).is_err(), "{unknown}");
    }
}
