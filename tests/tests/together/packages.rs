//! What the maintainer scripts of the packages decide, with stand-ins for the programs that they call.

#![allow(
    clippy::disallowed_methods,
    reason = "a test runs a maintainer script of a package over stand-ins of programs"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// The coordinator's postinst on a machine with this line of a group `muster` and these lines of users; `before` is the version
/// that was installed before.
fn configured(group: &str, users: &str, before: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let program = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let found = if group.is_empty() { "exit 2".to_owned() } else { format!("echo '{group}'") };
    program(
        "getent",
        &format!("case \"$1 $2\" in\n'group muster') {found} ;;\n'passwd ') printf '{users}' ;;\nesac"),
    );
    for name in ["addgroup", "adduser", "install", "systemctl"] {
        program(name, "exit 0");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/packages/muster-coordinator/postinst");
    Command::new("/bin/sh")
        .arg(script)
        .args(["configure", before])
        .env("PATH", folder.path())
        .output()
        .unwrap()
}

#[test]
fn a_group_of_muster_that_somebody_is_in_already_is_not_taken_and_the_users_are_named() {
    for (group, users) in
        [("muster:x:990:eve,bob", ""), ("muster:x:990:", "eve:x:7:990::/:/bin/sh\\nann:x:8:99::/:/bin/sh\\n")]
    {
        let refused = configured(group, users, "");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && said.contains("eve") && said.contains("gpasswd"), "{said}");
        assert!(!said.contains("ann"), "{said}");
    }
}

#[test]
fn an_empty_group_none_at_all_and_the_packages_own_at_an_upgrade_are_taken() {
    for (group, before) in [("", ""), ("muster:x:990:", ""), ("muster:x:990:ann", "0.1.0")] {
        let done = configured(group, "", before);
        assert!(done.status.success(), "{group}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
