//! A sign: one place that tells a known cause. Causes are ordered from the deepest to the shallowest, so that the least
//! of several signs is the first cause and the others are what follows from it.

use jiff::Timestamp;

/// What can stop kubeadm, the deeper cause first: a Docker that is stopped explains why nothing answers on port 6443, never
/// the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Cause {
    KubeletMasked,
    RuntimeStopped,
    SwapOn,
    CgroupDriver,
    CgroupVersion,
    RuntimeBroken,
    ImageMissing,
    AlreadyMember,
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
    /// What to do about it on this node, whose join needs the API server at `endpoint`.
    pub(super) fn remedy(self, node: &str, endpoint: Option<&str>) -> String {
        match self {
            Self::KubeletMasked => format!("on {node}: `sudo systemctl unmask kubelet`"),
            Self::RuntimeStopped => format!(
                "on {node}: `sudo systemctl start docker`, and look at `sudo journalctl -u docker` if it does not stay up"
            ),
            Self::SwapOn => {
                format!("on {node}: `sudo swapoff -a`, and find out what turned it on again")
            }
            Self::CgroupDriver => {
                "name the cgroup driver that Docker really uses as host.cgroupDriver in the cluster file"
                    .into()
            }
            Self::CgroupVersion => {
                format!("boot {node} with cgroup v2, or use a Kubernetes that still runs on cgroup v1 (1.34)")
            }
            Self::RuntimeBroken => format!(
                "on {node}: `sudo docker run --rm nginx:1.22 true` shows the same error; `sudo apt-get install --reinstall runc \
                 containerd` brings the program back"
            ),
            Self::ImageMissing => {
                format!("bring the image to {node}: `docker pull`, or `docker load -i FILE`")
            }
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
                format!("on {node}: `sudo docker ps -a`, then `sudo docker logs` of the container")
            }
        }
    }
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
        let told = |cause: Cause, endpoint| cause.remedy("w1", endpoint);
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
}
