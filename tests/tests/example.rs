//! The cluster file that the package ships is one that the program takes, as it is and with every comment made true.

use muster_coordinator::spec::ClusterSpec;
use muster_proto::coordinator::ClusterFiles;

const EXAMPLE: &str = include_str!("../../deploy/examples/cluster.yaml");

fn parse(spec: &str) -> ClusterSpec {
    let files = [("pod-network.yaml".to_owned(), "kind: DaemonSet\n".to_owned())].into();
    let files = ClusterFiles {
        spec: spec.to_owned(),
        spec_path: "cluster.yaml".to_owned(),
        files,
        ..ClusterFiles::default()
    };
    ClusterSpec::parse(&files).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_shipped_example_is_a_valid_cluster() {
    let spec = parse(EXAMPLE);
    assert_eq!(spec.control_plane.as_str(), "k8s-master-20251234");
    assert_eq!(spec.workers.len(), 1);
}

#[test]
fn every_setting_that_the_example_shows_as_a_comment_may_be_uncommented() {
    let mut text = EXAMPLE.to_owned();
    for setting in ["bindPort", "imageRepository", "skipPhases", "serviceSubnet", "cgroupDriver"] {
        let uncommented = text.replacen(&format!("# {setting}: "), &format!("{setting}: "), 1);
        assert_ne!(uncommented, text, "{setting}");
        text = uncommented;
    }
    let spec = parse(&text);
    assert_eq!(spec.skip_phases, ["addon/coredns"]);
    assert_eq!(spec.image_repository.as_deref(), Some("registry.example/google_containers"));
}
