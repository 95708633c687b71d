//! The agent's own systemd unit: after enrolment it is enabled and started, over D-Bus.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use zbus::proxy::CacheProperties;
use zbus_systemd::systemd1::{ManagerProxy, UnitProxy};

/// The unit of `agent serve`.
pub const UNIT: &str = "muster-agent.service";

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The unit does not run.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    #[error(
        "systemd does not enable or start {UNIT}: is the package muster-agent installed? `systemctl status {UNIT}` says more"
    )]
    Systemd(#[from] zbus::Error),
    #[error("{UNIT} does not start: `journalctl -u {UNIT}` says why")]
    Failed,
}

/// Enables the unit and starts it anew, so that it takes up the identity that was just made.
pub async fn enable_and_restart() -> Result<(), UnitError> {
    let bus = zbus::connection::Builder::system().method_timeout(START_TIMEOUT).build().await?;
    let systemd = ManagerProxy::new(&bus).await?;
    systemd.enable_unit_files(vec![UNIT.to_owned()], false, false).await?;
    systemd.reload().await?;
    systemd.restart_unit(UNIT.to_owned(), "replace".to_owned()).await?;
    // Not from zbus' cache: nobody subscribed, so that systemd would not tell it of a change.
    let unit = UnitProxy::builder(&bus)
        .path(systemd.load_unit(UNIT.to_owned()).await?)
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    let started = timeout(START_TIMEOUT, async {
        loop {
            match unit.active_state().await?.as_str() {
                "active" => return Ok(()),
                "failed" => return Err(UnitError::Failed),
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    });
    started.await.unwrap_or(Err(UnitError::Failed))
}
