//! What one node alone tells. Limits are those of kubeadm and the kubelet, so that nothing is refused that they would take.

use muster_proto::event::Complaint;
use muster_proto::kubernetes::files::KUBELET_FOLDER;
use muster_proto::kubernetes::network::CONFIGURATION_FOLDER;
use muster_proto::kubernetes::release::CgroupV1;
use muster_proto::kubernetes::runtime::numbers;
use muster_proto::kubernetes::suits::Suits;
use muster_proto::pod_network::configuration_files;

use super::{Check, Findings, Host, ports};
use crate::spec::ClusterSpec;

const MEBIBYTE: u64 = 1 << 20;
/// What a control plane needs, MiB, also where kubeadm has no limit yet.
const CONTROL_PLANE_MEMORY: u64 = 1700;

pub(super) fn look(findings: &mut Findings, host: &Host, spec: &ClusterSpec) {
    machine(findings, host, spec);
    disks(findings, host, spec);
    system(findings, host, spec);
    runtime(findings, host, spec);
    ports::look(findings, host, spec);
    let taken_instead = networks(findings, host, spec);
    leftovers(findings, host, &taken_instead);
    as_found(findings, host, spec);
}

fn machine(findings: &mut Findings, host: &Host, spec: &ClusterSpec) {
    let (name, report) = (&host.name, &host.report);
    if host.control_plane && report.processors < 2 {
        let complaint = Complaint::new(
            format!("{name} has {} processor; kubeadm init wants 2", report.processors),
            "",
            "give the machine 2 processors and start it again",
        );
        findings.complain(host, Check::Processors, complaint);
    } else if report.processors < 2 {
        let cause = format!("{name} has only {} processor", report.processors);
        findings.note(host, Check::Processors, cause, "kubeadm wants 2 of a control plane alone");
    }
    let mebibytes = report.memory_bytes / MEBIBYTE;
    let least = spec.release.least_memory.map(u64::from);
    if host.control_plane && mebibytes < least.unwrap_or(CONTROL_PLANE_MEMORY) {
        let cause = format!("{name} has {mebibytes} MiB of memory; a control plane wants 1700");
        if least.is_some() {
            let remedy = "give the machine 2 GiB of memory and start it again";
            findings.complain(host, Check::Memory, Complaint::new(cause, "", remedy));
        } else {
            findings.note(host, Check::Memory, cause, "");
        }
    } else if report.memory_bytes < 700 * MEBIBYTE {
        findings.note(host, Check::Memory, format!("{name} has only {mebibytes} MiB of memory"), "");
    }
}

/// The kubelet evicts pods when the runtime's file system has less than 15 % left, or its own less than 10 %
/// (kubelet, default evictionHard: imagefs.available<15%, nodefs.available<10%).
fn disks(findings: &mut Findings, host: &Host, spec: &ClusterSpec) {
    let mut short: Vec<(String, u64)> = Vec::new();
    let root = host.runtime(spec.runtime()).map(|own| own.root.as_str());
    for disk in &host.report.disks {
        let limit = match disk.path.as_str() {
            KUBELET_FOLDER => 10,
            path if Some(path) == root => 15,
            // Of a runtime that will run no pods.
            _ => continue,
        };
        let percent = disk.available_bytes.saturating_mul(100) / disk.total_bytes.max(1);
        if disk.total_bytes > 0 && percent < limit {
            let free = disk.available_bytes / MEBIBYTE;
            short.push((
                format!("{}: {free} MiB free, {percent} %; the limit is {limit} %", disk.path),
                percent,
            ));
        }
    }
    if !short.is_empty() {
        let evidence: Vec<String> = short.into_iter().map(|(line, _)| line).collect();
        let complaint = Complaint::new(
            format!("{} has so little disk left that the kubelet would evict every pod", host.name),
            evidence.join("\n"),
            format!(
                "free space there (`sudo {}` shows what {} holds) or enlarge the disk",
                spec.runtime().row().usage,
                spec.runtime()
            ),
        );
        findings.complain(host, Check::Disk, complaint);
    }
}

fn system(findings: &mut Findings, host: &Host, spec: &ClusterSpec) {
    let (name, report) = (&host.name, &host.report);
    match report.systemd_version {
        0 => {
            let complaint = Complaint::new(
                format!("{name} does not run systemd"),
                report.operating_system.clone(),
                "use a system with systemd, such as Debian or Ubuntu: the kubelet and kubeadm are started by it",
            );
            findings.complain(host, Check::System, complaint);
        }
        1..230 => findings.note(
            host,
            Check::System,
            format!("{name} runs systemd {}; Muster was tried with 247 and later", report.systemd_version),
            "",
        ),
        _ => {}
    }
    if !["debian", "ubuntu"].iter().any(|known| report.operating_system.to_lowercase().contains(known)) {
        let cause = format!("{name} runs {}; Muster was tried on Debian", report.operating_system);
        findings.note(host, Check::System, cause, "");
    }
    let version = spec.kubernetes_version;
    let row = spec.runtime().row();
    let own = host.runtime(spec.runtime()).map(|own| own.version.as_str()).unwrap_or_default();
    let too_old = numbers(own).is_some_and(|(major, minor, _)| (major, minor) < row.least_for_cgroup_v2);
    let wrong = match report.cgroup_version {
        2 if !spec.release.knows_cgroup_v2 => Some((
            format!("{name} has cgroups v2, which Kubernetes {version} does not know"),
            "boot it with `systemd.unified_cgroup_hierarchy=0` on the kernel's command line, or take Kubernetes 1.19 or later",
        )),
        2 if too_old => Some((
            format!("{name} has cgroups v2, which {} {own} does not know", row.name),
            "install a newer one (`apt-get install --only-upgrade`), or boot with `systemd.unified_cgroup_hierarchy=0`",
        )),
        1 if spec.release.cgroup_v1 == CgroupV1::Refused && !spec.allows_cgroup_v1 => Some((
            format!("{name} has cgroups v1, which the kubelet of {version} refuses by itself"),
            "boot it with `systemd.unified_cgroup_hierarchy=1` on the kernel's command line; or, where that cannot be, write \
             `cgroupV1: allow` under spec.host of the file (Kubernetes calls it unsupported)",
        )),
        _ => None,
    };
    if let Some((cause, remedy)) = wrong {
        let evidence = match report.cgroup_version {
            2 => "/sys/fs/cgroup/cgroup.controllers is there",
            _ => "there is no /sys/fs/cgroup/cgroup.controllers",
        };
        findings.complain(host, Check::Cgroups, Complaint::new(cause, evidence, remedy));
    }
}

/// One that does not answer is another check's business, and a member of a cluster has shown that its own works.
fn runtime(findings: &mut Findings, host: &Host, spec: &ClusterSpec) {
    let (name, kubernetes) = (&host.name, spec.kubernetes_version);
    let answering = host.runtime(spec.runtime()).filter(|own| !own.version.is_empty());
    let Some(own) = answering else { return };
    if !host.report.cluster.is_empty() {
        return;
    }
    let who = format!("{} {} of {name}", spec.runtime(), own.version);
    let place = &spec.places.kubernetes_version;
    let file = format!("line {} of the file: {}: {kubernetes}", place.line, place.field);
    match spec.runtime().suits(&own.version, spec.release) {
        Suits::Well => {}
        Suits::Untried { sentence, evidence } => {
            findings.note(host, Check::Runtime, format!("{who} {sentence}"), format!("{file}\n{evidence}"));
        }
        Suits::Not { sentence, evidence, remedy } => {
            let remedy = format!("on {name}: {remedy}");
            let complaint =
                Complaint::new(format!("{who} {sentence}"), format!("{file}\n{evidence}"), remedy);
            findings.complain(host, Check::Runtime, complaint);
        }
    }
}

/// The files of another network that the kubelet would take instead of the pod network's: it takes the first by name. Where
/// nobody knows how the pod network calls its own, any file is in doubt.
fn networks(findings: &mut Findings, host: &Host, spec: &ClusterSpec) -> Vec<String> {
    let own = configuration_files(&spec.network_manifest);
    let before = |name: &&String| !own.contains(*name) && own.last().is_none_or(|own| *name < own);
    let path = |name: &String| format!("{CONFIGURATION_FOLDER}/{name}");
    let foreign: Vec<String> = host.report.foreign_networks.iter().filter(before).map(path).collect();
    if foreign.is_empty() {
        return foreign;
    }
    let files = foreign.join(", ");
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let evidence = match own.as_slice() {
        [] => "the kubelet takes the first file there by name, and the manifest does not tell what the pod network's is called".to_owned(),
        own => format!("the kubelet takes the first file there by name; the pod network's own is {}", own.join(" or ")),
    };
    let complaint = Complaint::new(
        format!("{files} of {} would be taken instead of the pod network's configuration", host.name),
        evidence,
        format!("on {}: `sudo mv {} /root/`; then the same command again", host.name, foreign.join(" ")),
    );
    findings.complain(host, Check::Leftovers, complaint);
    foreign
}

/// Foreign: the kubelet belongs to another API server. Half: files of a cluster that Muster did not begin here. What
/// Muster itself began is for the steps, which repeat or refuse it.
fn leftovers(findings: &mut Findings, host: &Host, told: &[String]) {
    let (name, report) = (&host.name, &host.report);
    let remedy = format!(
        "on {name} run `sudo kubeadm reset -f`, remove what is named above and reboot; then the same command again"
    );
    if !report.cluster.is_empty() {
        let complaint = Complaint::new(
            format!("{name} is already a member of another cluster"),
            format!("its kubelet.conf names {}", report.cluster),
            format!("take it out of that cluster first: {remedy}"),
        );
        findings.complain(host, Check::Leftovers, complaint);
    } else if !report.begun_here && !report.leftovers.is_empty() {
        let evidence = report.leftovers.join("\n");
        let only_configuration = report.leftovers.iter().all(|what| what.starts_with(CONFIGURATION_FOLDER));
        if report.leftovers.iter().all(|what| told.contains(what)) {
            return;
        }
        if only_configuration {
            let cause = format!(
                "{name} has a pod network's configuration already; the kubelet takes the first by name"
            );
            findings.note(host, Check::Leftovers, cause, evidence);
        } else {
            let cause = format!("on {name} is what is left of an earlier cluster, which Muster did not make");
            findings.complain(host, Check::Leftovers, Complaint::new(cause, evidence, remedy));
        }
    }
}

/// What Muster will change by itself.
fn as_found(findings: &mut Findings, host: &Host, spec: &ClusterSpec) {
    let (name, report) = (&host.name, &host.report);
    if !report.swaps.is_empty() {
        let cause = format!("swap is on at {name}; bootstrap turns it off, also after a reboot");
        findings.note(host, Check::Swap, cause, report.swaps.join("\n"));
    }
    if report.ufw_enabled {
        let what = match spec.disable_firewall {
            true => "bootstrap turns it off (spec.host.disableFirewall)",
            false => {
                "it stays on: Kubernetes needs its ports let through (or spec.host.disableFirewall: true)"
            }
        };
        findings.note(host, Check::Firewall, format!("ufw is on at {name}; {what}"), "");
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::Disk;

    use super::super::tests::{host, spec};
    use super::*;

    fn causes(change: impl FnOnce(&mut Host)) -> Vec<(Check, String)> {
        of("v1.20.2", "m1", change)
    }
    fn of(version: &str, name: &str, change: impl FnOnce(&mut Host)) -> Vec<(Check, String)> {
        let mut host = host(name, 11);
        change(&mut host);
        let mut findings = Findings::default();
        look(&mut findings, &host, &spec(version, true));
        findings.complaints.into_iter().map(|found| (found.check, found.complaint.cause)).collect()
    }

    #[test]
    fn a_good_host_gives_no_complaint() {
        assert!(causes(|_| {}).is_empty());
    }

    #[test]
    fn a_control_plane_wants_two_processors_and_1700_mib_and_a_worker_does_not() {
        let small = |host: &mut Host| {
            host.report.processors = 1;
            host.report.memory_bytes = 1699 * MEBIBYTE;
        };
        let checks: Vec<Check> = causes(small).into_iter().map(|(check, _)| check).collect();
        assert_eq!(checks, [Check::Processors, Check::Memory]);
        assert!(of("v1.20.2", "w1", small).is_empty());
        let mut worker = host("w1", 12);
        worker.report.processors = 1;
        let mut findings = Findings::default();
        machine(&mut findings, &worker, &spec("v1.20.2", true));
        let notes: Vec<&str> = findings.notes.iter().map(|note| note.complaint.cause.as_str()).collect();
        assert_eq!(notes, ["w1 has only 1 processor"]);
        assert_eq!(of("v1.13.2", "m1", small).len(), 1, "kubeadm 1.13 has no limit for memory");
    }

    #[test]
    fn a_disk_below_the_kubelets_own_limits_is_a_complaint() {
        let disk =
            |path: &str, available_bytes| Disk { path: path.into(), total_bytes: 1000, available_bytes };
        let with = |kubelet, docker| {
            causes(|host| {
                host.report.disks = vec![disk("/var/lib/kubelet", kubelet), disk("/var/lib/docker", docker)]
            })
            .len()
        };
        assert_eq!([with(100, 150), with(99, 150), with(100, 149)], [0, 1, 1]);
        let unused = causes(|host| host.report.disks = vec![disk("/var/lib/containerd", 1)]);
        assert!(unused.is_empty(), "no image will lie there: {unused:?}");
    }

    #[test]
    fn the_cgroup_mode_must_suit_the_version_of_kubernetes_and_of_docker() {
        let wrong = |version: &str, mode, docker: &str| {
            of(version, "m1", |host| {
                host.report.cgroup_version = mode;
                host.report.runtimes[0].version = docker.into();
            })
            .len()
        };
        assert_eq!(wrong("v1.18.20", 2, "20.10.24"), 1);
        assert_eq!(wrong("v1.20.2", 2, "19.3.8"), 1);
        assert_eq!(wrong("v1.20.2", 2, "20.10.24"), 0);
        assert_eq!(wrong("v1.18.20", 1, "19.3.8"), 0);
        assert_eq!((wrong("v1.34.4", 1, ""), wrong("v1.36.3", 1, ""), wrong("v1.36.3", 2, "")), (0, 1, 0));
    }

    #[test]
    fn a_runtime_that_does_not_suit_is_told_with_the_line_of_the_file_and_a_members_is_left_alone() {
        let found = |version: &str, docker: &str, cluster: &str| {
            let mut host = host("m1", 11);
            host.report.runtimes[0].version = docker.into();
            host.report.cluster = cluster.into();
            let mut findings = Findings::default();
            runtime(&mut findings, &host, &spec(version, true));
            let line = format!("line 5 of the file: spec.kubernetesVersion: {version}\n");
            for found in findings.complaints.iter().chain(&findings.notes) {
                assert!(found.complaint.evidence.starts_with(&line), "{}", found.complaint);
                assert!(
                    found.complaint.cause.starts_with(&format!("Docker {docker} of m1 ")),
                    "{}",
                    found.complaint
                );
            }
            (findings.complaints.len(), findings.notes.len())
        };
        assert_eq!(found("v1.20.2", "20.10.24", ""), (0, 1));
        assert_eq!(found("v1.20.2", "1.10.3", ""), (1, 0));
        assert_eq!(found("v1.20.2", "", ""), (0, 0));
        assert_eq!(found("v1.20.2", "20.10.24", "https://10.88.0.11:6443"), (0, 0));
    }

    #[test]
    fn a_foreign_member_a_half_left_cluster_and_our_own_beginning_are_told_apart() {
        let foreign = causes(|host| host.report.cluster = "https://10.0.0.9:6443".into());
        assert!(foreign[0].1.contains("already a member of another cluster"), "{foreign:?}");
        let left = |begun_here| {
            causes(|host| {
                host.report.leftovers = vec!["/etc/kubernetes/pki/ca.crt".into()];
                host.report.begun_here = begun_here;
            })
        };
        assert!(left(false)[0].1.contains("left of an earlier cluster"));
        assert!(left(true).is_empty());
        assert!(
            causes(|host| host.report.leftovers = vec!["/etc/cni/net.d/10-x.conflist".into()]).is_empty()
        );
    }

    #[test]
    fn a_configuration_that_sorts_before_the_pod_networks_is_a_complaint_and_a_later_one_a_note() {
        let found = |manifest: &str, files: &[&str]| {
            let mut host = host("m1", 11);
            host.report.foreign_networks = files.iter().map(|&file| file.to_owned()).collect();
            host.report.leftovers = files.iter().map(|file| format!("/etc/cni/net.d/{file}")).collect();
            let spec = ClusterSpec { network_manifest: manifest.into(), ..spec("v1.20.2", true) };
            let mut findings = Findings::default();
            look(&mut findings, &host, &spec);
            let causes = |all: Vec<super::super::Found>| {
                let of_files = all.into_iter().filter(|found| found.check == Check::Leftovers);
                of_files.map(|found| found.complaint.cause).collect::<Vec<_>>()
            };
            (causes(findings.complaints), causes(findings.notes))
        };
        let flannel = "/etc/cni/net.d/10-flannel.conflist";
        let taken = "/etc/cni/net.d/10-containerd-net.conflist of m1 would be taken instead of the pod network's configuration";
        assert_eq!(found(flannel, &["10-containerd-net.conflist"]), (vec![taken.to_owned()], vec![]));
        for later in ["87-podman-bridge.conflist", "100-crio-bridge.conf", "10-flannel.conflist"] {
            let (complaints, notes) = found(flannel, &[later]);
            assert!(
                complaints.is_empty() && notes[0].contains("takes the first by name"),
                "{later}: {complaints:?}"
            );
        }
        let (complaints, _) = found("kind: Unknown", &["87-podman-bridge.conflist"]);
        assert!(complaints[0].starts_with("/etc/cni/net.d/87-podman-bridge.conflist of m1"), "in doubt");
    }

    #[test]
    fn a_host_without_systemd_is_told_so() {
        assert_eq!(causes(|host| host.report.systemd_version = 0)[0].0, Check::System);
    }
}
