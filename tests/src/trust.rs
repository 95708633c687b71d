//! A coordinator and machines under temporary folders, on real sockets.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use muster_agent::connect::dial::Endpoint;
use muster_agent::connect::enrol::{EnrollError, enroll};
use muster_agent::connect::identity::Identity;
use muster_agent::connect::service::{ListenReplies, Replies, Steps};
use muster_agent::connect::{connection, settings};
use muster_coordinator::cli;
use muster_coordinator::daemon::Daemon;
use muster_coordinator::settings::{Limits, Paths, Settings};
use muster_proto::agent::{
    CheckStepReply, CheckStepRequest, HostReport, InspectRequest, ListenRequest, ReachReply, ReachRequest,
    RunStepRequest,
};
use muster_proto::coordinator::admin_client::AdminClient;
use muster_proto::coordinator::{ListNodesRequest, NodeRow};
use muster_proto::names::NodeName;
use muster_proto::settings_file::SettingsFile;
use muster_proto::token::EnrolmentToken;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

/// Stands where the engine is: these tests are about who may ask, not about what.
#[derive(Clone)]
pub struct NoSteps;

impl Steps for NoSteps {
    async fn check(&self, _: CheckStepRequest) -> Result<CheckStepReply, Status> {
        Ok(CheckStepReply::default())
    }
    async fn run(&self, _: RunStepRequest) -> Result<Replies, Status> {
        Err(Status::unimplemented("no steps here"))
    }
    async fn inspect(&self, _: InspectRequest) -> Result<HostReport, Status> {
        Ok(HostReport::default())
    }
    async fn listen(&self, _: ListenRequest, _: IpAddr) -> Result<ListenReplies, Status> {
        Err(Status::unimplemented("no doors here"))
    }
    async fn reach(&self, _: ReachRequest) -> Result<ReachReply, Status> {
        Ok(ReachReply::default())
    }
}

/// A coordinator at work in a temporary folder.
pub struct Coordinator {
    pub root: TempDir,
    pub daemon: Daemon,
}

impl Coordinator {
    pub async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub async fn start_with(limits: Limits) -> Self {
        let root = tempfile::tempdir().unwrap();
        let daemon = Self::daemon(root.path(), limits, 0).await;
        Self { root, daemon }
    }

    async fn daemon(root: &Path, limits: Limits, port: u16) -> Daemon {
        let paths = Paths::under(root);
        std::fs::create_dir_all(&paths.runtime).unwrap();
        let address = IpAddr::from([127, 0, 0, 1]);
        let admin_group = "no-such-group".to_owned();
        Daemon::start(Settings { address, port, paths, limits, admin_group }).await.unwrap()
    }

    /// Ends the daemon and starts it again over the same state, on the same port.
    pub async fn restart(self) -> Self {
        let Self { root, daemon } = self;
        let port = daemon.address.port();
        drop(daemon);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let daemon = Self::daemon(root.path(), Limits::default(), port).await;
        Self { root, daemon }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.daemon.address.ip(), self.daemon.address.port())
    }

    /// A token for this node, valid for a minute.
    pub fn token(&self, node: &str) -> EnrolmentToken {
        self.token_for(node, Duration::from_secs(60))
    }

    pub fn token_for(&self, node: &str, lifetime: Duration) -> EnrolmentToken {
        let token = EnrolmentToken::generate(self.daemon.authority.pin()).unwrap();
        let now = Timestamp::now();
        self.daemon.store.add_token(&token, &node.parse().unwrap(), now + lifetime, now).unwrap();
        token
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        cli::admin(&Paths::under(self.root.path())).await.unwrap()
    }

    pub async fn nodes(&self) -> Vec<NodeRow> {
        self.admin().await.list_nodes(ListNodesRequest {}).await.unwrap().into_inner().nodes
    }
}

/// A machine with an agent, in a temporary folder.
pub struct Machine {
    pub root: TempDir,
    pub paths: settings::Paths,
}

impl Machine {
    pub fn fresh() -> Self {
        let root = tempfile::tempdir().unwrap();
        let paths = settings::Paths::under(root.path());
        Self { root, paths }
    }

    pub async fn enrol(
        &self,
        coordinator: &Coordinator,
        token: &EnrolmentToken,
    ) -> Result<NodeName, EnrollError> {
        enroll(&self.paths, &coordinator.endpoint(), token).await
    }

    pub fn identity(&self) -> Identity {
        Identity::open(&self.paths.identity()).unwrap()
    }

    /// `agent serve`, in the background.
    pub fn serve(&self, coordinator: &Coordinator) -> JoinHandle<()> {
        let (identity, endpoint) = (self.identity(), coordinator.endpoint());
        let settings = settings::Settings::load(&self.paths.configuration).unwrap();
        tokio::spawn(async move {
            connection::serve(&identity, &endpoint, &settings.node, NoSteps).await;
        })
    }
}
