//! Afterwards: Docker runs, starts at every boot, answers, and uses the wanted cgroup driver (none wanted: the one it
//! has). Every other setting in its daemon.json stays. A changed driver restarts Docker, and with it every container
//! that has no live restore; on a node that is part of a cluster that is refused.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;

use super::{BadStep, Finding, Input};
use crate::docker_settings::{driver_of, with_driver};
use crate::host::HostError;
use crate::host::change::{Change, FileMode, UnitAction};
use crate::host::query::Observe;

pub const NAME: &str = "runtime";
pub const SETTLE: Duration = Duration::from_secs(60);

const UNIT: &str = "docker.service";
const FILE: &str = "/etc/docker/daemon.json";
/// kubeadm writes it last; its kubelet uses the driver that Docker had then.
const MEMBER_FILE: &str = "/etc/kubernetes/kubelet.conf";

#[derive(Debug, Clone)]
pub struct Runtime {
    /// systemd or cgroupfs; none: whatever Docker uses.
    driver: Option<&'static str>,
}

impl Runtime {
    pub fn parse(message: &agent::Runtime) -> Result<Self, BadStep> {
        let driver = match message.cgroup_driver.as_str() {
            "" => None,
            "systemd" => Some("systemd"),
            "cgroupfs" => Some("cgroupfs"),
            other => {
                let shown: String = other.chars().take(80).collect();
                let problem = format!("{shown:?} is neither systemd nor cgroupfs");
                return Err(BadStep::Value { field: "runtime.cgroup_driver", problem });
            }
        };
        Ok(Self { driver })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let unit = host.unit(UNIT).await?;
        if !unit.exists {
            return Ok(Finding::blocked(
                "Docker is not installed",
                format!("systemd knows no {UNIT}"),
                "apt-get install docker.io",
            ));
        }
        if unit.file_state.starts_with("masked") {
            let remedy = format!("systemctl unmask {UNIT}");
            return Ok(Finding::blocked("Docker may not be started", format!("{UNIT} is masked"), remedy));
        }
        let mut changes = Vec::new();
        let change = |action| Change::Unit { unit: UNIT.into(), action };
        if unit.file_state != "enabled" {
            changes.push(change(UnitAction::Enable));
        }
        let docker = host.docker().await?;
        let running = docker.as_ref().map(|docker| docker.cgroup_driver.as_str());
        let mut restart = false;
        if let Some(wanted) = self.driver {
            let member = host.read_file(Path::new(MEMBER_FILE)).await?.is_some();
            restart = running.is_some_and(|running| running != wanted);
            if member && restart {
                return Ok(Finding::blocked(
                    "the node is part of a cluster: another cgroup driver for Docker would lose its pods",
                    format!(
                        "Docker uses {}, not {wanted}; {MEMBER_FILE} exists",
                        running.unwrap_or_default()
                    ),
                    "name the driver that is in use as host.cgroupDriver in the cluster file, or reset the node first (`sudo coordinator \
                     reset` on the master)",
                ));
            }
            let before = host.read_file(Path::new(FILE)).await?.unwrap_or_default();
            let configured = match driver_of(&before) {
                Ok(configured) => configured,
                Err(problem) => {
                    let remedy = format!("correct {FILE}, then run again");
                    let evidence = format!("{FILE}: {problem}");
                    return Ok(Finding::blocked("Docker's configuration cannot be read", evidence, remedy));
                }
            };
            if must_configure(running, configured.as_deref(), wanted, member) {
                let content = with_driver(&before, wanted);
                changes.push(Change::WriteFile { path: FILE.into(), content, mode: FileMode::IfNew(0o644) });
            }
        }
        if !unit.active {
            changes.push(change(UnitAction::Start));
        } else if restart {
            changes.push(change(UnitAction::Restart));
        }
        if changes.is_empty() && docker.is_none() {
            return Ok(Finding::Wait("for Docker to answer on its socket".into()));
        }
        Ok(Finding::from_changes(changes))
    }
}

/// Whether daemon.json must name the driver. One that runs without being named there is Docker's default or stands on
/// its command line, where a second one in the file would keep Docker from starting. A member's silent Docker is
/// first started as it is.
fn must_configure(running: Option<&str>, configured: Option<&str>, wanted: &str, member: bool) -> bool {
    match (running, configured) {
        (_, Some(configured)) if configured == wanted => false,
        (Some(running), None) => running != wanted,
        (Some(_), Some(_)) => true,
        (None, _) => !member,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::steps::rehearsal::{carry_out, cause_of, step, waits_for};
    use muster_proto::agent::step::Kind;

    #[test]
    fn the_file_is_left_alone_when_the_wanted_driver_runs_without_it() {
        assert!(!must_configure(Some("systemd"), None, "systemd", false));
        assert!(!must_configure(Some("cgroupfs"), Some("systemd"), "systemd", false));
        assert!(!must_configure(None, None, "systemd", true));
        assert!(must_configure(Some("systemd"), Some("cgroupfs"), "systemd", false));
        assert!(must_configure(Some("cgroupfs"), None, "systemd", false));
        assert!(must_configure(None, None, "systemd", false));
    }

    fn wanted(driver: &str) -> crate::steps::Step {
        step(Kind::Runtime(agent::Runtime { cgroup_driver: driver.into() }))
    }

    #[tokio::test]
    async fn docker_gets_its_driver_and_keeps_its_other_settings() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file(FILE, "{\"log-driver\": \"json-file\"}\n");
        let finding = carry_out(&host, &wanted("systemd"), &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        assert!(host.file(FILE).unwrap().ends_with("\"log-driver\": \"json-file\"}\n"));
        assert!(matches!(wanted("").check(&host, &Input::default()).await, Ok(Finding::Done(_))));
    }

    #[tokio::test]
    async fn a_member_of_a_cluster_and_a_broken_file_are_left_alone() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file(FILE, "{\n  oops\n}\n");
        let cause = cause_of(wanted("systemd").check(&host, &Input::default()).await.unwrap());
        assert!(cause.contains("cannot be read"), "{cause}");
        host.put_file(MEMBER_FILE, "");
        let cause = cause_of(wanted("systemd").check(&host, &Input::default()).await.unwrap());
        assert!(cause.contains("part of a cluster"), "{cause}");
        host.with(|state| state.docker = None);
        host.put_file(FILE, "");
        waits_for(wanted("systemd").check(&host, &Input::default()).await.unwrap());
    }
}
