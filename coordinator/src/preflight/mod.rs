//! Everything that would stop a bootstrap, looked for on all nodes and between all of them before anything is changed, and
//! told at once. A node that is a member of this very cluster, or whose kubeadm is under way, is left alone: there the
//! steps themselves decide, and the same bootstrap goes on.

mod between;
mod check;
mod host;
mod judgement;
mod mesh;
mod ports;
mod surroundings;

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::future::join_all;
use jiff::Timestamp;
use muster_proto::agent::{HostReport, InspectRequest, RuntimeReport};
use muster_proto::coordinator::{Failure, PreflightReply};
use muster_proto::event::Complaint;
use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::names::{ApiEndpoint, NodeName};
use muster_proto::step_kind::StepKind;

pub use check::Check;

use crate::doors::fleet::{ConnectedAgent, Fleet};
use crate::plans::{Plan, PlannedStep};
use crate::preview::{Preview, preview};
use crate::spec::ClusterSpec;

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub node: NodeName,
    pub check: Check,
    /// Shown in the place of the check's name where a step found it.
    pub step: Option<String>,
    pub complaint: Complaint,
}

/// All that was found; notes do not stop a bootstrap.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub complaints: Vec<Found>,
    pub notes: Vec<Found>,
}

/// A node as the checks see it.
#[derive(Debug, Clone)]
pub struct Host {
    pub name: NodeName,
    /// Its agent's own end of the connection; the only one of its addresses that is used.
    pub address: IpAddr,
    pub control_plane: bool,
    pub report: HostReport,
    /// Its clock minus the coordinator's.
    pub clock_ahead_ms: i64,
    /// A member of this very cluster, or on the way to become one.
    pub settled: bool,
}

impl Host {
    /// What this node says of a runtime; none where it is not installed.
    fn runtime(&self, name: RuntimeName) -> Option<&RuntimeReport> {
        self.report.runtimes.iter().find(|own| own.name == name.word())
    }
}

impl Findings {
    fn complain(&mut self, host: &Host, check: Check, complaint: Complaint) {
        self.complaints.push(Found { node: host.name.clone(), check, step: None, complaint });
    }

    fn note(&mut self, host: &Host, check: Check, cause: impl Into<String>, evidence: impl Into<String>) {
        let complaint = Complaint::new(cause, evidence, "");
        self.notes.push(Found { node: host.name.clone(), check, step: None, complaint });
    }

    /// What these checks complain of becomes a note.
    fn ignoring(mut self, ignored: &BTreeSet<Check>) -> Self {
        let (ignored, kept) = self.complaints.into_iter().partition(|found| ignored.contains(&found.check));
        self.complaints = kept;
        self.notes.extend::<Vec<Found>>(ignored);
        self
    }

    /// Every complaint that a person can turn into a note names the word for it. A step that is blocked would stop the run all the same.
    fn naming_checks(mut self) -> Self {
        let unnamed = |found: &&mut Found| {
            found.check != Check::Steps && !found.complaint.remedy.contains("--ignore-check")
        };
        for found in self.complaints.iter_mut().filter(unnamed) {
            let remedy = &mut found.complaint.remedy;
            remedy.push_str(&format!("\nor begin all the same: --ignore-check {}", found.check.word()));
        }
        self
    }

    /// The commands in them with the cluster's name: the agents do not know it.
    fn in_cluster(mut self, cluster: &NodeName) -> Self {
        for found in self.complaints.iter_mut().chain(&mut self.notes) {
            found.complaint = found.complaint.in_cluster(cluster.as_str());
        }
        self
    }
}

impl From<Findings> for PreflightReply {
    fn from(findings: Findings) -> Self {
        let failure = |found: Found| Failure {
            node: found.node.into(),
            step: found.step.unwrap_or_else(|| found.check.word().to_owned()),
            cause: found.complaint.cause,
            evidence: found.complaint.evidence,
            remedy: found.complaint.remedy,
            attempt: 0,
            blocked: true,
        };
        Self {
            complaints: findings.complaints.into_iter().map(failure).collect(),
            notes: findings.notes.into_iter().map(failure).collect(),
            problems: None,
        }
    }
}

/// Looks at every node of the plan and between them. The agents are connected: the plan was made from their facts.
pub async fn preflight(
    fleet: &Fleet,
    spec: &ClusterSpec,
    plan: &Plan,
    ignored: &BTreeSet<Check>,
) -> Findings {
    let mut findings = Findings::default();
    let agents: Vec<ConnectedAgent> =
        fleet.connected().into_iter().filter(|agent| spec.nodes().any(|node| *node == agent.node)).collect();
    let inspected = join_all(agents.iter().map(|agent| inspect(agent, spec))).await;
    let mut hosts = Vec::new();
    for (agent, inspected) in agents.iter().zip(inspected) {
        match inspected {
            Ok(host) => hosts.push(host),
            Err(said) => findings.complaints.push(Found {
                node: agent.node.clone(),
                check: Check::System,
                step: None,
                complaint: Complaint::new(
                    format!("the agent of {} could not look at its host", agent.node),
                    said,
                    format!(
                        "on {}: `systemctl status muster-agent`, then run the same command again",
                        agent.node
                    ),
                ),
            }),
        }
    }
    // From the plan: also a master that cannot be looked at is the master of those that it made members.
    let endpoint = plan.cluster.endpoint.as_ref();
    for host in &mut hosts {
        let member = endpoint.is_some_and(|endpoint| leads_to(&host.report.cluster, endpoint));
        host.settled = member || !host.report.under_way.is_empty();
    }
    if hosts.iter().all(|host| host.settled) {
        return findings.ignoring(ignored).naming_checks().in_cluster(&spec.name);
    }
    let unsettled = |step: &&PlannedStep| !hosts.iter().any(|host| host.settled && host.name == step.node);
    let steps: Vec<PlannedStep> = plan.steps.iter().filter(unsettled).cloned().collect();
    let doors = mesh::doors(spec);
    let (previews, tries) =
        tokio::join!(preview(fleet, &steps), mesh::try_doors(&hosts, &agents, &doors, spec.bind_port));
    let no_programs: BTreeSet<NodeName> = steps
        .iter()
        .zip(&previews)
        .filter(|(step, found)| {
            step.id.kind() == Some(StepKind::Packages) && matches!(found, Preview::Blocked(_))
        })
        .map(|(step, _)| step.node.clone())
        .collect();
    for (step, found) in steps.iter().zip(previews) {
        let without_programs = no_programs.contains(&step.node);
        // A member of another cluster and what one left behind are told as that, and a machine without kubeadm by its packages.
        let report = hosts.iter().find(|host| host.name == step.node).map(|host| &host.report);
        let of_another = report.is_some_and(|report| !report.cluster.is_empty());
        let left_over = report.is_some_and(|report| !report.begun_here && !report.leftovers.is_empty());
        match step.id.kind() {
            Some(StepKind::KubeadmInit | StepKind::KubeadmJoin)
                if of_another || left_over || without_programs =>
            {
                continue;
            }
            Some(StepKind::Runtime) if of_another => continue,
            _ => {}
        }
        if let Preview::Blocked(complaint) = found {
            let (node, step) = (step.node.clone(), Some(step.id.step().to_owned()));
            findings.complaints.push(Found { node, check: Check::Steps, step, complaint });
        }
    }
    for host in hosts.iter().filter(|host| !host.settled) {
        host::look(&mut findings, host, spec);
        surroundings::look(&mut findings, host, &hosts, spec);
    }
    between::look(&mut findings, &hosts, spec);
    judgement::judge(&mut findings, &hosts, &tries, spec);
    findings.ignoring(ignored).naming_checks().in_cluster(&spec.name)
}

async fn inspect(agent: &ConnectedAgent, spec: &ClusterSpec) -> Result<Host, String> {
    let names = spec.nodes().map(ToString::to_string).collect();
    let request = InspectRequest { node: agent.node.to_string(), names };
    let report = agent.inspect(request).await.map_err(|unusable| unusable.to_string())?;
    Ok(Host {
        name: agent.node.clone(),
        address: agent.facts.address.parse().map_err(|_| "its address is none".to_owned())?,
        control_plane: agent.node == spec.control_plane,
        clock_ahead_ms: report.clock_unix_millis.saturating_sub(Timestamp::now().as_millisecond()),
        report,
        settled: false,
    })
}

/// Whether kubelet.conf names an API server at the host of this endpoint, at whatever port: that the port is another one than
/// the file says is for the step of kubeadm init to tell.
fn leads_to(server: &str, endpoint: &ApiEndpoint) -> bool {
    let host = |endpoint: &str| endpoint.rsplit_once(':').map(|(host, _)| host.to_owned());
    let named = server.strip_prefix("https://").and_then(host);
    named.is_some() && named == host(endpoint.as_str())
}

/// `m1, w1 and w2`
fn listed<'a>(names: impl IntoIterator<Item = &'a NodeName>) -> String {
    let mut names: Vec<&str> = names.into_iter().map(NodeName::as_str).collect();
    match names.pop() {
        None => String::new(),
        Some(last) if names.is_empty() => last.to_owned(),
        Some(last) => format!("{} and {last}", names.join(", ")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use muster_proto::agent::{Disk, NetworkInterface, RuntimeReport};
    use muster_proto::coordinator::ClusterFiles;

    use super::*;

    /// Two nodes, m1 and w1.
    pub(crate) fn spec(version: &str, disable_firewall: bool) -> ClusterSpec {
        let text = format!(
            "apiVersion: muster/v1\nkind: Cluster\nmetadata: {{name: lab}}\nspec:\n  kubernetesVersion: {version}\n  nodes:\n    - {{name: m1, role: control-plane}}\n    - {{name: w1, role: worker}}\n    - {{name: w2, role: worker}}\n  networking: {{podSubnet: 10.244.0.0/16, manifest: n}}\n  host: {{disableFirewall: {disable_firewall}}}\n"
        );
        let manifest = "kind: ConfigMap\nmetadata: {name: kube-flannel-cfg}\ndata:\n  net-conf.json: |\n    {\"Network\": \"10.244.0.0/16\", \"Backend\": {\"Type\": \"vxlan\"}}\n";
        let files = [("n".into(), manifest.into())].into();
        let enrolled = ["m1", "w1", "w2"].map(|name| name.parse().unwrap()).into();
        ClusterSpec::parse(&ClusterFiles { spec: text, files, ..ClusterFiles::default() }, &enrolled).unwrap()
    }

    /// A node with nothing wrong.
    pub(crate) fn host(name: &str, number: u8) -> Host {
        let address = IpAddr::from([10, 88, 0, number]);
        let interface = NetworkInterface {
            name: "eth0".into(),
            hardware_address: format!("02:00:0a:58:00:{number:02x}"),
            addresses: vec![address.to_string()],
        };
        let report = HostReport {
            hostname: name.into(),
            machine_id: format!("{number:032x}"),
            product_uuid: format!("uuid-{number}"),
            interfaces: vec![interface],
            default_route: true,
            processors: 2,
            memory_bytes: 4 << 30,
            disks: vec![Disk { path: "/var/lib/docker".into(), total_bytes: 100, available_bytes: 60 }],
            operating_system: "Debian GNU/Linux 12 (bookworm)".into(),
            systemd_version: 252,
            cgroup_version: 1,
            runtimes: vec![RuntimeReport {
                name: "docker".into(),
                version: "20.10.24+dfsg1".into(),
                root: "/var/lib/docker".into(),
                cgroup_driver: "cgroupfs".into(),
            }],
            ..HostReport::default()
        };
        let (name, control_plane) = (name.parse().unwrap(), name.starts_with('m'));
        Host { name, address, control_plane, report, clock_ahead_ms: 0, settled: false }
    }

    #[test]
    fn every_check_has_a_word_of_its_own_by_which_it_can_be_named() {
        for check in Check::ALL {
            assert_eq!(check.word().parse(), Ok(check));
        }
        assert!("everything".parse::<Check>().unwrap_err().contains("mesh"));
    }

    #[test]
    fn what_an_ignored_check_complains_of_is_a_note() {
        let mut findings = Findings::default();
        findings.complain(&host("m1", 11), Check::Memory, Complaint::new("a", "", ""));
        findings.complain(&host("m1", 11), Check::Ports, Complaint::new("b", "", ""));
        let findings = findings.ignoring(&[Check::Memory].into()).naming_checks();
        assert!(findings.complaints[0].complaint.remedy.ends_with("--ignore-check ports"));
        assert!(!findings.notes[0].complaint.remedy.contains("--ignore-check"));
        assert_eq!((findings.complaints.len(), findings.notes.len()), (1, 1));
        assert_eq!(findings.complaints[0].check, Check::Ports);
    }
}
