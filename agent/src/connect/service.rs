//! The NodeAgent service: all that the coordinator can ask of this machine.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream::BoxStream;
use muster_proto::agent::node_agent_server::NodeAgent;
use muster_proto::agent::step::Kind;
use muster_proto::agent::{
    self, CheckStepReply, CheckStepRequest, HelloReply, HelloRequest, HostReport, InspectRequest,
    ListenReply, ListenRequest, ReachReply, ReachRequest, RunStepReply, RunStepRequest,
};
use muster_proto::bounds::fitted;
use muster_proto::names::{NodeName, StepId};
use muster_proto::redaction::printable;
use muster_proto::version::{Mismatch, PROTOCOL, VERSION};
use tonic::{Request, Response, Status};

use crate::connect::facts;

/// The events of a step as they happen, and its output at the end.
pub type Replies = BoxStream<'static, Result<RunStepReply, Status>>;

/// What is heard at the doors that are held open.
pub type ListenReplies = BoxStream<'static, Result<ListenReply, Status>>;

/// What does the steps. The service hands everything to it and knows no step itself.
pub trait Steps: Clone + Send + Sync + 'static {
    /// What running the step would change.
    fn check(&self, request: CheckStepRequest)
    -> impl Future<Output = Result<CheckStepReply, Status>> + Send;

    /// Starts the step, or attaches to it when it runs already.
    fn run(&self, request: RunStepRequest) -> impl Future<Output = Result<Replies, Status>> + Send;

    /// What the host looks like, for the checks before a run.
    fn inspect(&self, request: InspectRequest) -> impl Future<Output = Result<HostReport, Status>> + Send;

    /// Holds doors open on this address while the stream lives.
    fn listen(
        &self,
        request: ListenRequest,
        address: IpAddr,
    ) -> impl Future<Output = Result<ListenReplies, Status>> + Send;

    /// Tries doors of other nodes.
    fn reach(&self, request: ReachRequest) -> impl Future<Output = Result<ReachReply, Status>> + Send;

    /// The version of the kubeadm on this host; empty when there is none.
    fn kubeadm_version(&self) -> impl Future<Output = String> + Send {
        std::future::ready(String::new())
    }
}

/// Serves one connection to the coordinator.
#[derive(Clone)]
pub struct NodeService<S> {
    steps: S,
    node: NodeName,
    address: IpAddr,
    greeted: Arc<AtomicBool>,
}

impl<S: Steps> NodeService<S> {
    /// `address` is this machine's own end of the connection.
    pub fn new(steps: S, node: NodeName, address: IpAddr) -> Self {
        Self { steps, node, address, greeted: Arc::default() }
    }

    /// Becomes true once the coordinator and this agent have understood each other.
    pub fn greeted(&self) -> Arc<AtomicBool> {
        self.greeted.clone()
    }

    /// A step for another node is none for this one, and nobody renames this node: both names must be the one that it
    /// enrolled under. What is malformed is refused where it is parsed.
    fn is_for_us(&self, step_id: &str, step: Option<&agent::Step>) -> Result<(), Status> {
        let of_id = step_id.parse::<StepId>().map(|id| id.node().to_owned()).ok();
        let of_step = match step.and_then(|step| step.kind.as_ref()) {
            Some(Kind::Hostname(step)) => Some(&step.name),
            Some(Kind::KubeadmInit(step)) => Some(&step.node),
            Some(Kind::KubeadmJoin(step)) => Some(&step.node),
            _ => None,
        };
        match of_id.iter().chain(of_step).find(|name| *name != self.node.as_str()) {
            None => Ok(()),
            Some(other) => {
                let other: String = printable(&other.chars().take(80).collect::<String>());
                Err(Status::permission_denied(format!(
                    "the step is for {other}, and this is the agent of {}",
                    self.node
                )))
            }
        }
    }
}

#[tonic::async_trait]
impl<S: Steps> NodeAgent for NodeService<S> {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let request = request.into_inner();
        if request.protocol != PROTOCOL {
            let mismatch = Mismatch {
                node: self.node.to_string(),
                coordinator: request.protocol,
                coordinator_version: printable(
                    &request.coordinator_version.chars().take(40).collect::<String>(),
                ),
                agent: PROTOCOL,
                agent_version: VERSION.to_owned(),
            };
            tracing::error!("{mismatch}");
            return Err(Status::failed_precondition(mismatch.to_string()));
        }
        self.greeted.store(true, Ordering::Relaxed);
        tracing::info!(
            "commanded by the coordinator, version {}",
            printable(&request.coordinator_version.chars().take(40).collect::<String>())
        );
        let kubeadm_version = self.steps.kubeadm_version().await;
        Ok(Response::new(fitted(HelloReply {
            agent_version: VERSION.to_owned(),
            protocol: PROTOCOL,
            facts: Some(facts::gather(&self.node, self.address, kubeadm_version)),
        })))
    }

    async fn check_step(
        &self,
        request: Request<CheckStepRequest>,
    ) -> Result<Response<CheckStepReply>, Status> {
        let request = request.into_inner();
        self.is_for_us(&request.step_id, request.step.as_ref())?;
        self.steps.check(request).await.map(Response::new)
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<HostReport>, Status> {
        self.steps.inspect(request.into_inner()).await.map(Response::new)
    }

    type ListenStream = ListenReplies;

    async fn listen(&self, request: Request<ListenRequest>) -> Result<Response<ListenReplies>, Status> {
        self.steps.listen(request.into_inner(), self.address).await.map(Response::new)
    }

    async fn reach(&self, request: Request<ReachRequest>) -> Result<Response<ReachReply>, Status> {
        self.steps.reach(request.into_inner()).await.map(Response::new)
    }

    type RunStepStream = Replies;

    async fn run_step(&self, request: Request<RunStepRequest>) -> Result<Response<Replies>, Status> {
        let request = request.into_inner();
        self.is_for_us(&request.step_id, request.step.as_ref())?;
        self.steps.run(request).await.map(Response::new)
    }
}
