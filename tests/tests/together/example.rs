//! The cluster file that the package ships is one that the program and its JSON Schema take, as it is and with every
//! comment made true.

use std::collections::BTreeSet;

use muster_coordinator::spec::{ClusterSpec, schema};
use muster_proto::coordinator::ClusterFiles;

const EXAMPLE: &str = include_str!("../../../deploy/examples/cluster.yaml");

/// Reads the file, which the schema has to take as well.
fn parse(spec: &str) -> ClusterSpec {
    assert_eq!(refused_by_schema(spec), None);
    let files = [("pod-network.yaml".to_owned(), "kind: DaemonSet\n".to_owned())].into();
    let files = ClusterFiles {
        spec: spec.to_owned(),
        spec_path: "cluster.yaml".to_owned(),
        files,
        ignored_checks: Vec::new(),
    };
    let enrolled = ["k8s-master-20251234", "k8s-node-20251234"].map(|name| name.parse().unwrap());
    ClusterSpec::parse(&files, &BTreeSet::from(enrolled)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What the schema has against the file; an independent program reads the schema.
fn refused_by_schema(spec: &str) -> Option<String> {
    let schema = schema();
    jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("no schema: {error}"));
    let file: serde_json::Value = serde_saphyr::from_str(spec).unwrap();
    jsonschema::validate(&schema, &file).err().map(|error| format!("{}: {error}", error.instance_path()))
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
    for setting in [
        "containerRuntime",
        "bindPort",
        "imageRepository",
        "skipPhases",
        "redoHalfDoneInit",
        "serviceSubnet",
        "cgroupDriver",
        "cgroupV1",
    ] {
        let uncommented = text.replacen(&format!("# {setting}: "), &format!("{setting}: "), 1);
        assert_ne!(uncommented, text, "{setting}");
        text = uncommented;
    }
    let spec = parse(&text);
    assert_eq!(spec.skip_phases, ["addon/coredns"]);
    assert!(spec.allows_cgroup_v1);
    assert_eq!(spec.image_repository.as_deref(), Some("registry.example/google_containers"));
}

#[test]
fn the_schema_refuses_what_the_reader_refuses_of_a_fields_name_form_and_presence() {
    for (from, to) in [
        ("kubectlUsers:", "kubectlUser:"),
        ("kind: Cluster", "kind: cluster"),
        ("role: worker", "role: slave"),
        ("kubectlUsers: [student]", "kubectlUsers: student"),
        ("disableFirewall: true", "disableFirewall: 1"),
        ("runsPods: true", "bindPort: 70000"),
        ("    podSubnet: 10.244.0.0/16\n", ""),
        ("      role: worker\n", ""),
    ] {
        let wrong = EXAMPLE.replacen(from, to, 1);
        assert_ne!(wrong, EXAMPLE, "{from} is in the example");
        assert!(refused_by_schema(&wrong).is_some(), "{to}");
    }
}
