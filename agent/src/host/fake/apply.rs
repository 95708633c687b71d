//! Changing the fake host, with the hooks that let a test kill the agent in the middle.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_proto::event::Outcome;
use muster_proto::kubernetes::files::ETCD_MEMBER;
use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::redaction::{printable, redact};
use serde_json::Value;
use tokio::sync::watch;

use super::stock::unit;
use super::{Ended, FakeHost, File, Moment, State};
use crate::host::change::{Applied, Change, ChangeId, FileMode, Host, Program, UnitAction};
use crate::host::{HostError, before};

impl Host for FakeHost {
    async fn before(&self, change: &Change) -> Result<Option<Value>, HostError> {
        let mode = {
            let state = self.state();
            let file = match change {
                Change::WriteFile { path, .. } | Change::RemoveFile { path } => state.files.get(path),
                Change::WriteUserFile { user, path, .. } | Change::RemoveUserFile { user, path } => {
                    state.user_files.get(&(user.clone(), path.clone()))
                }
                _ => None,
            };
            file.map(|file| file.mode)
        };
        before::image(self, change, mode).await
    }

    async fn apply(&self, change: &Change, id: &ChangeId) -> Result<Applied, HostError> {
        let moment = {
            let mut control = self.control();
            control.applied += 1;
            let nth = control.applied;
            control.crash.take_if(|(crash, _)| *crash == nth).map(|(_, moment)| moment)
        };
        if moment == Some(Moment::BeforeEffect) {
            return self.die().await;
        }
        assert!(moment != Some(Moment::Panic), "a flaw of the test's, in a change");
        let applied = match change {
            Change::Run(program) => {
                let mut result = self.start(program, id)?;
                let unanswered = self.control().unanswered.take_if(|name| *name == program.program);
                if unanswered.is_some() {
                    let source =
                        HostError::TimedOut { what: "systemd".into(), limit: Duration::from_secs(25) };
                    return Err(HostError::EndUnknown { unit: id.unit(), source: Box::new(source) });
                }
                if moment == Some(Moment::WhileRunning) {
                    return self.die().await;
                }
                ended(&mut result).await
            }
            _ if moment == Some(Moment::WhileRunning) => return self.die().await,
            _ => {
                self.make(change)?;
                Applied { made: true, ..Applied::default() }
            }
        };
        if moment == Some(Moment::AfterEffect) {
            return self.die().await;
        }
        Ok(applied)
    }

    async fn attach(&self, id: &ChangeId) -> Result<Option<Applied>, HostError> {
        let found = self.control().started.get(&id.unit()).cloned();
        match found {
            Some(mut result) => Ok(Some(ended(&mut result).await)),
            None => Ok(None),
        }
    }

    async fn earlier_ended(&self) {
        let errand = self.control().errand.clone();
        if let Some(mut errand) = errand {
            let _ = errand.wait_for(|ended| *ended).await;
        }
    }

    async fn forget(&self, id: &ChangeId) -> Result<(), HostError> {
        self.control().started.remove(&id.unit());
        Ok(())
    }
}

async fn ended(result: &mut watch::Receiver<Option<Ended>>) -> Applied {
    let ended = match result.wait_for(Option::is_some).await {
        Ok(ended) => ended.clone().unwrap_or_default(),
        Err(_) => Ended { exit_code: 137, standard_error: "the host died".into(), ..Ended::default() },
    };
    let output = redact(&printable(&format!("{}{}", ended.standard_output, ended.standard_error)));
    Applied {
        made: ended.exit_code == 0,
        outcome: Outcome { exit_code: Some(ended.exit_code), output, ..Outcome::default() },
        standard_output: ended.standard_output.into(),
    }
}

impl FakeHost {
    /// A change of an earlier life of the agent goes on, and is made after this.
    pub fn errand_goes_on(&self, change: Change, takes: Duration) {
        let (end, errand) = watch::channel(false);
        self.control().errand = Some(errand);
        let host = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            host.make(&change).expect("the change can be made");
            end.send_replace(true);
        });
    }

    async fn die(&self) -> Result<Applied, HostError> {
        self.inner.died.notify_one();
        std::future::pending().await
    }

    /// Starts a program that goes on without the agent, as a transient unit does.
    fn start(&self, program: &Program, id: &ChangeId) -> Result<watch::Receiver<Option<Ended>>, HostError> {
        let (result, receiver) = watch::channel(None);
        let takes = {
            let mut control = self.control();
            if control.started.contains_key(&id.unit()) {
                return Err(HostError::Systemd {
                    what: format!("to start {}", id.unit()),
                    message: format!("Unit {} already exists.", id.unit()),
                });
            }
            control.started.insert(id.unit(), receiver.clone());
            control.runs.push((program.program, program.arguments.clone()));
            control.overlaps += u32::from(control.running > 0);
            control.running += 1;
            control.program_takes.max(Duration::from_millis(1))
        };
        let (host, program) = (self.clone(), program.clone());
        tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            let failure = {
                let failures = &mut host.control().failures;
                failures.iter().position(|(name, ..)| *name == program.program).map(|at| failures.remove(at))
            };
            let ended = match failure {
                Some((_, exit_code, standard_error)) => {
                    Ended { exit_code, standard_error, standard_output: String::new() }
                }
                None => host.run(&program),
            };
            host.control().running -= 1;
            result.send_replace(Some(ended));
        });
        Ok(receiver)
    }

    fn make(&self, change: &Change) -> Result<(), HostError> {
        let mut state = self.state();
        match change {
            Change::WriteFile { path, content, mode, .. } => {
                put(&mut state.files, path.clone(), content.clone(), *mode);
            }
            Change::RemoveFile { path } => {
                state.files.remove(path);
            }
            Change::RemoveEtcdData => {
                state.files.retain(|path, _| !path.starts_with(ETCD_MEMBER));
                drop(state);
                // What the cluster knew was in it.
                self.cluster.with(|held| *held = super::ClusterState::default());
            }
            Change::SetHostname { name } => {
                state.hostname = name.to_string();
                put(&mut state.files, "/etc/hostname".into(), format!("{name}\n"), FileMode::IfNew(0o644));
            }
            Change::SwapOff { device } => {
                state.swaps.remove(device);
                let name = device.to_string_lossy().trim_start_matches('/').replace('/', "-");
                if let Some(held) = state.units.get_mut(&format!("{name}.swap")) {
                    *held = unit(false, &held.file_state);
                }
            }
            Change::SetSysctl { key, value } => {
                if !state.sysctls.contains_key(key) {
                    return Err(HostError::File {
                        action: "writing",
                        path: format!("/proc/sys/{}", key.replace('.', "/")).into(),
                        source: std::io::ErrorKind::NotFound.into(),
                    });
                }
                state.sysctls.insert(key.clone(), value.clone());
            }
            Change::Unit { unit, action } => state.act_on_unit(unit, *action)?,
            Change::ReloadUnits => {}
            Change::WriteUserFile { user, path, content, mode, .. } => {
                put(&mut state.user_files, (user.clone(), path.clone()), content.clone(), *mode);
            }
            Change::RemoveUserFile { user, path } => {
                state.user_files.remove(&(user.clone(), path.clone()));
            }
            Change::RemoveTaints { node, keys } => {
                drop(state);
                self.api(|cluster| {
                    let node = cluster.get_mut("Node", "", node.as_str());
                    let taints = node.and_then(|node| node["spec"]["taints"].as_array_mut());
                    if let Some(taints) = taints {
                        taints.retain(|taint| !keys.iter().any(|key| taint["key"] == *key));
                    }
                })?;
            }
            Change::DeleteObject { kind, namespace, name } => {
                drop(state);
                self.api(|cluster| cluster.delete(kind.kind(), namespace, name))?;
            }
            Change::Run(_) => {}
        }
        Ok(())
    }
}

/// A file that stands there keeps its mode, as on a real host.
fn put<K: Ord>(files: &mut BTreeMap<K, File>, place: K, content: String, mode: FileMode) {
    let mode = mode.over(files.get(&place).map(|file| file.mode));
    files.insert(place, File { content, mode });
}

impl State {
    fn act_on_unit(&mut self, name: &str, action: UnitAction) -> Result<(), HostError> {
        if !self.units.contains_key(name) && action != UnitAction::Mask {
            return Err(HostError::Systemd {
                what: format!("{action:?} of {name}"),
                message: format!("Unit {name} not found."),
            });
        }
        let (active, file_state) = match self.units.get(name) {
            Some(held) => (held.active, held.file_state.clone()),
            None => (false, String::new()),
        };
        let mut after = match action {
            UnitAction::Start | UnitAction::Restart => unit(true, &file_state),
            UnitAction::Stop => unit(false, &file_state),
            UnitAction::Enable => unit(active, "enabled"),
            UnitAction::Disable => unit(active, "disabled"),
            UnitAction::Mask => unit(active, "masked"),
            // The fake's masked units are the .swap units that systemd makes from fstab.
            UnitAction::Unmask => unit(active, "generated"),
        };
        if let Some(device) = name.strip_suffix(".swap").filter(|_| !after.active) {
            self.swaps.remove(&std::path::PathBuf::from(format!("/{}", device.replace('-', "/"))));
        }
        if name == "kubelet.service" {
            after.inactive_at = after.active.then(jiff::Timestamp::now);
            let configured = self.files.contains_key(std::path::Path::new("/var/lib/kubelet/config.yaml"));
            self.kubelet_healthy = after.active && configured;
        }
        if let Some(runtime) = RuntimeName::ALL.into_iter().find(|runtime| runtime.row().unit == name) {
            self.runtime_ran(runtime, after.active);
        }
        self.units.insert(name.to_owned(), after);
        Ok(())
    }
}
