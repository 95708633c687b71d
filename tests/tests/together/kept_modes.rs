//! Who may read a file of a machine's owner is the owner's decision: neither a bootstrap nor a reset opens it to others.

use std::path::Path;

use muster_agent::host::fake::{File, State};
use muster_tests::cluster::TestCluster;

const FILES: [&str; 3] = ["/etc/fstab", "/etc/docker/daemon.json", "/etc/hosts"];

/// The modes of FILES and of the student's .bashrc.
fn modes(state: &mut State) -> Vec<u32> {
    let shell = state.user_files[&("student".parse().unwrap(), ".bashrc".into())].mode;
    FILES.iter().map(|path| state.files[Path::new(path)].mode).chain([shell]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_only_their_owner_may_read_stay_so_through_a_bootstrap_and_a_reset() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let host = cluster.host("m1");
    host.put_file("/etc/docker/daemon.json", "{}\n");
    host.with(|state| {
        for path in FILES {
            state.files.get_mut(Path::new(path)).unwrap().mode = 0o600;
        }
        let shell = File { content: "alias k=kubectl\n".into(), mode: 0o600 };
        state.user_files.insert(("student".parse().unwrap(), ".bashrc".into()), shell);
    });
    let before = host.snapshot().host;
    let (_, end) = cluster.bootstrap("  controlPlane: {runsPods: true}\n").await;
    assert_eq!(end.phase, "done", "{end:?}");
    let after = host.snapshot().host;
    for path in FILES.map(Path::new) {
        assert_ne!(before.files[path].content, after.files[path].content, "{} was changed", path.display());
    }
    assert_ne!(before.user_files, after.user_files);
    assert_eq!(host.with(modes), [0o600; 4]);
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    assert_eq!(host.with(modes), [0o600; 4]);
}
