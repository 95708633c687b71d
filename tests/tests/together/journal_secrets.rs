//! What a bootstrap handles and nobody may find afterwards: no journal holds the administrator's key or a join token, and
//! the coordinator's holds nothing of a node's own files.

#![allow(clippy::disallowed_methods, reason = "a test reads the journals")]

use std::path::{Path, PathBuf};

use muster_agent::host::fake::File;
use muster_proto::journal::Journal;
use muster_proto::listing::{Form, list};
use muster_proto::names::UserName;
use muster_tests::cluster::TestCluster;

/// The fake hosts' private key in admin.conf: "FAKE KEY OF A FAKE HOST".
const ADMIN_KEY: &str = "RkFLRSBLRVkgT0YgQSBGQUtFIEhPU1Q=";

fn holds(path: &Path, secret: &str) -> bool {
    ["", "-wal"].iter().any(|end| {
        let bytes = std::fs::read(format!("{}{end}", path.display())).unwrap_or_default();
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    })
}

fn shell_file() -> (UserName, PathBuf) {
    ("student".parse().unwrap(), ".bashrc".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_journal_holds_the_administrators_key() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let (_, end) = cluster.bootstrap("  controlPlane: {runsPods: true}\n").await;
    assert_eq!(end.phase, "done", "{end:?}");
    for name in ["m1", "w1"] {
        let journal = cluster.agent_journal(name);
        assert!(holds(&journal, "kubeadm"), "the search finds what is there");
        assert!(!holds(&journal, ADMIN_KEY), "the journal of {name}");
    }
}

/// What stood in files of m1 that Muster changes, each with a line that must not leave the machine.
const PRIVATE: [(&str, &str); 4] = [
    ("/etc/docker/daemon.json", "{\"proxies\": {\"http-proxy\": \"http://canary-of-docker@proxy\"}}\n"),
    ("/etc/fstab", "//server/share /mnt cifs password=canary-of-fstab 0 0\nUUID=1 none swap sw 0 0\n"),
    ("/etc/hosts", "127.0.0.1 localhost # canary-of-hosts\n"),
    ("/etc/ufw/ufw.conf", "# canary-of-ufw\nENABLED=yes\n"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_stood_in_a_nodes_own_files_is_not_in_the_coordinators_journal_and_comes_back_with_a_reset() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let shell = File { content: "export GITHUB_TOKEN=canary-of-bashrc\nalias k=kubectl".into(), mode: 0o600 };
    cluster.host("m1").with(|state| state.user_files.insert(shell_file(), shell.clone()));
    for (path, content) in PRIVATE {
        cluster.host("m1").put_file(path, content);
    }
    let (_, end) = cluster.bootstrap("  controlPlane: {runsPods: true}\n").await;
    assert_eq!(end.phase, "done", "{end:?}");
    let now = cluster.host("m1").with(|state| state.user_files[&shell_file()].content.clone());
    assert!(now.contains("canary-of-bashrc") && now != shell.content, "it was changed: {now}");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    for (path, content) in PRIVATE {
        assert_eq!(cluster.host("m1").file(path).as_deref(), Some(content), "{path}");
    }
    assert_eq!(cluster.host("m1").with(|state| state.user_files.get(&shell_file()).cloned()), Some(shell));

    let (own, theirs) = (cluster.agent_journal("m1"), cluster.folder.path().join("journal.db"));
    for canary in ["bashrc", "docker", "fstab", "hosts", "ufw"].map(|name| format!("canary-of-{name}")) {
        assert!(holds(&own, &canary), "the node itself needs it to undo: {canary}");
        assert!(!holds(&theirs, &canary), "the coordinator's journal holds {canary}");
    }
    let mut listed = Vec::new();
    list(&Journal::read_only(&theirs).unwrap(), Form::Text, &mut listed).unwrap();
    let listed = String::from_utf8(listed).unwrap();
    let stood = format!("| before: {} bytes, mode 0644, sha256:", PRIVATE[1].1.len());
    assert!(listed.contains("write /etc/fstab") && listed.contains(&stood), "{listed}");
}
