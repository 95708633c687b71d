//! The ports that this node's components will take, who has them now, and what frees them.

use muster_proto::agent::PortHolder;
use muster_proto::event::{Complaint, reset_command};
use muster_proto::kubernetes::release::NODE_PORTS;
use muster_proto::kubernetes::runtime::RuntimeName;

use super::{Check, Findings, Host};
use crate::spec::ClusterSpec;

/// The kubelet's unit: what kubeadm begins and ends.
const KUBELET: &str = "kubelet.service";

pub(super) fn look(findings: &mut Findings, host: &Host, spec: &ClusterSpec) {
    let mut needed = NODE_PORTS.to_vec();
    if host.control_plane {
        needed.push(spec.bind_port);
        needed.extend(spec.release.control_plane_ports);
    }
    needed.retain(|port| host.report.tcp_ports.contains(&u32::from(*port)));
    needed.sort_unstable();
    needed.dedup();
    let words: Vec<String> = needed.iter().map(ToString::to_string).collect();
    if words.is_empty() {
        return;
    }
    let many = if words.len() == 1 { "port" } else { "ports" };
    let holders: Vec<Holder<'_>> = needed.iter().map(|port| Holder::of(host, *port)).collect();
    let of_cluster = holders.iter().all(|holder| matches!(holder, Holder::Cluster(_)));
    let who = if of_cluster { "what is left of an earlier cluster" } else { "another program" };
    let lines = |line: &dyn Fn(&Holder<'_>) -> String| {
        let mut lines: Vec<String> = holders.iter().map(line).collect();
        lines.sort_unstable();
        lines.dedup();
        lines.join("\n")
    };
    let evidence: Vec<String> =
        needed.iter().zip(&holders).map(|(port, holder)| holder.shown(*port, host.name.as_str())).collect();
    let complaint = Complaint::new(
        format!("{who} listens on TCP {many} {} of {}", words.join(", "), host.name),
        evidence.join("\n"),
        lines(&|holder| holder.remedy(host)),
    );
    findings.complain(host, Check::Ports, complaint);
}

/// Who listens on a port.
enum Holder<'a> {
    /// A container of a pod, or the kubelet.
    Cluster(&'a PortHolder),
    /// A runtime that publishes the port for one of its own containers.
    Runtime(RuntimeName, &'a PortHolder),
    Unit(&'a PortHolder),
    Program(&'a PortHolder),
    Unknown,
}

impl<'a> Holder<'a> {
    fn of(host: &'a Host, port: u16) -> Self {
        let holder = host.report.port_holders.iter().find(|holder| holder.port == u32::from(port));
        let Some(holder) = holder else { return Self::Unknown };
        let runtime = RuntimeName::ALL.into_iter().find(|runtime| runtime.row().unit == holder.unit);
        match (runtime, holder) {
            (_, holder) if !holder.container.is_empty() || holder.unit == KUBELET => Self::Cluster(holder),
            (Some(runtime), holder) => Self::Runtime(runtime, holder),
            (None, holder) if holder.unit.is_empty() => Self::Program(holder),
            (None, holder) => Self::Unit(holder),
        }
    }

    fn shown(&self, port: u16, node: &str) -> String {
        let holder = match self {
            Self::Cluster(holder) | Self::Runtime(_, holder) | Self::Unit(holder) | Self::Program(holder) => {
                holder
            }
            Self::Unknown => return format!("{port}: `sudo ss -ltnp 'sport = :{port}'` on {node} names it"),
        };
        let place = match (holder.container.as_str(), holder.unit.as_str()) {
            ("", "") => String::new(),
            ("", unit) => format!(" of {unit}"),
            (container, _) => format!(" in the container {container}"),
        };
        format!("{port}: {} (process {}){place}", holder.process, holder.pid)
    }

    fn remedy(&self, host: &Host) -> String {
        let node = &host.name;
        match self {
            Self::Cluster(_) if host.report.begun_here => {
                format!(
                    "on the master `{}` ends what is left of the cluster on {node}",
                    reset_command(node.as_str())
                )
            }
            Self::Cluster(_) => format!(
                "`sudo kubeadm reset -f` on {node} ends what is left of an earlier cluster; where it warns `Failed to remove \
                 containers`, `sudo dmesg | grep -i 'apparmor.*denied'` tells whether AppArmor keeps them from being ended \
                 (then `sudo aa-remove-unknown`); otherwise start {node} anew; and then `sudo kubeadm reset -f` again"
            ),
            Self::Runtime(runtime, _) => format!(
                "a container of {runtime} publishes that port: `sudo {}` on {node} shows which; stop that one",
                runtime.row().list
            ),
            Self::Unit(holder) => format!("`sudo systemctl disable --now {}` on {node}", holder.unit),
            Self::Program(holder) => format!(
                "end {} on {node} (`sudo kill {}`), and keep what starts it from starting it again",
                holder.process, holder.pid
            ),
            Self::Unknown => "stop that program and keep it from starting again".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{host, spec};
    use super::*;

    fn found(name: &str, change: impl FnOnce(&mut Host)) -> Vec<Complaint> {
        let mut host = host(name, 11);
        change(&mut host);
        let mut findings = Findings::default();
        look(&mut findings, &host, &spec("v1.20.2", true));
        findings.complaints.into_iter().map(|found| found.complaint).collect()
    }
    fn holder(port: u32, container: &str, unit: &str) -> PortHolder {
        let (container, unit) = (container.to_owned(), unit.to_owned());
        PortHolder { port, process: "program".into(), pid: 7, container, unit }
    }

    #[test]
    fn a_taken_port_is_told_where_a_component_of_this_node_needs_it() {
        let taken = found("m1", |host| host.report.tcp_ports = vec![22, 6443, 10250]);
        assert_eq!(taken[0].cause, "another program listens on TCP ports 6443, 10250 of m1");
        assert!(taken[0].evidence.contains("`sudo ss -ltnp 'sport = :6443'` on m1 names it"), "{}", taken[0]);
        assert!(found("w1", |host| host.report.tcp_ports = vec![6443]).is_empty());
    }

    #[test]
    fn who_has_a_port_is_named_with_what_frees_it() {
        for (holder, begun_here, cause, evidence, remedy) in [
            (
                holder(6443, "k8s_kube-apiserver_x", ""),
                false,
                "what is left of an earlier cluster listens on TCP port 6443 of m1",
                "6443: program (process 7) in the container k8s_kube-apiserver_x",
                "`sudo kubeadm reset -f` on m1",
            ),
            (holder(6443, "k8s_x", ""), true, "what is left", "k8s_x", "`sudo coordinator reset --node m1"),
            (holder(6443, "", "kubelet.service"), false, "what is left", "of kubelet", "kubeadm reset -f"),
            (
                holder(6443, "", "haproxy.service"),
                true,
                "another program listens on TCP port 6443 of m1",
                "6443: program (process 7) of haproxy.service",
                "`sudo systemctl disable --now haproxy.service` on m1",
            ),
            (
                holder(6443, "", "docker.service"),
                true,
                "another program",
                "docker",
                "`sudo docker ps -a` on m1",
            ),
            (holder(6443, "", ""), false, "another program", "(process 7)", "`sudo kill 7`"),
        ] {
            let complaints = found("m1", |host| {
                host.report.tcp_ports = vec![6443];
                host.report.port_holders = vec![holder];
                host.report.begun_here = begun_here;
            });
            let complaint = &complaints[0];
            assert!(complaint.cause.starts_with(cause), "{complaint}");
            assert!(complaint.evidence.contains(evidence), "{complaint}");
            assert!(complaint.remedy.contains(remedy), "{complaint}");
        }
    }

    #[test]
    fn one_remedy_stands_once_for_all_ports_that_it_frees() {
        let complaints = found("m1", |host| {
            host.report.tcp_ports = vec![2379, 2380, 10257];
            host.report.port_holders = vec![holder(2379, "k8s_etcd", ""), holder(2380, "k8s_etcd", "")];
        });
        assert_eq!(complaints[0].remedy.lines().count(), 2, "{}", complaints[0]);
        assert!(complaints[0].cause.starts_with("another program"), "not all of it is a cluster's");
    }
}
