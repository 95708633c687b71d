use super::*;

fn of(text: &str) -> &'static Release {
    Release::of(text.parse().unwrap()).unwrap_or_else(|| panic!("no row for {text}"))
}

#[test]
fn every_minor_version_from_the_first_to_the_last_has_one_row() {
    let minors: Vec<u16> = RELEASES.iter().map(|release| release.minor).collect();
    assert_eq!(minors, (13..=37).collect::<Vec<_>>());
    assert_eq!(Release::known(), ("v1.13".to_owned(), "v1.37".to_owned()));
    for unknown in ["v1.12.10", "v1.38.0", "v0.20.2", "v2.20.2"] {
        assert_eq!(Release::of(unknown.parse().unwrap()), None, "{unknown}");
    }
}

/// A change of each question between two neighbours, as the sources name it.
#[test]
fn what_changed_changed_in_the_version_that_the_sources_name() {
    fn first(changed: impl Fn(&Release) -> bool) -> u16 {
        let since: Vec<&Release> = RELEASES.iter().skip_while(|release| !changed(release)).collect();
        assert!(since.iter().all(|release| changed(release)), "it went back");
        since[0].minor
    }
    let facts: [(u16, u16, &str); 23] = [
        (first(|row| row.config_api >= ConfigApi::V1beta2), 15, "v1beta2"),
        (first(|row| row.config_api >= ConfigApi::V1beta3), 22, "v1beta3"),
        (first(|row| row.config_api >= ConfigApi::V1beta4), 31, "v1beta4"),
        (first(|row| !row.calls_crictl), 31, "no crictl"),
        (first(|row| row.validates), 28, "config validate"),
        (first(|row| row.least_memory.is_some()), 20, "1700 MB"),
        (first(|row| !row.refuses_swap), 23, "swap only warned of"),
        (first(|row| !row.drives_docker), 24, "no dockershim"),
        (first(|row| row.takes_systemd_driver), 22, "systemd driver"),
        (first(|row| row.knows_cgroup_v2), 19, "cgroups v2"),
        (first(|row| row.cgroup_v1 != CgroupV1::Runs), 31, "cgroups v1 warned of"),
        (first(|row| row.cgroup_v1 == CgroupV1::Refused), 35, "cgroups v1 refused"),
        (first(|row| !row.control_plane_ports.contains(&10251)), 19, "no insecure ports"),
        (first(|row| row.taints.contains(&TAINTS[1])), 24, "the new taint"),
        (first(|row| !row.taints.contains(&TAINTS[0])), 25, "not the old taint"),
        (first(|row| row.labels.contains(&TAINTS[1])), 20, "the new label"),
        (first(|row| !row.labels.contains(&TAINTS[0])), 24, "not the old label"),
        (first(|row| row.registry == "registry.k8s.io"), 25, "the new registry"),
        (first(|row| row.coredns == "coredns/coredns"), 21, "CoreDNS in a folder"),
        (first(|row| !row.numbers_kubelet_config), 24, "kubelet-config"),
        (first(|row| row.super_admin), 29, "super-admin.conf"),
        (first(|row| row.instance_config), 34, "instance-config.yaml"),
        (first(|row| !row.runs_on_containerd((1, 5))), 26, "CRI v1 alone"),
    ];
    for (found, expected, what) in facts {
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn the_runtime_by_default_is_the_one_that_the_kubelet_drives() {
    assert_eq!(of("v1.23.17").default_runtime(), RuntimeName::Docker);
    assert_eq!(of("v1.24.0").default_runtime(), RuntimeName::Containerd);
    assert!(of("v1.24.0").adapter(RuntimeName::Docker).is_some());
    assert!(of("v1.23.0").adapter(RuntimeName::Docker).is_none());
    assert!(of("v1.24.0").adapter(RuntimeName::Containerd).is_none());
}

#[test]
fn a_socket_has_a_scheme_where_kubeadm_wants_one() {
    for release in &RELEASES {
        for runtime in RuntimeName::ALL {
            let socket = release.cri_socket(runtime);
            assert_eq!(socket.starts_with("unix:///"), release.minor >= 24, "1.{} {runtime}", release.minor);
        }
    }
}

#[test]
fn kubeadm_deploys_its_own_version_and_the_one_before() {
    let deploys = |cluster: &str| of("v1.36.3").deploys(cluster.parse().unwrap());
    assert!(deploys("v1.36.0") && deploys("v1.35.9"));
    assert!(!deploys("v1.37.0") && !deploys("v1.34.0") && !deploys("v2.36.0"));
}

#[test]
fn the_sandbox_image_is_the_one_that_kubeadm_lists() {
    assert_eq!(of("v1.20.2").sandbox_image(None), "k8s.gcr.io/pause:3.2");
    assert_eq!(of("v1.36.3").sandbox_image(None), "registry.k8s.io/pause:3.10.2");
    assert_eq!(of("v1.36.3").sandbox_image(Some("mirror:5000/k8s")), "mirror:5000/k8s/pause:3.10.2");
}

#[test]
fn an_old_kubelet_cannot_speak_to_a_containerd_that_speaks_cri_v1_alone() {
    assert!(!of("v1.22.0").runs_on_containerd((2, 0)) && of("v1.22.0").runs_on_containerd((1, 7)));
    assert!(of("v1.24.17").runs_on_containerd((2, 4)));
    assert!(!of("v1.26.0").runs_on_containerd((1, 5)));
}

#[test]
fn a_flag_that_is_gone_stays_gone() {
    for pair in RELEASES.windows(2) {
        let (before, after) = (pair[0].gone_kubelet_flags, pair[1].gone_kubelet_flags);
        assert!(after.starts_with(before), "1.{}", pair[1].minor);
    }
    assert_eq!(of("v1.35.0").gone_kubelet_flags.last(), Some(&"--pod-infra-container-image"));
}
