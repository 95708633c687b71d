//! The engine behind the NodeAgent service: refusals become gRPC codes that the coordinator tells from lost connections.

use std::future::Future;
use std::net::IpAddr;

use futures_util::StreamExt;
use muster_proto::agent::{
    CheckStepReply, CheckStepRequest, HostReport, InspectRequest, ListenRequest, ReachReply, ReachRequest,
    RunStepRequest,
};
use muster_proto::bounds::fitted;
use muster_proto::cause::chain;
use muster_proto::panics;
use tonic::Status;

use super::{Engine, Refused};
use crate::connect::service::{ListenReplies, Replies, Steps};
use crate::host::change::Host;
use crate::host::query::KubernetesProgram;
use crate::host::reach::Reach;

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let message = chain(&refused);
        match refused {
            Refused::Id(_)
            | Refused::Step(_)
            | Refused::OtherKind { .. }
            | Refused::Ticket(_)
            | Refused::Asked(_) => Status::invalid_argument(message),
            Refused::NotKept => Status::not_found(message),
            Refused::OtherContent(_) | Refused::Host(_) => Status::failed_precondition(message),
            Refused::NotAllowed(_) | Refused::NoReset => Status::permission_denied(message),
            Refused::Journal(_) | Refused::Stopped(_) | Refused::Panicked(_) => Status::internal(message),
        }
    }
}

/// A panic is the answer to what was asked, and not the end of the connection.
async fn guarded<T>(work: impl Future<Output = Result<T, Refused>>) -> Result<T, Status> {
    Ok(panics::caught(work).await.map_err(Refused::Panicked)??)
}

impl<H: Host + Reach + 'static> Steps for Engine<H> {
    async fn check(&self, request: CheckStepRequest) -> Result<CheckStepReply, Status> {
        guarded(Engine::check(self, request)).await.map(fitted)
    }

    async fn run(&self, request: RunStepRequest) -> Result<Replies, Status> {
        let replies = guarded(async { Engine::run(self, request) }).await?;
        Ok(replies.map(|reply| reply.map_err(Status::from)).boxed())
    }

    async fn inspect(&self, request: InspectRequest) -> Result<HostReport, Status> {
        guarded(Engine::inspect(self, request)).await.map(fitted)
    }

    async fn listen(&self, request: ListenRequest, address: IpAddr) -> Result<ListenReplies, Status> {
        Ok(guarded(Engine::listen(self, request, address)).await?.map(Ok).boxed())
    }

    async fn reach(&self, request: ReachRequest) -> Result<ReachReply, Status> {
        guarded(Engine::reach(self, request)).await.map(fitted)
    }

    async fn kubeadm_version(&self) -> String {
        let version = self.host().kubernetes_version(KubernetesProgram::Kubeadm).await;
        version.ok().flatten().map(|version| version.to_string()).unwrap_or_default()
    }
}
