//! What is asked of an agent, and what is taken of its answer: a time limit and a size for each question. An agent that says
//! more, or nothing, is told of by its name, and costs no more than that.

use std::time::Duration;

use muster_proto::agent::{
    CheckStepReply, CheckStepRequest, HostReport, InspectRequest, ListenReply, ListenRequest, ReachReply,
    ReachRequest, RunStepReply, RunStepRequest, listen_reply,
};
use muster_proto::bounds::{self, TooMuch};
use muster_proto::names::{NodeName, StepId};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use super::fleet::{ConnectedAgent, said};
use crate::plans::content::Content;

/// Every question to a host has its own limit on the agent's side; no look asks more than this many seconds of them.
const LOOK: Duration = Duration::from_secs(120);
/// Looking takes a moment; a resolver that does not answer, some seconds.
const INSPECTION: Duration = Duration::from_secs(30);
/// An agent answers a try within 4 s.
const TRY: Duration = Duration::from_secs(20);
/// A step is begun, or attached to, at once; after that its events come.
const BEGIN: Duration = Duration::from_secs(60);

/// Why there is no answer of an agent that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("the agent of {node} gave no answer within {} s", .within.as_secs())]
    Silent { node: NodeName, within: Duration },
    #[error("the agent of {node} said more than any agent says: {what}")]
    TooMuch { node: NodeName, what: String },
    /// Its own words.
    #[error("{0}")]
    Refused(String),
}

impl ConnectedAgent {
    pub async fn check_step(&self, id: &StepId, step: &Content) -> Result<CheckStepReply, Unusable> {
        let ask = |asked, content| {
            let request = CheckStepRequest { step_id: id.to_string(), step: asked, content };
            let mut client = self.client.clone().max_decoding_message_size(bounds::FINDING);
            async move { client.check_step(request).await.map(tonic::Response::into_inner) }
        };
        let reply = self.within(LOOK, self.given.ask(step, ask)).await?;
        bounds::taken(reply).map_err(|what| self.too_much(&what))
    }

    pub async fn inspect(&self, request: InspectRequest) -> Result<HostReport, Unusable> {
        let most = bounds::host_report(request.names.len());
        let mut client = self.client.clone().max_decoding_message_size(most);
        let report = self.within(INSPECTION, client.inspect(request)).await?.into_inner();
        bounds::taken(report).map_err(|what| self.too_much(&what))
    }

    pub async fn reach(&self, request: ReachRequest) -> Result<ReachReply, Unusable> {
        let most = bounds::reached(request.targets.len());
        let mut client = self.client.clone().max_decoding_message_size(most);
        let reply = self.within(TRY, client.reach(request)).await?.into_inner();
        bounds::taken(reply).map_err(|what| self.too_much(&what))
    }

    /// What it says first, and the stream of what it hears after that.
    pub async fn listen(
        &self,
        request: ListenRequest,
    ) -> Result<(Option<listen_reply::Item>, Streaming<ListenReply>), Unusable> {
        let mut client = self.client.clone().max_decoding_message_size(bounds::LISTENING);
        let opened = async {
            let mut stream = client.listen(request).await?.into_inner();
            let first = stream.message().await?;
            Ok((first.and_then(|reply| reply.item), stream))
        };
        let (first, stream) = self.within(TRY, opened).await?;
        let first = match first {
            Some(listen_reply::Item::Listening(doors)) => {
                let doors = bounds::taken(doors).map_err(|what| self.too_much(&what))?;
                Some(listen_reply::Item::Listening(doors))
            }
            other => other,
        };
        Ok((first, stream))
    }

    /// The events of a step, as they come. An error is that of the call: a lost connection, or a refusal.
    pub async fn run_step(&self, request: RunStepRequest) -> Result<Streaming<RunStepReply>, Status> {
        let mut client = self.client.clone().max_decoding_message_size(bounds::STEP_MESSAGE);
        match timeout(BEGIN, client.run_step(request)).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded(format!("no answer within {} s", BEGIN.as_secs()))),
        }
    }

    async fn within<T>(
        &self,
        within: Duration,
        asked: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Unusable> {
        match timeout(within, asked).await {
            Ok(answer) => answer.map_err(|status| self.refused(&status)),
            Err(_) => Err(Unusable::Silent { node: self.node.clone(), within }),
        }
    }

    fn refused(&self, status: &Status) -> Unusable {
        let said = said(status);
        match is_too_large(status) {
            true => Unusable::TooMuch { node: self.node.clone(), what: said },
            false => Unusable::Refused(said),
        }
    }

    fn too_much(&self, what: &TooMuch) -> Unusable {
        Unusable::TooMuch { node: self.node.clone(), what: what.to_string() }
    }
}

/// Whether the answer was larger than what is taken: the connection lives on, and asking again brings the same.
pub(crate) fn is_too_large(status: &Status) -> bool {
    status.code() == Code::OutOfRange
}
