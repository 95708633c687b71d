//! `coordinator serve`: settings, store, authority, fleet, port and sockets, on one page.

use std::net::SocketAddr;

use muster_proto::coordinator::admin_server::AdminServer;
use muster_proto::coordinator::status_server::StatusServer;
use muster_proto::journal::{Journal, JournalError};
use muster_proto::private_file::{self, FileError};
use muster_proto::transport::MESSAGE_LIMIT;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tonic::service::RoutesBuilder;

use crate::admin::AdminService;
use crate::doors::authority::{Authority, AuthorityError};
use crate::doors::fleet::Fleet;
use crate::doors::listener::{self, Doorkeeper, ListenError};
use crate::doors::sockets::{self, Access, SocketError};
use crate::doors::store::{Store, StoreError};
use crate::doors::tls::{Faces, TlsError};
use crate::runs::{Runs, RunsError};
use crate::settings::Settings;
use crate::status::StatusService;

/// Why the daemon cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Runs(#[from] RunsError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("the signals of the system cannot be had")]
    Signals(#[source] std::io::Error),
    #[error("a part of the coordinator ended by itself: its log says why; systemd starts it again")]
    PartEnded,
}

/// A coordinator at work; dropping it ends everything.
pub struct Daemon {
    /// Where agents dial; the port is a real one even if the settings said 0.
    pub address: SocketAddr,
    pub fleet: Fleet,
    pub store: Store,
    pub authority: Authority,
    parts: JoinSet<()>,
}

impl Daemon {
    /// Starts everything; when this returns, port and sockets answer.
    pub async fn start(settings: Settings) -> Result<Self, DaemonError> {
        let paths = &settings.paths;
        private_file::make_folder(&paths.state)?;
        let authority = Authority::open(&paths.state.join("authority"))?;
        let store = Store::open(&paths.state.join("nodes.db"))?;
        let fleet = Fleet::new();
        let journal = Journal::open(&paths.journal())?;
        let record = paths.runs();
        let runs = Runs::open(journal.clone(), &record, fleet.clone(), store.clone())?;

        let port = listener::listen(SocketAddr::new(settings.address, settings.port))?;
        let address = port.local_addr().map_err(DaemonError::Signals)?;
        let admin_socket = sockets::open(&paths.admin_socket(), Access::Group(&settings.admin_group)).await?;
        let status_socket = sockets::open(&paths.status_socket(), Access::Everybody).await?;

        let admin = AdminServer::new(AdminService {
            store: store.clone(),
            fleet: fleet.clone(),
            pin: authority.pin(),
            address,
            runs: runs.clone(),
        })
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
        let mut admin_routes = RoutesBuilder::default();
        admin_routes.add_service(admin);
        let status = || {
            StatusServer::new(StatusService { runs: runs.clone() }).max_encoding_message_size(MESSAGE_LIMIT)
        };
        admin_routes.add_service(status());
        let mut status_routes = RoutesBuilder::default();
        status_routes.add_service(status());

        let doorkeeper = Doorkeeper {
            faces: Faces::new(&authority, &store)?,
            authority: authority.clone(),
            store: store.clone(),
            journal,
            fleet: fleet.clone(),
            limits: settings.limits,
        };
        let mut parts = JoinSet::new();
        parts.spawn(listener::run(port, doorkeeper));
        parts.spawn(serve(
            admin_socket,
            admin_routes,
            &["muster.coordinator.v1.Admin", "muster.coordinator.v1.Status"],
        ));
        parts.spawn(serve(status_socket, status_routes, &["muster.coordinator.v1.Status"]));
        Ok(Self { address, fleet, store, authority, parts })
    }

    /// Waits for a part to end by itself, which none should.
    async fn broken(&mut self) {
        self.parts.join_next().await;
    }
}

async fn serve(listener: tokio::net::UnixListener, routes: RoutesBuilder, services: &[&'static str]) {
    if let Err(error) = sockets::serve(listener, routes, services).await {
        tracing::error!("{}", muster_proto::cause::chain(&error));
    }
}

/// Runs the coordinator until systemd asks it to stop.
pub async fn serve_until_stopped(settings: Settings) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let mut daemon = Daemon::start(settings).await?;
    tracing::info!("agents dial {}", daemon.address);
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = daemon.broken() => return Err(DaemonError::PartEnded),
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stops");
    Ok(())
}
