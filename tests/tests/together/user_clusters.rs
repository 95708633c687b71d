//! A user's kubeconfig after a reset: this cluster's entries are gone, and the user's other clusters are as they were.

use muster_agent::host::fake::File;
use muster_tests::cluster::TestCluster;

const RUNS_PODS: &str = "  controlPlane: {runsPods: true}\n";
/// A cluster of the user's own.
const PROD: &str = "apiVersion: v1\nclusters:\n- cluster:\n    server: https://10.0.0.1:6443\n  name: prod\ncontexts:\n- context:\n    cluster: prod\n    user: me\n  name: me@prod\ncurrent-context: me@prod\nkind: Config\nusers:\n- name: me\n  user:\n    token: mine\n";

fn stands(cluster: &TestCluster) -> Option<File> {
    let place = ("student".parse().unwrap(), ".kube/config".into());
    cluster.host("m1").with(|state| state.user_files.get(&place).cloned())
}

fn put(cluster: &TestCluster, content: String, mode: u32) {
    let place = ("student".parse().unwrap(), ".kube/config".into());
    cluster.host("m1").with(|state| state.user_files.insert(place, File { content, mode }));
}

fn read(text: &str) -> serde_json::Value {
    serde_saphyr::from_str(text).unwrap()
}

/// `prod` beside what stands there, as `kubectl config` would add it.
fn add_prod(cluster: &TestCluster) {
    let mut file = read(&stands(cluster).unwrap().content);
    let prod = read(PROD);
    for list in ["clusters", "contexts", "users"] {
        file[list].as_array_mut().unwrap().push(prod[list][0].clone());
    }
    put(cluster, serde_saphyr::to_string(&file).unwrap(), 0o600);
}

async fn bootstrap(cluster: &TestCluster) {
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "{end:?}");
}

/// The reset comes to its end; what it said of the master's `restore`.
async fn reset(cluster: &TestCluster) -> String {
    let (seen, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    let steps = &seen.last().unwrap().steps;
    steps.iter().find(|step| step.id == "m1/restore").unwrap().detail.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_that_the_user_brought_between_two_bootstraps_survive_the_reset() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    bootstrap(&cluster).await;
    // What Muster wrote when nothing stood there gives way to the user's own file, into which it merges again.
    put(&cluster, PROD.into(), 0o644);
    bootstrap(&cluster).await;
    assert!(stands(&cluster).unwrap().content.contains("10.88.0.11"));
    reset(&cluster).await;
    let file = stands(&cluster).expect("the user's file");
    assert_eq!(read(&file.content), read(PROD));
}

#[tokio::test(flavor = "multi_thread")]
async fn our_entries_go_out_of_a_file_that_the_user_edited_since_and_out_of_one_that_was_there_before() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    bootstrap(&cluster).await;
    add_prod(&cluster);
    reset(&cluster).await;
    let file = stands(&cluster).expect("the user's file");
    let (mut expected, after) = (read(PROD), read(&file.content));
    expected["current-context"] = "".into();
    expected["preferences"] = after["preferences"].clone();
    assert_eq!(after, expected, "the current context was ours, and no other is chosen for the user");

    put(&cluster, PROD.into(), 0o640);
    bootstrap(&cluster).await;
    assert_eq!(stands(&cluster).unwrap().mode, 0o600);
    reset(&cluster).await;
    let file = stands(&cluster).expect("the user's file");
    assert_eq!((read(&file.content), file.mode), (read(PROD), 0o640));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_any_more_is_left_and_told_and_the_reset_ends() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    bootstrap(&cluster).await;
    let torn = stands(&cluster).unwrap().content + "users: [\n";
    put(&cluster, torn.clone(), 0o600);
    let told = reset(&cluster).await;
    assert_eq!(stands(&cluster).unwrap().content, torn);
    assert!(told.contains("~student/.kube/config stays as it is"), "{told}");
}
