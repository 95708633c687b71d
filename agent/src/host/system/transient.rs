//! Programs as systemd transient units: they survive the agent, cannot run twice under one name, and keep their result
//! until it is taken. Only properties that systemd 229 (Ubuntu 16.04) knows already are used, but for the one that changed its name.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_proto::event::Outcome;
use muster_proto::failpoint::{self, Point};
use rustix::fs::{MemfdFlags, SealFlags};
use secrecy::ExposeSecret;
use tokio::time::Instant;
use zbus::{Fd, OwnedVariant, Variant};

use super::bus::{Bus, is_unknown_unit, refused};
use super::output::{self, Stream};
use super::result::Progress;
use super::{child, files, units};
use crate::host::HostError;
use crate::host::change::{Applied, ChangeId, Program};

/// After its limit a program gets this long between SIGTERM and SIGKILL.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// More processes and more memory than any program of the closed list needs; what is beyond would hurt the node.
const LIMITS: Limits = Limits { processes: 4096, memory: 1024 * 1024 * 1024, stop: STOP_LIMIT };

/// How much longer than the unit's own limit the agent waits for systemd to end it.
const GRACE: Duration = Duration::from_secs(60);

/// A disk that needs longer for what a program wrote does not work as one should.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

/// How often a running program is looked at: quick ones are not kept waiting, long ones not disturbed.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_LATER: Duration = Duration::from_millis(200);

/// What a unit may take at most, besides the time that each is given.
pub(super) struct Limits {
    pub(super) processes: u64,
    pub(super) memory: u64,
    /// Between SIGTERM and SIGKILL.
    pub(super) stop: Duration,
}

impl Limits {
    pub(super) fn properties(&self, time: Duration, systemd: u32) -> [(&'static str, Variant<'static>); 4] {
        // The old name is gone with the old cgroups in 258; before 231 it is the only one.
        let memory = if systemd < 231 { "MemoryLimit" } else { "MemoryMax" };
        [
            ("TimeoutStartUSec", Variant::from(microseconds(time))),
            ("TimeoutStopUSec", Variant::from(microseconds(self.stop))),
            ("TasksMax", Variant::from(self.processes)),
            (memory, Variant::from(self.memory)),
        ]
    }
}

/// The units of one host, and the folder that their output goes to.
#[derive(Debug, Clone)]
pub(super) struct Transient {
    pub(super) folder: PathBuf,
}

impl Transient {
    /// Starts the program and waits for its end. An id whose unit exists is refused: the same change never runs twice. An
    /// error is `EndUnknown` from the moment that systemd was asked.
    pub(super) async fn run(&self, id: &ChangeId, program: &Program) -> Result<Applied, HostError> {
        let unit = id.unit();
        let bus = Bus::connect().await?;
        let what = format!("to start {unit}");
        if Progress::look(&bus, &unit).await?.is_some() {
            let message =
                "a unit of this name exists: an earlier life of the agent started this change".to_owned();
            return Err(HostError::Systemd { what, message });
        }
        let properties = self.properties(id, program, units::version(&bus).await?)?;
        let started =
            bus.systemd.start_transient_unit(unit.clone(), "fail".into(), properties, Vec::new()).await;
        let unknown = |source| HostError::EndUnknown { unit: unit.clone(), source: Box::new(source) };
        if let Err(error) = started {
            // With a broken bus the unit may run all the same: its existence decides.
            let refusal = refused(what, error);
            let look = async { Progress::look(&Bus::connect().await?, &unit).await };
            if look.await.map_err(unknown)?.is_none() {
                return Err(refusal);
            }
        }
        failpoint::reach(Point::MidEffect, &id.step).await;
        self.finish(&unit, program.limit).await.map_err(unknown)
    }

    /// Waits for the end of a unit that exists and takes its result; none when there is no such unit.
    pub(super) async fn attach(&self, id: &ChangeId) -> Result<Option<Applied>, HostError> {
        let unit = id.unit();
        match Progress::look(&Bus::connect().await?, &unit).await? {
            Some(progress) => self.finish(&unit, progress.limit).await.map(Some),
            None => Ok(None),
        }
    }

    /// Removes the unit, which must have ended, and then its output.
    pub(super) async fn forget(&self, id: &ChangeId) -> Result<(), HostError> {
        let unit = id.unit();
        let what = format!("to forget {unit}");
        let bus = Bus::connect().await?;
        let deadline = Instant::now() + STOP_LIMIT;
        while let Some(progress) = Progress::look(&bus, &unit).await? {
            if progress.is_running() {
                return Err(HostError::Systemd { what, message: "it still runs".to_owned() });
            }
            // A failed unit goes with reset-failed, one that remains after its exit with a stop.
            let _ = bus.systemd.reset_failed_unit(unit.clone()).await;
            let stopped = bus.systemd.stop_unit(unit.clone(), "replace".into()).await;
            match stopped {
                Err(error) if !is_unknown_unit(&error) => return Err(refused(what, error)),
                _ if Instant::now() >= deadline => {
                    return Err(HostError::TimedOut { what: unit, limit: STOP_LIMIT });
                }
                _ => tokio::time::sleep(LOOK_FIRST).await,
            }
        }
        for path in [self.output(&unit), self.error(&unit)] {
            files::remove(path).await?;
        }
        Ok(())
    }

    fn output(&self, unit: &str) -> PathBuf {
        self.folder.join(format!("{unit}.stdout"))
    }

    fn error(&self, unit: &str) -> PathBuf {
        self.folder.join(format!("{unit}.stderr"))
    }

    /// Until the unit ended, over broken connections if need be.
    async fn finish(&self, unit: &str, limit: Duration) -> Result<Applied, HostError> {
        let wait = limit + STOP_LIMIT + GRACE;
        let deadline = Instant::now() + wait;
        let (mut bus, mut pause) = (None, LOOK_FIRST);
        let ended = loop {
            let looked = async {
                let connected = match bus.take() {
                    Some(connected) => connected,
                    None => Bus::connect().await?,
                };
                let progress = Progress::look(&connected, unit).await?;
                bus = Some(connected);
                Ok::<_, HostError>(progress)
            };
            match looked.await {
                Ok(Some(progress)) if progress.is_running() => {}
                Ok(ended) => break ended,
                Err(error) if Instant::now() >= deadline => return Err(error),
                // systemd that reloads, a bus that restarts: the unit goes on.
                Err(error) => tracing::warn!(unit, %error, "systemd could not be asked; asking again"),
            }
            if Instant::now() >= deadline {
                return Err(HostError::TimedOut { what: unit.to_owned(), limit: wait });
            }
            tokio::time::sleep(pause).await;
            pause = LOOK_LATER.min(pause * 2);
        };
        settle_on_disk().await?;
        self.take(unit, ended)
    }

    /// The result of a unit that ended; none stands for one that somebody stopped or removed.
    fn take(&self, unit: &str, ended: Option<Progress>) -> Result<Applied, HostError> {
        let read = |path: PathBuf| Stream::read(&path).map_err(|problem| files::with_path(problem, path));
        let (standard_output, standard_error) = (read(self.output(unit))?, read(self.error(unit))?);
        let (output, output_cut) = output::both(&standard_output, &standard_error);
        let (exit_code, error) = ended.as_ref().map_or_else(
            || (None, Some(format!("{unit} was stopped or removed from outside before its end was seen"))),
            Progress::result,
        );
        let duration_ms = ended.as_ref().map_or(0, Progress::duration_ms);
        Ok(Applied {
            made: exit_code == Some(0) && error.is_none(),
            outcome: Outcome { exit_code, output, output_cut, duration_ms, error },
            standard_output: standard_output.secret(),
        })
    }

    fn properties(
        &self,
        id: &ChangeId,
        program: &Program,
        systemd: u32,
    ) -> Result<Vec<(String, OwnedVariant)>, HostError> {
        let name = program.program.name();
        let path = child::find(name).ok_or_else(|| HostError::NotStarted {
            program: name.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let path = path.to_string_lossy().into_owned();
        let unit = id.unit();
        let stream = |path: PathBuf| -> Result<OwnedFd, HostError> {
            let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files::make_folders(&self.folder, 0o700)
                .and_then(|folder| folder.fresh(&file_name))
                .map_err(|problem| files::with_path(problem, path))
        };
        let command =
            vec![path.clone()].into_iter().chain(program.arguments.iter().cloned()).collect::<Vec<_>>();
        let mut environment =
            vec![format!("PATH={}", child::SEARCH_PATH), "HOME=/root".into(), "LANG=C".into()];
        environment.extend(program.environment.iter().map(|variable| variable.assignment().to_owned()));
        let mut properties = vec![
            ("Description", Variant::from(format!("Muster: {}, change {}: {program}", id.step, id.index))),
            ("Type", Variant::from("oneshot")),
            ("RemainAfterExit", Variant::from(true)),
            ("ExecStart", Variant::from(vec![(path, command, false)])),
            ("Environment", Variant::from(environment)),
            ("KillMode", Variant::from("control-group")),
            ("StandardOutputFileDescriptor", Variant::from(Fd::from(stream(self.output(&unit))?))),
            ("StandardErrorFileDescriptor", Variant::from(Fd::from(stream(self.error(&unit))?))),
        ];
        properties.extend(LIMITS.properties(failpoint::limit(program.limit), systemd));
        // Without it, systemd gives /dev/null.
        if let Some(input) = &program.input {
            let file = sealed(input.expose_secret().as_bytes())
                .map_err(|source| HostError::NotStarted { program: name.to_owned(), source })?;
            properties.push(("StandardInputFileDescriptor", Variant::from(Fd::from(file))));
        }
        let owned = |(name, value): (&str, Variant<'static>)| Ok((name.to_owned(), value.try_into_owned()?));
        properties
            .into_iter()
            .map(owned)
            .collect::<Result<_, zbus::Error>>()
            .map_err(|error| refused(format!("the properties of {unit}"), error))
    }
}

/// What a program wrote is on the disk before the journal tells its end: kubeadm and the kubelet sync nothing, and after a
/// loss of power their empty files would contradict a journal that says "made". An error when the disk does not take it.
async fn settle_on_disk() -> Result<(), HostError> {
    const PLACES: [&str; 2] = ["/etc", "/var/lib"];
    within(SETTLE_LIMIT, || PLACES.iter().try_for_each(|place| sync(place.as_ref()))).await
}

fn sync(place: &Path) -> Result<(), HostError> {
    let synced = File::open(place).and_then(|place| Ok(rustix::fs::syncfs(place)?));
    synced.map_err(|source| HostError::File {
        action: "bringing what a program wrote onto the disk",
        path: place.to_owned(),
        source,
    })
}

/// The call goes on after the limit, as nothing can end it; nobody waits for it any more.
async fn within(
    limit: Duration,
    work: impl FnOnce() -> Result<(), HostError> + Send + 'static,
) -> Result<(), HostError> {
    let what = || "the disk that has to take what a program wrote".to_owned();
    match tokio::time::timeout(limit, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(synced)) => synced,
        Ok(Err(error)) => Err(HostError::Unexpected { what: what(), message: error.to_string() }),
        Err(_) => Err(HostError::TimedOut { what: what(), limit }),
    }
}

/// The bytes in memory that nobody can change any more, never on a disk.
pub(super) fn sealed(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("muster-input", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(0))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

fn microseconds(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::change::ProgramName;

    #[tokio::test]
    async fn a_disk_that_does_not_take_what_a_program_wrote_or_does_not_answer_is_an_error() {
        let missing = Path::new("/no/such/place");
        let error = within(SETTLE_LIMIT, || sync(missing)).await.unwrap_err();
        assert!(matches!(&error, HostError::File { path, .. } if path == missing), "{error}");
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let hanging = move || {
            let _ = hangs.recv();
            Ok(())
        };
        let error = within(Duration::from_millis(20), hanging).await.unwrap_err();
        assert!(matches!(error, HostError::TimedOut { .. }), "{error}");
        drop(release);
        settle_on_disk().await.unwrap();
    }

    #[test]
    fn every_program_is_given_limits_of_time_memory_and_processes() {
        let folder = tempfile::tempdir().unwrap();
        let transient = Transient { folder: folder.path().to_owned() };
        let id = ChangeId { step: "m1/test".parse().unwrap(), index: 0 };
        let program =
            Program::new(ProgramName::Swapon, ["--version"], Duration::from_secs(7)).with_input("x");
        for (systemd, memory) in [(229, "MemoryLimit"), (231, "MemoryMax"), (258, "MemoryMax")] {
            let properties = transient.properties(&id, &program, systemd).unwrap();
            let number = |name: &str| {
                let found = properties.iter().find(|(known, _)| known == name);
                u64::try_from(&found.unwrap_or_else(|| panic!("no {name}")).1).unwrap()
            };
            assert_eq!(number("TimeoutStartUSec"), 7_000_000);
            assert_eq!(number("TimeoutStopUSec"), 10_000_000);
            assert_eq!((number("TasksMax"), number(memory)), (4096, 1 << 30), "systemd {systemd}");
        }
    }
}
