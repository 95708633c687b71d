//! Errands: short programs that need a right which the agent itself gave up, or another user. systemd runs each as a unit
//! of its own and the agent waits for its end; nothing is found again later, so only what may be done twice is an errand.
//! Input and output are memory, so that what a user's file holds comes onto no disk and into no log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_proto::cause::chain;
use rustix::fs::MemfdFlags;
use tokio::time::Instant;
use zbus::{Fd, OwnedVariant, Variant};

use super::bus::{Bus, is_unknown_unit, refused};
use super::child::{self, Answer, LARGEST};
use super::result::Progress;
use super::transient::{Limits, sealed};
use super::units;
use crate::host::HostError;

/// Between SIGTERM and SIGKILL, and what the agent waits longer than the unit's own limit.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// No errand goes on longer: that of the longest limit, swapoff, with what its end may take.
const LEFT_LIMIT: Duration = Duration::from_secs(320);

/// How the names of all their units begin.
const PREFIX: &str = "muster-errand-";

const LOOK_FIRST: Duration = Duration::from_millis(10);
const LOOK_LATER: Duration = Duration::from_millis(200);

/// More than any errand needs.
const LIMITS: Limits = Limits { processes: 16, memory: 256 * 1024 * 1024, stop: STOP_LIMIT };

/// What is run, and as whom.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<String>,
    /// User and group; root without.
    pub(super) user: Option<(u32, u32)>,
    pub(super) limit: Duration,
}

/// Whether there is a systemd to ask, and we may ask it. In a test there is none: then a plain child does the same.
pub(super) fn possible() -> bool {
    Path::new("/run/systemd/system").is_dir() && nix::unistd::geteuid().is_root()
}

/// Removes the units that errands of an earlier life of the agent left behind; one that still runs is waited for: a second
/// swapoff of the same device fails, a second writer of a user's file has the same temporary name.
pub(super) async fn clear_left() {
    if !possible() {
        return;
    }
    if let Err(error) = clear().await {
        tracing::warn!(error = chain(&error), "units of an earlier life of the agent may be left");
    }
}

async fn clear() -> Result<(), HostError> {
    let own = own_prefix();
    let deadline = Instant::now() + LEFT_LIMIT;
    loop {
        let bus = Bus::connect().await?;
        let loaded =
            bus.systemd.list_units().await.map_err(|error| refused("to list its units", error))?.into_iter();
        let is_left = |name: &String| name.starts_with(PREFIX) && !name.starts_with(&own);
        let mut running = false;
        for unit in loaded.map(|unit| unit.0).filter(is_left) {
            match Progress::look(&bus, &unit).await? {
                Some(progress) if progress.is_running() => running = true,
                Some(_) => forget(&bus, &unit).await,
                None => {}
            }
        }
        if !running || Instant::now() >= deadline {
            return Ok(());
        }
        tokio::time::sleep(LOOK_LATER).await;
    }
}

impl Errand {
    /// Runs it to its end; `name` is what an error calls it.
    pub(super) async fn run(self, name: &str, input: Option<&[u8]>) -> Result<Answer, HostError> {
        let not_started = |source| HostError::NotStarted { program: name.to_owned(), source };
        let (output, error) = (memory().map_err(not_started)?, memory().map_err(not_started)?);
        let unit = fresh_name();
        let bus = Bus::connect().await?;
        let systemd = units::version(&bus).await?;
        let properties = self.properties(input, &output, &error, systemd).map_err(not_started)?;
        let owned: Result<Vec<(String, OwnedVariant)>, zbus::Error> = properties
            .into_iter()
            .map(|(name, value)| Ok((name.to_owned(), value.try_into_owned()?)))
            .collect();
        let failed = |error| refused(format!("to run {name}"), error);
        let owned = owned.map_err(failed)?;
        bus.systemd
            .start_transient_unit(unit.clone(), "fail".into(), owned, Vec::new())
            .await
            .map_err(failed)?;
        let ended = self.end(&bus, &unit, name).await;
        forget(&bus, &unit).await;
        let (exit_code, problem) = ended?.result();
        let code = match (exit_code, problem) {
            (Some(code), None) => code,
            (_, problem) => {
                let message = problem.unwrap_or_else(|| "it ended without an exit code".to_owned());
                return Err(HostError::Systemd { what: format!("to run {name}"), message });
            }
        };
        let output = beginning(output, LARGEST + 1).map_err(not_started)?;
        // Words for a person: their beginning is enough.
        let error = beginning(error, LARGEST).map_err(not_started)?;
        Ok(Answer {
            status: ExitStatus::from_raw(code << 8),
            output: child::whole(output, name)?,
            error: String::from_utf8_lossy(&error).into_owned(),
        })
    }

    async fn end(&self, bus: &Bus, unit: &str, name: &str) -> Result<Progress, HostError> {
        let deadline = Instant::now() + self.limit + STOP_LIMIT + STOP_LIMIT;
        let mut pause = LOOK_FIRST;
        loop {
            match Progress::look(bus, unit).await? {
                Some(progress) if progress.is_running() => {}
                Some(progress) => return Ok(progress),
                None => {
                    let message = "its unit was removed from outside".to_owned();
                    return Err(HostError::Systemd { what: format!("to run {name}"), message });
                }
            }
            if Instant::now() >= deadline {
                return Err(HostError::TimedOut { what: name.to_owned(), limit: self.limit });
            }
            tokio::time::sleep(pause).await;
            pause = LOOK_LATER.min(pause * 2);
        }
    }

    fn properties(
        &self,
        input: Option<&[u8]>,
        output: &File,
        error: &File,
        systemd: u32,
    ) -> std::io::Result<Vec<(&'static str, Variant<'static>)>> {
        let path = self.path.to_string_lossy().into_owned();
        let command: Vec<String> =
            std::iter::once(path.clone()).chain(self.arguments.iter().cloned()).collect();
        let environment =
            vec![format!("PATH={}", child::SEARCH_PATH), "HOME=/".to_owned(), "LANG=C".to_owned()];
        let mut properties = vec![
            ("Description", Variant::from("Muster: a short errand of the agent")),
            ("Type", Variant::from("oneshot")),
            ("RemainAfterExit", Variant::from(true)),
            ("ExecStart", Variant::from(vec![(path, command, false)])),
            ("Environment", Variant::from(environment)),
            ("NoNewPrivileges", Variant::from(true)),
            ("StandardOutputFileDescriptor", Variant::from(Fd::from(OwnedFd::from(output.try_clone()?)))),
            ("StandardErrorFileDescriptor", Variant::from(Fd::from(OwnedFd::from(error.try_clone()?)))),
        ];
        properties.extend(LIMITS.properties(self.limit, systemd));
        if let Some((user, group)) = self.user {
            properties.push(("User", Variant::from(user.to_string())));
            properties.push(("Group", Variant::from(group.to_string())));
        }
        if let Some(input) = input {
            properties.push(("StandardInputFileDescriptor", Variant::from(Fd::from(sealed(input)?))));
        }
        Ok(properties)
    }
}

/// A name that no other life of the agent gave.
fn fresh_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{}{now:x}-{}.service", own_prefix(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// How the names of this life's units begin.
fn own_prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

fn memory() -> std::io::Result<File> {
    Ok(rustix::fs::memfd_create("muster-errand", MemfdFlags::CLOEXEC)?.into())
}

fn beginning(mut memory: File, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    memory.seek(SeekFrom::Start(0))?;
    memory.take(bytes).read_to_end(&mut content)?;
    Ok(content)
}

/// The unit's result is known; that systemd forgets it too is tidiness.
async fn forget(bus: &Bus, unit: &str) {
    let _ = bus.systemd.reset_failed_unit(unit.to_owned()).await;
    match bus.systemd.stop_unit(unit.to_owned(), "replace".into()).await {
        Err(error) if !is_unknown_unit(&error) => tracing::warn!(unit, %error, "an errand's unit is left"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errand_has_limits_of_time_memory_and_processes_and_gains_no_privileges() {
        let errand = Errand {
            path: "/usr/bin/true".into(),
            arguments: Vec::new(),
            user: Some((1000, 1000)),
            limit: Duration::from_secs(3),
        };
        let (output, error) = (memory().unwrap(), memory().unwrap());
        let properties = errand.properties(None, &output, &error, 252).unwrap();
        let number = |name: &str| {
            let found = properties.iter().find(|(known, _)| *known == name);
            u64::try_from(&found.unwrap_or_else(|| panic!("no {name}")).1).unwrap()
        };
        assert_eq!((number("TimeoutStartUSec"), number("TasksMax")), (3_000_000, 16));
        assert_eq!(number("MemoryMax"), 256 << 20);
        assert!(properties.iter().any(|(name, _)| *name == "NoNewPrivileges"));
        assert!(properties.iter().any(|(name, _)| *name == "User"), "not root");
    }

    #[test]
    fn an_errands_answer_that_is_longer_than_any_is_an_error_and_is_not_cut() {
        let read = |printed: u64| {
            let memory = memory().unwrap();
            memory.set_len(printed).unwrap();
            child::whole(beginning(memory, LARGEST + 1).unwrap(), "iptables-save")
        };
        assert_eq!(read(LARGEST).unwrap().len() as u64, LARGEST);
        assert!(matches!(read(LARGEST + 1), Err(HostError::TooLong { .. })));
    }

    #[test]
    fn no_two_errands_have_one_name() {
        let names: std::collections::BTreeSet<String> = (0..100).map(|_| fresh_name()).collect();
        assert_eq!(names.len(), 100);
    }
}
