//! A sign: one place that tells a known cause. Causes are ordered from the deepest to the shallowest, so that the least
//! of several signs is the first cause and the others are what follows from it.

use jiff::Timestamp;
use muster_proto::kubernetes::runtime::RuntimeName;

/// What can stop kubeadm, the deeper cause first: a runtime that is stopped explains why nothing answers on port 6443, never
/// the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Cause {
    KubeletMasked,
    RuntimeStopped,
    InterfaceOff,
    SwapOn,
    CgroupDriver,
    CgroupVersion,
    NoLocalhost,
    RuntimeBroken,
    ImageMissing,
    PluginMissing,
    AlreadyMember,
    OtherName,
    Proxied,
    PortTaken,
    ClockWrong,
    WrongCa,
    TokenUnknown,
    TokenSecret,
    Unauthorized,
    KubeletRefuses,
    KubeletStopped,
    ApiUnreachable,
    ApiUnproved,
    ContainerEnds,
}

impl Cause {
    /// What to do about it.
    pub(super) fn remedy(self, place: &Surroundings) -> String {
        let Surroundings { node, endpoint, runtime } = *place;
        let row = runtime.row();
        match self {
            Self::KubeletMasked => format!("on {node}: `sudo systemctl unmask kubelet`"),
            Self::RuntimeStopped => format!(
                "on {node}: `sudo systemctl start {0}`, and look at `sudo journalctl -u {0}` if it does not stay up",
                row.unit.trim_end_matches(".service")
            ),
            Self::InterfaceOff => format!(
                "run bootstrap again, whose step `runtime` switches it on; or correct {} on {node} (`disabled_plugins` above all) \
                 and `sudo systemctl restart {}`",
                row.settings, row.unit
            ),
            Self::SwapOn => {
                format!("on {node}: `sudo swapoff -a`, and find out what turned it on again")
            }
            Self::CgroupDriver => format!(
                "name the cgroup driver that {runtime} really uses as host.cgroupDriver in the cluster file"
            ),
            Self::CgroupVersion => {
                format!("boot {node} with cgroup v2, or use a Kubernetes that still runs on cgroup v1 (1.34)")
            }
            Self::RuntimeBroken => format!(
                "on {node}: `sudo {}` shows the same error; `sudo apt-get install --reinstall runc containerd` brings the program \
                 back",
                row.trial
            ),
            Self::ImageMissing => {
                format!("bring the image to {node}: `{}`, or `{}`", row.pull(&["IMAGE"]), row.load("FILE"))
            }
            Self::NoLocalhost => format!(
                "on {node}: write the line `127.0.0.1 localhost` into /etc/hosts, then `sudo systemctl restart kubelet`"
            ),
            Self::PluginMissing => format!(
                "on {node}: `sudo apt-get install --reinstall kubernetes-cni`, or unpack the archive of containernetworking/plugins into \
                 /opt/cni/bin"
            ),
            Self::OtherName => format!(
                "on {node}: `systemctl cat kubelet` and /etc/default/kubelet show which --hostname-override it is given; take that out, then \
                 `sudo systemctl daemon-reload` and `sudo systemctl restart kubelet`"
            ),
            Self::Proxied => format!(
                "on {node}: `systemctl show-environment` and `systemctl cat kubelet` show the proxy; put the addresses of all nodes, of pods and \
                 of Services into NO_PROXY there, then `sudo systemctl daemon-reexec` and `sudo systemctl restart kubelet`"
            ),
            Self::AlreadyMember => {
                format!("take {node} out of its cluster: on {node} `sudo kubeadm reset -f`")
            }
            Self::PortTaken => format!("on {node}: `sudo ss -ltnp` names the program; stop it"),
            Self::ClockWrong => format!("set the clock of {node} (`timedatectl`) and keep it set with NTP"),
            Self::WrongCa => {
                "another cluster answers at that address, or the CA was replaced: look at what runs there"
                    .into()
            }
            Self::TokenUnknown | Self::TokenSecret | Self::Unauthorized => {
                "run bootstrap again: it makes a fresh token".into()
            }
            Self::KubeletRefuses | Self::KubeletStopped => {
                format!("on {node}: `sudo systemctl status kubelet`; remove what it complains of")
            }
            Self::ApiUnreachable => match endpoint.and_then(host_and_port) {
                Some((host, port)) => format!(
                    "open TCP port {port} from {node} to {host}, the control plane (firewall, security group), or start the API \
                     server there; `nc -vz {host} {port}` on {node} tries it"
                ),
                None => format!(
                    "open the API server's TCP port from {node} to the control plane (firewall, security group), or start the \
                     API server there"
                ),
            },
            Self::ApiUnproved => format!(
                "look at what answers at {}, and at the clock of {node} (`timedatectl`)",
                endpoint.unwrap_or("the API server's address")
            ),
            Self::ContainerEnds => {
                format!("on {node}: `sudo {}`, then `sudo {}` of the container", row.list, row.logs)
            }
        }
    }
}

/// Where a cause showed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) node: &'a str,
    /// The API server that the node's join needs.
    pub(super) endpoint: Option<&'a str>,
    pub(super) runtime: RuntimeName,
}

/// `HOST:PORT` apart, an IPv6 address without its brackets.
fn host_and_port(endpoint: &str) -> Option<(&str, &str)> {
    let (host, port) = endpoint.rsplit_once(':')?;
    Some((host.trim_start_matches('[').trim_end_matches(']'), port))
}

/// One place that tells a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sign {
    pub(super) cause: Cause,
    /// The cause as the first line of a complaint.
    pub(super) sentence: String,
    /// Who says so.
    pub(super) place: &'static str,
    /// The line that says so.
    pub(super) line: String,
    pub(super) time: Option<Timestamp>,
}

impl Sign {
    pub(super) fn new(cause: Cause, sentence: impl Into<String>, place: &'static str, line: &str) -> Self {
        Self { cause, sentence: sentence.into(), place, line: short(line, 600), time: None }
    }

    pub(super) fn at(mut self, time: Timestamp) -> Self {
        self.time = Some(time);
        self
    }

    /// As a line of evidence.
    pub(super) fn evidence(&self) -> String {
        let time = self.time.map(|time| time.strftime(", %H:%M:%SZ").to_string()).unwrap_or_default();
        format!("{}{time}: {}", self.place, self.line)
    }
}

/// Adds a sign unless its cause is known; the first appearance counts.
pub(super) fn add(signs: &mut Vec<Sign>, sign: Sign) {
    if !signs.iter().any(|known| known.cause == sign.cause) {
        signs.push(sign);
    }
}

/// The first cause: the deepest, and of equals the one that was seen first.
pub(super) fn first(signs: &[Sign]) -> Option<&Sign> {
    signs.iter().min_by_key(|sign| sign.cause)
}

/// The text with at most so many characters, on one line.
pub(super) fn short(text: &str, most: usize) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &one_line[..end]),
        None => one_line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_server_that_is_not_reached_or_not_proved_is_named_with_its_own_address_and_port() {
        let told = |cause: Cause, endpoint| {
            cause.remedy(&Surroundings { node: "w1", endpoint, runtime: RuntimeName::Docker })
        };
        let unreachable = told(Cause::ApiUnreachable, Some("10.88.0.11:6444"));
        assert!(unreachable.contains("`nc -vz 10.88.0.11 6444` on w1"), "{unreachable}");
        let six = told(Cause::ApiUnreachable, Some("[fd00::11]:6443"));
        assert!(six.contains("`nc -vz fd00::11 6443` on w1"), "{six}");
        assert!(told(Cause::ApiUnproved, Some("10.88.0.11:6444")).contains("answers at 10.88.0.11:6444"));
        for cause in [Cause::ApiUnreachable, Cause::ApiUnproved] {
            let unknown = told(cause, None);
            assert!(!unknown.contains("6443") && !unknown.contains("ADDRESS"), "{unknown}");
        }
    }

    #[test]
    fn every_remedy_speaks_of_the_runtime_that_this_node_has_and_of_no_other() {
        for (runtime, other) in
            [(RuntimeName::Docker, "containerd.sock"), (RuntimeName::Containerd, "docker")]
        {
            for cause in [
                Cause::RuntimeStopped,
                Cause::InterfaceOff,
                Cause::CgroupDriver,
                Cause::ImageMissing,
                Cause::ContainerEnds,
            ] {
                let told = cause.remedy(&Surroundings { node: "w1", endpoint: None, runtime });
                assert!(!told.to_lowercase().contains(other), "{told}");
            }
        }
    }
}
