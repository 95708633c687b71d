//! Afterwards: the container runtime runs, starts at every boot, answers also in the kubelet's language, uses the wanted cgroup
//! driver (none wanted: the one it has) and starts pods with kubeadm's pause image. Every other setting in its file stays.
//! It is started anew only where it does not run as its settings say. On a node that is part of a cluster nothing is done
//! that its pods would not survive.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::kubernetes::files::KUBELET_CONF;
use muster_proto::kubernetes::release::Release;
use muster_proto::kubernetes::runtime::{CgroupDriver, RuntimeName};
use muster_proto::names::{ImageReference, KubernetesVersion};

use crate::host::HostError;
use crate::host::change::{Change, UnitAction};
use crate::host::query::{Cri, KubernetesProgram, Observe, RuntimeFacts, RuntimeSettings, RuntimeWish};
use crate::steps::{BadStep, Finding, Input};

pub const SETTLE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Runtime {
    name: RuntimeName,
    /// None: whatever the runtime uses.
    driver: Option<CgroupDriver>,
    version: KubernetesVersion,
    repository: Option<ImageReference>,
}

impl Runtime {
    pub fn parse(message: &agent::Runtime) -> Result<Self, BadStep> {
        let driver = Some(&message.cgroup_driver).filter(|word| !word.is_empty());
        let repository = Some(&message.image_repository).filter(|text| !text.is_empty());
        Ok(Self {
            name: message.name.parse().map_err(BadStep::field("runtime.name"))?,
            driver: driver
                .map(|word| word.parse())
                .transpose()
                .map_err(BadStep::field("runtime.cgroup_driver"))?,
            version: message
                .kubernetes_version
                .parse()
                .map_err(BadStep::field("runtime.kubernetes_version"))?,
            repository: repository
                .map(|text| text.parse())
                .transpose()
                .map_err(BadStep::field("runtime.image_repository"))?,
        })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let (name, row) = (self.name, self.name.row());
        let unit = host.unit(row.unit).await?;
        if !unit.exists {
            if let Some(snap) = row.snap
                && host.unit(snap).await?.exists
            {
                return Ok(Finding::blocked(
                    format!(
                        "{name} of this machine is the snap ({snap}); kubeadm and the kubelet cannot work with it"
                    ),
                    format!("systemd knows {snap} and no {}", row.unit),
                    format!(
                        "`sudo snap remove {0}` (its containers and images go with it: save what is needed first), then `sudo \
                         apt-get install {1}`, then the images again",
                        name.word(),
                        row.package
                    ),
                ));
            }
            return Ok(Finding::blocked(
                format!("{name} is not installed"),
                format!("systemd knows no {}", row.unit),
                format!("apt-get install {}", row.package),
            ));
        }
        if unit.file_state.starts_with("masked") {
            let (cause, evidence) = (format!("{name} may not be started"), format!("{} is masked", row.unit));
            return Ok(Finding::blocked(cause, evidence, format!("systemctl unmask {}", row.unit)));
        }
        if let Some(finding) = self.in_between(host).await? {
            return Ok(finding);
        }
        let running = host.runtime(name).await?;
        let wish = RuntimeWish { cgroup_driver: self.driver, sandbox_image: self.sandbox_image(host).await? };
        let member = host.read_file(Path::new(KUBELET_CONF)).await?.is_some();
        let other_driver = running
            .as_ref()
            .and_then(|facts| facts.cgroup_driver)
            .filter(|own| self.driver.is_some_and(|wanted| wanted != *own));
        if let (true, Some(own), Some(wanted)) = (member, other_driver, self.driver) {
            return Ok(Finding::blocked(
                format!(
                    "the node is part of a cluster: another cgroup driver for {name} would lose its pods"
                ),
                format!("{name} uses {own}, not {wanted}; {KUBELET_CONF} exists"),
                "name the driver that is in use as host.cgroupDriver in the cluster file, or reset the node first (`sudo coordinator \
                 reset` on the master)",
            ));
        }
        let mut changes = Vec::new();
        let change = |action| Change::Unit { unit: row.unit.into(), action };
        if unit.file_state != "enabled" {
            changes.push(change(UnitAction::Enable));
        }
        let mut restart = running.as_ref().is_some_and(|facts| differs(facts, &wish));
        match host.runtime_settings(name, &wish, running.as_ref()).await? {
            RuntimeSettings::Unfit(complaint) => return Ok(Finding::Blocked(complaint)),
            // A member's silent runtime is first started as it is.
            RuntimeSettings::Rewrite { .. } if member && running.is_none() => {}
            RuntimeSettings::Rewrite { path, content, restart: anew } => {
                changes.push(Change::write(path, content));
                restart |= anew;
            }
            RuntimeSettings::Fit => {}
        }
        if restart && member && row.restart_ends_containers {
            return Ok(Finding::blocked(
                format!("the node is part of a cluster: {name} started anew would end its pods"),
                format!("{} has to be started anew for its settings; {KUBELET_CONF} exists", row.unit),
                format!(
                    "move the pods away and `sudo systemctl restart {}`, or reset the node first",
                    row.unit
                ),
            ));
        }
        let silent = running.as_ref().filter(|_| !restart).and_then(|facts| match &facts.cri {
            Cri::On => None,
            Cri::Off => Some(format!(
                "{name} {} serves no CRI; {} does not switch it off",
                facts.version, row.settings
            )),
            Cri::Failed(why) => Some(why.clone()),
        });
        if let Some(why) = silent {
            return Ok(Finding::blocked(
                format!("{name} runs, but its interface for the kubelet (CRI) does not come up"),
                why,
                format!(
                    "correct {} (`sudo journalctl -u {}` says more), then run again",
                    row.settings, row.unit
                ),
            ));
        }
        if !unit.active {
            changes.push(change(UnitAction::Start));
        } else if restart {
            changes.push(change(UnitAction::Restart));
        }
        if changes.is_empty() && running.is_none() {
            return Ok(Finding::Wait(format!("for {name} to answer on its socket")));
        }
        Ok(Finding::from_changes(changes))
    }

    /// Blocked when what kubeadm or the kubelet of this version need to speak to the runtime is not there.
    async fn in_between<H: Observe>(&self, host: &H) -> Result<Option<Finding>, HostError> {
        let Some(release) = Release::of(self.version) else { return Ok(None) };
        if let Some(adapter) = release.adapter(self.name)
            && !host.unit(adapter.unit).await?.exists
        {
            let (name, version) = (adapter.name, self.version);
            return Ok(Some(Finding::blocked(
                format!(
                    "Kubernetes {version} reaches {} only through {name}, which is not installed",
                    self.name
                ),
                format!("systemd knows no {}", adapter.unit),
                format!(
                    "install {name} ({}) on this machine; or leave out spec.containerRuntime in the cluster file, and {} is used",
                    adapter.source,
                    release.default_runtime()
                ),
            )));
        }
        if release.wants_crictl(self.name) && !host.missing_programs(&["crictl"]).await?.is_empty() {
            return Ok(Some(Finding::blocked(
                format!(
                    "kubeadm {} speaks to {} by the program crictl, which is not installed",
                    self.version, self.name
                ),
                "crictl is in no folder of root's search path",
                "apt-get install cri-tools",
            )));
        }
        Ok(None)
    }

    /// The pause image of kubeadm's list; none while there is no kubeadm, and where the kubelet names the image itself.
    async fn sandbox_image<H: Observe>(&self, host: &H) -> Result<Option<ImageReference>, HostError> {
        if !self.name.row().names_sandbox_image
            || host.kubernetes_version(KubernetesProgram::Kubeadm).await?.is_none()
        {
            return Ok(None);
        }
        let repository = self.repository.as_ref().map(ImageReference::as_str);
        let images = host.kubeadm_images(self.version, repository).await?;
        Ok(images.into_iter().find(|image| super::images::name_of(image.as_str()) == "pause"))
    }
}

/// Whether it runs otherwise than is wanted. What it does not tell of itself is as its settings say, if they were there
/// when it started.
fn differs(running: &RuntimeFacts, wanted: &RuntimeWish) -> bool {
    let driver =
        wanted.cgroup_driver.is_some_and(|wanted| running.cgroup_driver.is_some_and(|own| own != wanted));
    let image = match (&wanted.sandbox_image, &running.sandbox_image) {
        (Some(wanted), Some(own)) => wanted.as_str() != own,
        (Some(_), None) => !running.settings_in_effect,
        (None, _) => false,
    };
    driver || image || (running.cri != Cri::On && !running.settings_in_effect)
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::steps::rehearsal::{carry_out, cause_of, step, waits_for};

    const ALL: [RuntimeName; 2] = RuntimeName::ALL;

    fn host() -> FakeHost {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.with(crate::host::fake::State::run_containerd);
        host
    }

    fn wanted(name: RuntimeName, driver: &str) -> crate::steps::Step {
        step(Kind::Runtime(agent::Runtime {
            cgroup_driver: driver.into(),
            name: name.word().into(),
            kubernetes_version: "v1.20.2".into(),
            image_repository: String::new(),
        }))
    }

    async fn look(host: &FakeHost, name: RuntimeName, driver: &str) -> Finding {
        wanted(name, driver).check(host, &Input::default()).await.unwrap()
    }

    #[tokio::test]
    async fn the_runtime_gets_its_driver_and_keeps_its_other_settings() {
        for (name, before) in [
            (RuntimeName::Docker, "\"log-driver\": \"json-file\"}\n"),
            (RuntimeName::Containerd, "oom_score = -999 # ours\n"),
        ] {
            let host = host();
            let opened = if name == RuntimeName::Docker { "{" } else { "version = 3\n" };
            host.put_file(name.row().settings, format!("{opened}{before}"));
            let finding = carry_out(&host, &wanted(name, "systemd"), &mut Input::default()).await;
            assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
            assert!(host.file(name.row().settings).unwrap().contains(before));
            assert!(matches!(look(&host, name, "").await, Finding::Done(_)));
        }
    }

    #[tokio::test]
    async fn containerd_without_any_file_gets_kubeadms_pause_image_and_its_interface_switched_on() {
        let name = RuntimeName::Containerd;
        let host = host();
        host.with(|state| {
            state.put(name.row().settings, "disabled_plugins = [\"cri\"]\n");
            state.run_containerd();
        });
        let finding = carry_out(&host, &wanted(name, "systemd"), &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        let facts = host.with(|state| state.runtimes[&name].clone());
        assert_eq!((facts.cri, facts.sandbox_image.as_deref()), (Cri::On, Some("k8s.gcr.io/pause:3.2")));
    }

    #[tokio::test]
    async fn a_runtime_whose_settings_were_written_but_that_was_not_started_anew_is_started_anew() {
        for name in ALL {
            let host = host();
            let Finding::Todo(changes) = look(&host, name, "systemd").await else { panic!() };
            let Some(Change::WriteFile { path, content, .. }) = changes.first() else {
                panic!("{changes:?}")
            };
            host.put_file(path, content.clone());
            let Finding::Todo(changes) = look(&host, name, "systemd").await else { panic!() };
            let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
            assert_eq!(lines, [format!("restart {}", name.row().unit)]);
        }
    }

    #[tokio::test]
    async fn a_member_of_a_cluster_and_a_broken_file_are_left_alone() {
        for name in ALL {
            let host = host();
            host.put_file(name.row().settings, "{\n  oops\n}\n");
            let cause = cause_of(look(&host, name, "systemd").await);
            assert!(cause.contains("cannot be read"), "{cause}");
            host.put_file(KUBELET_CONF, "");
            let cause = cause_of(look(&host, name, "systemd").await);
            assert!(cause.contains("part of a cluster"), "{cause}");
            host.with(|state| state.runtimes.clear());
            host.put_file(name.row().settings, "");
            waits_for(look(&host, name, "systemd").await);
        }
    }

    #[tokio::test]
    async fn a_runtime_that_is_not_installed_or_masked_is_told_by_its_own_name() {
        for name in ALL {
            let host = host();
            host.with(|state| state.units.get_mut(name.row().unit).unwrap().file_state = "masked".into());
            assert_eq!(cause_of(look(&host, name, "").await), format!("{name} may not be started"));
            host.with(|state| state.units.remove(name.row().unit));
            assert_eq!(cause_of(look(&host, name, "").await), format!("{name} is not installed"));
        }
    }

    #[tokio::test]
    async fn a_docker_that_is_a_snap_is_told_as_that_before_anybody_installs_a_second_one() {
        let (host, name) = (host(), RuntimeName::Docker);
        host.with(|state| {
            let unit = state.units.remove(name.row().unit).unwrap();
            state.units.insert(name.row().snap.unwrap().to_owned(), unit);
        });
        let Finding::Blocked(complaint) = look(&host, name, "systemd").await else { panic!() };
        assert!(complaint.cause.contains("is the snap (snap.docker.dockerd.service)"), "{complaint}");
        let (removal, install) =
            (complaint.remedy.find("snap remove"), complaint.remedy.find("apt-get install"));
        assert!(removal.is_some() && removal < install, "{complaint}");
    }

    #[tokio::test]
    async fn an_interface_that_does_not_come_up_is_told_in_containerds_words() {
        let (host, name) = (host(), RuntimeName::Containerd);
        let finding = carry_out(&host, &wanted(name, "systemd"), &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        let words = "invalid plugin config: `mirrors` cannot be set when `config_path` is provided";
        host.with(|state| state.runtimes.get_mut(&name).unwrap().cri = Cri::Failed(words.into()));
        let Finding::Blocked(complaint) = look(&host, name, "systemd").await else { panic!() };
        assert_eq!(complaint.evidence, words);
    }
}
