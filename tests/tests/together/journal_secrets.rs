//! What a bootstrap handles and nobody may find afterwards: no journal holds the administrator's key or a join token.

#![allow(clippy::disallowed_methods, reason = "a test reads the journals")]

use muster_tests::cluster::TestCluster;

/// The fake hosts' private key in admin.conf: "FAKE KEY OF A FAKE HOST".
const ADMIN_KEY: &str = "RkFLRSBLRVkgT0YgQSBGQUtFIEhPU1Q=";

fn holds(path: &std::path::Path, secret: &str) -> bool {
    ["", "-wal"].iter().any(|end| {
        let bytes = std::fs::read(format!("{}{end}", path.display())).unwrap_or_default();
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    })
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
