//! systemd units: how they stand, and starting, stopping, enabling and masking them.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;

use super::bus::{Bus, Properties, refused};
use crate::host::HostError;
use crate::host::change::UnitAction;
use crate::host::query::Unit;

/// systemd's own limits end most jobs after 90 s; a runtime with many containers stops slowly.
const JOB_LIMIT: Duration = Duration::from_secs(240);

/// What systemd knows of a unit; also of one that does not exist.
pub(super) async fn state(name: &str) -> Result<Unit, HostError> {
    let properties = properties(name).await?;
    let since = i64::try_from(properties.unsigned("InactiveEnterTimestamp")).unwrap_or_default();
    let (load, active) = (properties.text("LoadState"), properties.text("ActiveState"));
    Ok(Unit {
        exists: matches!(load, "loaded" | "masked"),
        active: matches!(active, "active" | "activating" | "reloading"),
        file_state: properties.text("UnitFileState").to_owned(),
        state: format!("{active} ({})", properties.text("SubState")),
        inactive_at: Timestamp::from_microsecond(since).ok().filter(|_| since > 0),
    })
}

/// The files that make up a unit, in the order in which they count: its own, then its drop-ins.
pub(super) async fn files(name: &str) -> Result<Vec<PathBuf>, HostError> {
    let properties = properties(name).await?;
    let own = Some(properties.text("FragmentPath")).filter(|path| !path.is_empty());
    let paths = own.map(str::to_owned).into_iter().chain(properties.texts("DropInPaths"));
    Ok(paths.map(PathBuf::from).collect())
}

/// When the unit became active last; none when it never was.
pub(super) async fn active_since(name: &str) -> Result<Option<Timestamp>, HostError> {
    let since = properties(name).await?.unsigned("ActiveEnterTimestamp");
    let since = i64::try_from(since).ok().filter(|since| *since > 0);
    Ok(since.and_then(|since| Timestamp::from_microsecond(since).ok()))
}

async fn properties(name: &str) -> Result<Properties, HostError> {
    let bus = Bus::connect().await?;
    let asked = async {
        let path = bus.systemd.load_unit(name.to_owned()).await?;
        bus.unit(&path).await
    };
    asked.await.map_err(|error| refused(format!("to tell the state of {name}"), error))
}

/// `252 (252.39-1~deb12u1)`, of old releases `systemd 229`: the first number is the version.
pub(super) async fn systemd_version() -> Result<u32, HostError> {
    version(&Bus::connect().await?).await
}

/// The number alone, without what a distribution puts behind it.
pub(super) async fn version(bus: &Bus) -> Result<u32, HostError> {
    let said = bus.systemd.version().await.map_err(|error| refused("to tell its version", error))?;
    let number = said.split(|c: char| !c.is_ascii_digit()).find_map(|digits| digits.parse().ok());
    number.ok_or_else(|| HostError::Unexpected { what: "systemd's version".to_owned(), message: said })
}

/// What systemd gives every service in its environment.
pub(super) async fn manager_environment() -> Result<Vec<String>, HostError> {
    let bus = Bus::connect().await?;
    bus.systemd.environment().await.map_err(|error| refused("to tell its environment", error))
}

/// The names of all .swap units: those in memory (from fstab or active) and those that only have a file.
pub(super) async fn swap_units() -> Result<Vec<String>, HostError> {
    let bus = Bus::connect().await?;
    let failed = |error| refused("to list its units", error);
    let loaded = bus.systemd.list_units().await.map_err(failed)?;
    // All files with their states cost systemd a second. One before version 230 knows no patterns.
    let files = match bus.systemd.list_unit_files_by_patterns(Vec::new(), vec!["*.swap".to_owned()]).await {
        Ok(files) => files,
        Err(_) => bus.systemd.list_unit_files().await.map_err(failed)?,
    };
    let loaded = loaded.into_iter().filter(|unit| unit.2 != "not-found").map(|unit| unit.0);
    let with_file = files.into_iter().map(|(path, _)| path.rsplit('/').next().unwrap_or_default().to_owned());
    let mut names: Vec<String> = loaded.chain(with_file).filter(|name| name.ends_with(".swap")).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Does it and waits for its end.
pub(super) async fn act(name: &str, action: UnitAction) -> Result<(), HostError> {
    let bus = Bus::connect().await?;
    let what = format!("to {} {name}", action.verb());
    let files = || vec![name.to_owned()];
    let failed = |error| refused(&what, error);
    match action {
        UnitAction::Start | UnitAction::Stop | UnitAction::Restart => {
            return tokio::time::timeout(JOB_LIMIT, job(&bus, name, action, &what)).await.map_err(|_| {
                HostError::TimedOut { what: format!("systemd, asked {what},"), limit: JOB_LIMIT }
            })?;
        }
        UnitAction::Enable => {
            bus.systemd.enable_unit_files(files(), false, false).await.map_err(failed)?;
        }
        UnitAction::Disable => {
            bus.systemd.disable_unit_files(files(), false).await.map_err(failed)?;
        }
        UnitAction::Mask => {
            bus.systemd.mask_unit_files(files(), false, false).await.map_err(failed)?;
        }
        UnitAction::Unmask => {
            bus.systemd.unmask_unit_files(files(), false).await.map_err(failed)?;
        }
    }
    bus.systemd.reload().await.map_err(failed)
}

/// systemd reads its unit files again.
pub(super) async fn reload() -> Result<(), HostError> {
    let bus = Bus::connect().await?;
    bus.systemd.reload().await.map_err(|error| refused("to read its unit files again", error))
}

/// Starts that failed before count against the unit's limit (`Start request repeated too quickly`), although what made them
/// fail may be put right by now. A socket that starts a service fails with it (`service-start-limit-hit`), and while it is in
/// that state the service does not start either: docker.socket does so (systemd 252, seen). A unit that systemd does not know
/// has no count.
async fn forget_failures(bus: &Bus, name: &str) {
    let triggers = match bus.systemd.get_unit(name.to_owned()).await {
        Ok(path) => bus.unit(&path).await.map(|unit| unit.texts("TriggeredBy")).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    for unit in triggers.into_iter().chain([name.to_owned()]) {
        let _ = bus.systemd.reset_failed_unit(unit).await;
    }
}

/// One job to its end. Subscribed before the job exists, so that its end cannot be missed.
async fn job(bus: &Bus, name: &str, action: UnitAction, what: &str) -> Result<(), HostError> {
    let failed = |error| refused(what, error);
    if matches!(action, UnitAction::Start | UnitAction::Restart) {
        forget_failures(bus, name).await;
    }
    bus.systemd.subscribe().await.map_err(failed)?;
    let mut removed = bus.systemd.receive_job_removed().await.map_err(failed)?;
    let (unit, mode) = (name.to_owned(), "replace".to_owned());
    let job = match action {
        UnitAction::Stop => bus.systemd.stop_unit(unit, mode).await,
        UnitAction::Restart => bus.systemd.restart_unit(unit, mode).await,
        _ => bus.systemd.start_unit(unit, mode).await,
    }
    .map_err(failed)?;
    while let Some(signal) = removed.next().await {
        let ended = signal.args().map_err(failed)?;
        if ended.job != job {
            continue;
        }
        return match ended.result.as_str() {
            "done" | "skipped" => Ok(()),
            other => {
                let state = state(name).await.map(|unit| unit.state).unwrap_or_default();
                let message = format!(
                    "the job ended with `{other}`; {name} is {state}; `journalctl -u {name}` says more"
                );
                Err(HostError::Systemd { what: what.to_owned(), message })
            }
        };
    }
    Err(HostError::Systemd {
        what: what.to_owned(),
        message: "the system bus closed the connection".to_owned(),
    })
}
