//! The daemon's own systemd unit, enabled and started over D-Bus, and the wait until the daemon answers.

use std::time::Duration;

use muster_proto::coordinator::ListNodesRequest;
use tokio::time::{Instant, sleep};
use zbus_systemd::systemd1::{ManagerProxy, UnitProxy};
use zbus_systemd::zbus::proxy::CacheProperties;

use crate::cli::{ClientError, admin};
use crate::settings::Paths;

/// The unit of `coordinator serve`.
pub const UNIT: &str = "muster-coordinator.service";

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The daemon does not come up.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(
        "systemd does not enable or start {UNIT}: is the package muster-coordinator installed? `systemctl status {UNIT}` says more"
    )]
    Systemd(#[from] zbus_systemd::zbus::Error),
    #[error("{UNIT} does not start: `journalctl -u {UNIT}` says why")]
    Failed,
    #[error("{UNIT} runs, but does not answer within {START_TIMEOUT:?}: `journalctl -u {UNIT}` says why")]
    Mute(#[source] ClientError),
}

/// Enables the unit and starts it, unless it runs.
pub async fn enable_and_start() -> Result<(), ServiceError> {
    let bus = zbus_systemd::zbus::connection::Builder::system().method_timeout(START_TIMEOUT).build().await?;
    let systemd = ManagerProxy::new(&bus).await?;
    systemd.enable_unit_files(vec![UNIT.to_owned()], false, false).await?;
    systemd.reload().await?;
    systemd.start_unit(UNIT.to_owned(), "replace".to_owned()).await?;
    // Not from zbus' cache: nobody subscribed, so that systemd would not tell it of a change.
    let unit = UnitProxy::builder(&bus)
        .path(systemd.load_unit(UNIT.to_owned()).await?)
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        match unit.active_state().await?.as_str() {
            "active" => return Ok(()),
            "failed" => return Err(ServiceError::Failed),
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
    Err(ServiceError::Failed)
}

/// Waits until the daemon answers on its admin socket.
pub async fn wait_for_answer(paths: &Paths) -> Result<(), ServiceError> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let asked = tokio::time::timeout_at(deadline, ask(paths)).await;
        match asked.unwrap_or_else(|_| Err(ClientError::Lost("it takes the question and is silent".into()))) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(ServiceError::Mute(error)),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn ask(paths: &Paths) -> Result<(), ClientError> {
    admin(paths).await?.list_nodes(ListNodesRequest {}).await?;
    Ok(())
}
