//! The program `agent`: root on one node, commanded by its coordinator alone.

use std::process::ExitCode;

use muster_agent::service::{Replies, Steps};
use muster_proto::agent::{CheckStepReply, CheckStepRequest, RunStepRequest};
use tonic::Status;

/// Stands where the engine will be.
#[derive(Clone)]
struct NoSteps;

impl Steps for NoSteps {
    async fn check(&self, _: CheckStepRequest) -> Result<CheckStepReply, Status> {
        Err(Status::unimplemented("this build has no steps yet"))
    }
    async fn run(&self, _: RunStepRequest) -> Result<Replies, Status> {
        Err(Status::unimplemented("this build has no steps yet"))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    muster_proto::transport::install_cryptography();
    muster_agent::cli::run(async |_, _| Ok(NoSteps)).await
}
