//! What a person is told about a cluster file.

mod hostile;
mod table;

use std::collections::BTreeSet;

use muster_proto::coordinator::ClusterFiles;
use muster_proto::names::NodeName;

use super::{ClusterSpec, Problem, referenced_files};

const GOOD: &str = "apiVersion: muster/v1
kind: Cluster
metadata:
  name: lab
spec:
  kubernetesVersion: v1.20.2
  nodes:
    - name: master-20251234
      role: control-plane
    - name: node-20251234
      role: worker
  networking:
    podSubnet: 10.244.0.0/16
    manifest: pod-network.yaml
  kubectlUsers: [student]
";

fn files(spec: &str) -> ClusterFiles {
    let files = [("pod-network.yaml".to_owned(), "kind: DaemonSet\n".to_owned())].into();
    ClusterFiles {
        spec: spec.to_owned(),
        spec_path: "cluster.yaml".to_owned(),
        files,
        ..ClusterFiles::default()
    }
}
fn enrolled() -> BTreeSet<NodeName> {
    let names = (1..=200).map(|n| format!("n{n}"));
    let names = names.chain(["master-1", "master-20251234", "node-20251234"].map(str::to_owned));
    names.map(|name| name.parse().unwrap()).collect()
}
fn parse(spec: &str) -> ClusterSpec {
    ClusterSpec::parse(&files(spec), &enrolled()).unwrap_or_else(|problems| panic!("{problems}"))
}
fn problems(spec: &str) -> Vec<Problem> {
    ClusterSpec::parse(&files(spec), &enrolled()).unwrap_err().list
}
/// The one problem of a file that is good but for this replacement.
fn problem(from: &str, to: &str) -> Problem {
    let wrong = GOOD.replace(from, to);
    assert_ne!(wrong, GOOD, "{from} is in the file");
    let mut found = problems(&wrong);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}
fn places(found: &[Problem]) -> Vec<(u64, &str)> {
    found.iter().map(|problem| (problem.line, problem.field.as_str())).collect()
}

#[test]
fn a_short_file_is_enough_and_the_rest_has_defaults() {
    let spec = parse(GOOD);
    assert_eq!(spec.control_plane.as_str(), "master-20251234");
    assert_eq!(spec.service_subnet.to_string(), "10.96.0.0/12");
    assert_eq!((spec.bind_port, spec.disable_firewall, spec.control_plane_runs_pods), (6443, false, false));
    assert!(spec.smoke_test.is_some_and(|test| test.keep));
    assert_eq!(spec.places.nodes[&"node-20251234".parse().unwrap()].line, 10);
}

#[test]
fn all_problems_are_said_at_once_each_with_its_line() {
    let wrong = GOOD
        .replace("kind: Cluster", "kind: [Cluster]")
        .replace("node-20251234\n      role: worker", "Node_2\n      role: slave\n      rack: 7")
        .replace("10.244.0.0/16", "10.96.0.0/16")
        .replace("v1.20.2", "1.20")
        .replace("    manifest: pod-network.yaml\n", "")
        .replace(
            "kubectlUsers: [student]",
            "kubectlUser: [student]\n  controlPlane: {bindPort: abc, runsPods: yes}",
        );
    let found = problems(&wrong);
    let expected = [
        (2, "kind"),
        (6, "spec.kubernetesVersion"),
        (10, "spec.nodes[1].name"),
        (11, "spec.nodes[1].role"),
        (12, "spec.nodes[1].rack"),
        (14, "spec.networking.podSubnet"),
        (14, "spec.networking.manifest"),
        (15, "spec.kubectlUser"),
        (16, "spec.controlPlane.bindPort"),
        (16, "spec.controlPlane.runsPods"),
    ];
    let mut got = places(&found);
    got.sort_by_key(|(line, _)| *line);
    assert_eq!(BTreeSet::from_iter(got), BTreeSet::from(expected), "{found:#?}");
}

#[test]
fn two_hundred_nodes_and_three_mistakes_are_three_problems_with_their_lines() {
    let nodes: String = (2..=200).map(|n| format!("    - name: n{n}\n      role: worker\n")).collect();
    let many = GOOD.replace("    - name: node-20251234\n      role: worker\n", &nodes);
    assert_eq!(parse(&many).workers.len(), 199);
    let line_of = |text: &str, of: &str| text.lines().position(|line| line.contains(of)).unwrap() as u64 + 1;
    let mistakes = [
        ("  kubectlUsers:", "  kubectlUser:", "kubectlUser:"),
        ("kubernetesVersion: v1.20.2", "kubernetesVerion: v1.20.2", "kubernetesVerion"),
        ("name: n57\n", "name: N57\n", "N57"),
        ("name: n99\n", "nam: n99\n", "nam:"),
        ("name: n120\n      role: worker", "name: n120\n      rol: worker", "rol:"),
        ("name: n140\n", "name: n150\n", "name: n150\n"),
        ("name: n160\n", "name: n360\n", "n360"),
        ("name: n180\n      role: worker", "name: n180\n      role: control-plane", "role: control-plane"),
        ("podSubnet: 10.244.0.0/16", "podSubnet: 10.244.0.1/16", "podSubnet"),
        ("podSubnet: 10.244.0.0/16", "podSubnet: 10.244.0.0/33", "podSubnet"),
        ("podSubnet: 10.244.0.0/16", "podSubnet: 10.100.0.0/16", "podSubnet"),
        ("manifest: pod-network.yaml", "manifest: [pod-network.yaml]", "manifest"),
    ];
    for (index, first) in mistakes.iter().enumerate() {
        for second in &mistakes[index + 1..] {
            for third in [mistakes[2], mistakes[8], mistakes[11]] {
                let three = [*first, *second, third];
                let distinct: BTreeSet<&str> = three.iter().map(|(from, ..)| *from).collect();
                if distinct.len() < 3 {
                    continue;
                }
                let wrong = three.iter().fold(many.clone(), |text, (from, to, _)| text.replacen(from, to, 1));
                let found = problems(&wrong);
                assert_eq!(found.len(), 3, "{three:?} {found:#?}");
                for (_, to, mark) in three {
                    // A name or role that comes twice is wrong at its second place, whichever was changed.
                    let line = match mark {
                        "name: n150\n" => line_of(&wrong.replacen("name: n150", "", 1), "name: n150"),
                        "role: control-plane" => line_of(&wrong.replacen(mark, "", 1), mark),
                        mark => line_of(&wrong, mark),
                    };
                    assert!(found.iter().any(|problem| problem.line == line), "{to} in {line}: {found:#?}");
                }
            }
        }
    }
}

#[test]
fn an_unknown_field_is_named_with_the_one_that_was_meant() {
    let unknown = |from: &str, to: &str| {
        let Problem { line, field, what } = problem(from, to);
        format!("{line}: {field}: {what}")
    };
    assert_eq!(
        unknown("kubectlUsers", "kubectlUser"),
        "15: spec.kubectlUser: there is no such field; did you mean kubectlUsers?"
    );
    // Not said to be missing as well.
    assert_eq!(
        unknown("podSubnet", "pod_subnet"),
        "13: spec.networking.pod_subnet: there is no such field; did you mean podSubnet?"
    );
    assert_eq!(
        unknown("  kubectlUsers: [student]", "  runsPods: true"),
        "15: spec.runsPods: it does not belong here; it is a field of spec.controlPlane"
    );
    assert_eq!(
        unknown("  name: lab", "  name: lab\n  colour: red"),
        "5: metadata.colour: there is no such field; here may stand name"
    );
}

#[test]
fn a_missing_field_comes_with_an_example_of_it() {
    let found = problem("    podSubnet: 10.244.0.0/16\n", "");
    assert_eq!(
        (found.line, found.what.as_str()),
        (13, "it is missing; write for instance `podSubnet: 10.244.0.0/16`")
    );
    let empty = problem("name: lab", "name:");
    assert_eq!((empty.line, empty.field.as_str()), (4, "metadata.name"));
    let all = problems("");
    assert!(all[0].what.contains("nothing stands here"), "{all:?}");
}

#[test]
fn a_value_of_another_type_is_refused_with_what_belongs_there() {
    let what = |to: &str| problem("  kubectlUsers: [student]", to).what;
    assert_eq!(what("  kubectlUsers: student"), "\"student\" stands here; write a list such as [student]");
    assert_eq!(
        what("  controlPlane: {bindPort: abc}"),
        "\"abc\" stands here; write a number from 1 to 65535"
    );
    assert_eq!(
        what("  controlPlane: {bindPort: 70000}"),
        "\"70000\" stands here; write a number from 1 to 65535"
    );
    assert_eq!(
        what("  host: {disableFirewall: \"true\"}"),
        "\"true\" in quotes stands here; write true or false"
    );
    assert_eq!(what("  host: [cgroupfs]"), "a list stands here; write fields such as {}");
    assert_eq!(
        what("  kubectlUsers: [{name: student}]"),
        "a group of fields stands here; write a text such as student"
    );
}

#[test]
fn a_field_a_node_or_a_user_that_stands_twice_is_named_with_its_first_place() {
    let field = problem("  networking:", "  kubernetesVersion: v1.19.0\n  networking:");
    assert_eq!((field.line, field.field.as_str()), (12, "spec.kubernetesVersion"));
    assert!(field.what.contains("first in line 6"), "{field:?}");
    let node = problem("node-20251234", "master-20251234");
    assert!(node.line == 10 && node.what.contains("first in line 8"), "{node:?}");
    let user = problem("[student]", "[student, root, student]");
    assert_eq!(user.field, "spec.kubectlUsers[2]");
}

#[test]
fn names_that_are_not_enrolled_are_said_together_with_everything_else() {
    let wrong = GOOD
        .replace("node-20251234", "stranger")
        .replace("master-2025", "other-2025")
        .replace("v1.20.2", "v1");
    let found = problems(&wrong);
    assert_eq!(
        places(&found),
        [(6, "spec.kubernetesVersion"), (8, "spec.nodes[0].name"), (10, "spec.nodes[1].name")]
    );
    assert!(found[2].what.contains("`sudo coordinator token create --node stranger`"), "{found:?}");
}

#[test]
fn a_bad_name_comes_with_a_good_one() {
    assert!(problem("node-20251234", "Node_2025").what.ends_with("; write node-2025"));
}

#[test]
fn no_control_plane_and_two_are_both_wrong() {
    let none = problem("role: control-plane", "role: worker");
    assert!(none.line == 8 && none.what.contains("no node has the role control-plane"), "{none:?}");
    let two = problem("role: worker", "role: control-plane");
    assert!(two.line == 11 && two.what.contains("the first in line 9"), "{two:?}");
}

#[test]
fn a_cluster_of_one_must_let_its_control_plane_run_pods() {
    let alone = GOOD.replace("    - name: node-20251234\n      role: worker\n", "");
    assert!(problems(&alone)[0].what.contains("runsPods"));
    parse(&alone.replace("  networking:", "  controlPlane:\n    runsPods: true\n  networking:"));
}

#[test]
fn a_range_that_cannot_work_is_refused_with_one_that_can() {
    let pods = |range: &str| problem("10.244.0.0/16", range).what;
    assert_eq!(pods("10.244.0.1/16"), "10.244.0.1/16 begins in the middle of its range; write 10.244.0.0/16");
    assert!(pods("10.244.0.0").contains("is not an address range"));
    assert!(pods("10.244.0.0/25").contains("too small: every node takes a /24"));
    assert!(pods("10.244.0.0/24").contains("room for 1 of 2 nodes"));
    assert!(pods("64.0.0.0/5").contains("too large: Kubernetes takes at most a /8"));
    assert!(pods("127.16.0.0/16").contains("overlaps 127.0.0.0/8"));
    assert!(pods("fd00:10:244::/56").contains("of two kinds"));
    assert!(
        pods("10.96.128.0/17")
            .contains("overlaps the service subnet 10.96.0.0/12; write for instance 10.244.0.0/16")
    );
    assert!(pods("10.0.0.0/8").contains("overlaps the service subnet"));
    let services =
        |range: &str| problem("    manifest:", &format!("    serviceSubnet: {range}\n    manifest:")).what;
    assert!(services("10.96.0.0/29").contains("too small"));
    assert!(services("10.32.0.0/11").contains("too large"));
    assert!(services("10.97.0.0/12").ends_with("write 10.96.0.0/12"));
    let six = GOOD.replace("10.244.0.0/16", "fd00:10:244::/56\n    serviceSubnet: fd00:10:96::/112");
    assert!(parse(&six).pod_subnet.addr().is_ipv6());
}

#[test]
fn a_version_that_is_not_known_is_refused_with_those_that_are() {
    assert!(problem("v1.20.2", "v1.12.9").what.contains("from v1.13 to v1.37"));
    for unknown in ["v1.38.0", "v2.0.0"] {
        assert!(problem("v1.20.2", unknown).what.contains("does not know"), "{unknown}");
    }
    for known in ["v1.13.2", "1.23.17", "v1.24.17", "v1.36.3", "v1.37.2"] {
        parse(&GOOD.replace("v1.20.2", known));
    }
}

#[test]
fn the_runtime_and_its_cgroup_driver_follow_the_version_where_the_file_names_none() {
    use muster_proto::kubernetes::runtime::{CgroupDriver, RuntimeName};
    let of = |version: &str, lines: &str| {
        let named = format!("kubernetesVersion: {version}{lines}");
        let spec = parse(&GOOD.replace("kubernetesVersion: v1.20.2", &named));
        (spec.runtime(), spec.driver())
    };
    let systemd = Some(CgroupDriver::Systemd);
    assert_eq!(of("v1.20.2", ""), (RuntimeName::Docker, None));
    assert_eq!(of("v1.23.17", ""), (RuntimeName::Docker, systemd));
    assert_eq!(of("v1.36.3", ""), (RuntimeName::Containerd, systemd));
    let containerd = "\n  containerRuntime: {name: containerd}";
    assert_eq!(of("v1.20.2", containerd), (RuntimeName::Containerd, systemd));
    let docker = "\n  containerRuntime: {name: docker}";
    assert_eq!(of("v1.36.3", docker), (RuntimeName::Docker, systemd));
    let wrong = problem("v1.20.2", "v1.20.2\n  containerRuntime: {name: crio}");
    assert!(wrong.what.ends_with("write containerd or docker"), "{wrong:?}");
}

#[test]
fn cgroups_v1_are_allowed_only_by_the_word_for_it() {
    let allowed = |lines: &str| {
        parse(&GOOD.replace("kubernetesVersion: v1.20.2", &format!("kubernetesVersion: v1.36.3{lines}")))
            .allows_cgroup_v1
    };
    assert!(!allowed(""));
    assert!(!allowed("\n  host: {cgroupV1: refuse}"));
    assert!(allowed("\n  host: {cgroupV1: allow}"));
}

#[test]
fn a_manifest_that_is_missing_empty_or_of_another_range_is_named_at_its_line() {
    let missing = problem("pod-network.yaml", "other.yaml");
    assert!(missing.line == 14 && missing.what.contains("other.yaml cannot be found"), "{missing:?}");
    let with = |manifest: &str| {
        let mut files = files(GOOD);
        files.files.insert("pod-network.yaml".into(), manifest.into());
        ClusterSpec::parse(&files, &enrolled()).map_err(|problems| problems.list)
    };
    let flannel = |range: &str| {
        format!(
            "kind: ConfigMap\nmetadata: {{name: flannel}}\ndata: {{net-conf.json: '{{\"Network\": \"{range}\"}}'}}\n"
        )
    };
    assert!(with(" \n").unwrap_err()[0].what.contains("is empty"));
    assert!(with("a: b: c").unwrap_err()[0].what.contains("not YAML"));
    assert!(with("a: b").unwrap_err()[0].what.contains("not a manifest"));
    let other = with(&flannel("10.5.0.0/16")).unwrap_err();
    assert!(
        other[0].what.contains("ConfigMap flannel (flannel) says 10.5.0.0/16; write 10.244.0.0/16 there"),
        "{other:?}"
    );
    assert!(with(&flannel("10.244.0.0/16")).is_ok());
}

#[test]
fn what_is_not_yaml_or_not_one_document_is_refused_with_its_line() {
    for (wrong, line) in
        [(format!("{GOOD}  : [\n"), 16), (format!("{GOOD}---\na: b\n"), 17), ("a: b: c".to_owned(), 1)]
    {
        let found = problems(&wrong);
        assert_eq!((found.len(), found[0].line), (1, line), "{found:?}");
    }
}

#[test]
fn references_and_tags_are_refused_and_a_yaml_bomb_is_not_expanded() {
    let bomb = muster_proto::hostile::yaml_bomb();
    assert_eq!(problems(&bomb).len(), 26 + 4);
    let deep = problems(&format!("spec: {}", "[".repeat(100_000)));
    assert_eq!(deep.len(), 1, "{deep:?}");
    let reference = problem("  name: lab", "  name: *lab");
    assert!(reference.line == 4 && reference.what.contains("(*name) stands here"), "{reference:?}");
    let tag = problem("name: lab", "name: !!str lab");
    assert!(tag.what.contains("a tag (!name) stands here"), "{tag:?}");
}

#[test]
fn the_manifest_is_found_in_a_file_with_other_mistakes() {
    assert_eq!(referenced_files(&GOOD.replace("v1.20.2", "x").replace("kind", "knid")), ["pod-network.yaml"]);
    assert!(referenced_files("a: b: c").is_empty());
}

#[test]
fn the_readme_shows_problems_as_they_are_printed() {
    let wrong = GOOD
        .replace("node-20251234", "K8s_Node")
        .replace("10.244.0.0/16", "10.244.0.1/16")
        .replace("kubectlUsers", "kubectlUser");
    let printed = ClusterSpec::parse(&files(&wrong), &enrolled()).unwrap_err().to_string();
    let readme = include_str!("../../../../README.md");
    assert!(readme.contains(&format!("\nerror: {printed}\n")), "{printed}");
}
