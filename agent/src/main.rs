//! The program `agent`: root on one node, commanded by its coordinator alone.

use std::process::ExitCode;

use muster_agent::engine::Engine;
use muster_agent::host::system::{SystemHost, users};
use muster_proto::journal::Journal;

// Two threads also on a machine with one processor: a slow disk must not keep the connection from being answered.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    muster_proto::transport::install_cryptography();
    muster_agent::cli::run(async |paths, settings| {
        let journal = Journal::open(&paths.journal())?;
        Ok(Engine::new(SystemHost::new(), journal, settings.allow_steps.clone()))
    })
    .await
}
