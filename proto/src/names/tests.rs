//! What no name is.

use super::*;

use proptest::prelude::*;

use crate::hostile::{PIECES, is_inert, is_showable, values};

/// One good value of every type above; a type without one fails here.
fn good(name: &str) -> &'static str {
    match name {
        "NodeName" => "node-1.lab",
        "HostName" => "M1_old.lab-2",
        "UserName" => "student_1",
        "ImageReference" => "registry.example:5000/a/b_c:v1.2-x",
        "StepId" => "node-1.lab/kubeadm-join",
        "ApiEndpoint" => "[fd00::1]:6443",
        "KeyHash" => "sha256:58bebb5a08acf2f61c443ebc45f3f860d481bc528790d1c88cf336935a679e7e",
        other => panic!("{other} is new: give a good value of it here"),
    }
}

type Parser = fn(&str) -> Result<String, Malformed>;

fn types() -> impl Iterator<Item = (&'static str, Parser)> {
    let version: Parser = |value| value.parse::<KubernetesVersion>().map(String::from);
    let token: Parser =
        |value| is_bootstrap_token(value).then(|| value.to_owned()).ok_or(Malformed::new(value, "a token"));
    TEXT_TYPES.iter().copied().chain([("KubernetesVersion", version), ("bootstrap token", token)])
}

#[test]
fn hostile_values_are_refused_by_every_name() {
    for value in values() {
        for (name, parse) in types() {
            let shown: String = value.chars().take(40).collect();
            let refusal = parse(&value).expect_err(&format!("{name} took {shown:?}")).to_string();
            assert!(is_showable(&refusal), "{name}: {shown:?}");
        }
    }
}

#[test]
fn a_good_value_with_a_hostile_piece_anywhere_in_it_is_refused_by_every_name() {
    for (name, parse) in TEXT_TYPES {
        let good = good(name);
        assert_eq!(parse(good).unwrap(), good);
        for piece in PIECES {
            for place in 0..=good.len() {
                let value = format!("{}{piece}{}", &good[..place], &good[place..]);
                assert!(parse(&value).is_err(), "{name} took {value:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn what_a_name_takes_is_inert_and_is_the_same_when_it_is_read_again(
        value in prop_oneof![any::<String>(), "[a-z0-9A-Z./:@_ \\-$%\n\u{202e}]{0,80}", "[a-z0-9./:-]{1,24}"]
    ) {
        for (name, parse) in types() {
            if let Ok(taken) = parse(&value) {
                prop_assert!(is_inert(&taken), "{} took {:?}", name, taken);
                prop_assert_eq!(parse(&taken), Ok(taken.clone()));
            }
        }
    }
}

#[test]
fn an_image_is_named_as_docker_names_it() {
    let digest = "sha256:58bebb5a08acf2f61c443ebc45f3f860d481bc528790d1c88cf336935a679e7e";
    for good in [
        "nginx",
        "nginx:1.22",
        "k8s.gcr.io/kube-apiserver:v1.20.2",
        "quay.io/coreos/flannel:v0.13.1-rc1",
        "localhost:5000/a__b/c:LATEST_1",
        &format!("registry.k8s.io/pause:3.9@{digest}"),
    ] {
        assert!(good.parse::<ImageReference>().is_ok(), "{good}");
    }
    for wrong in
        ["A", "/a", "a/../b", "a//b", "a:", "a:b:c", "a@b", "a.io:x/b", "-a/b", "a/-b", "a@sha256:12"]
    {
        assert!(wrong.parse::<ImageReference>().is_err(), "{wrong}");
    }
}

#[test]
fn a_refusal_shows_the_value_and_what_was_expected() {
    let error = "Node_1".parse::<NodeName>().unwrap_err().to_string();
    assert!(error.starts_with("\"Node_1\" is not a node name:"), "{error}");
}

#[test]
fn a_version_is_shown_with_its_leading_v_however_it_was_written() {
    assert_eq!("1.20.2".parse::<KubernetesVersion>().unwrap().to_string(), "v1.20.2");
    assert_eq!("v1.36.0".parse::<KubernetesVersion>().unwrap().to_string(), "v1.36.0");
    for wrong in ["1.20", "1.20.2.1", "1.020.2", "v1.20.x", "1.20.2+build"] {
        assert!(wrong.parse::<KubernetesVersion>().is_err(), "{wrong}");
    }
}

#[test]
fn a_step_id_knows_its_node_and_its_step() {
    let id: StepId = "node-1.lab/kubeadm-join".parse().unwrap();
    assert_eq!((id.node(), id.step()), ("node-1.lab", "kubeadm-join"));
    assert_eq!(id, StepId::of(&"node-1.lab".parse().unwrap(), StepKind::KubeadmJoin));
    let node: NodeName = "m1".parse().unwrap();
    let labelled = StepId::labelled(&node, StepKind::DrainNode, "w1.lab").unwrap();
    assert_eq!((labelled.as_str(), labelled.kind()), ("m1/drain-node.w1.lab", Some(StepKind::DrainNode)));
    assert!(StepId::labelled(&node, StepKind::Kubeconfig, "a_b").is_err());
    assert_eq!("m1/of-tomorrow".parse::<StepId>().unwrap().kind(), None);
}

#[test]
fn the_endpoint_of_an_api_server_is_a_host_and_a_port_and_nothing_else() {
    for good in ["10.88.0.11:6443", "[fd00::1]:6443", "master.lab:1"] {
        assert!(good.parse::<ApiEndpoint>().is_ok(), "{good}");
    }
    for wrong in
        ["a:+1", "a:0", "a:65536", "a:b:1", "[a]:1", "fd00::1:6443", "[fd00::1]6443", "a:6443x", "a", ":1"]
    {
        assert!(wrong.parse::<ApiEndpoint>().is_err(), "{wrong}");
    }
}
