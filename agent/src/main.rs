//! The program `agent`: root on one node, commanded by its coordinator alone.

use std::io::{stdin, stdout};
use std::process::ExitCode;

use muster_agent::engine::Engine;
use muster_agent::host::system::{SystemHost, users};
use muster_proto::journal::Journal;

fn main() -> ExitCode {
    // The agent's own child that works in a user's home with that user's rights; before anything else is set up.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "user-file") {
        return users::run_child(arguments, stdin(), stdout());
    }
    serve_or_command()
}

// Two threads also on a machine with one processor: a slow disk must not keep the connection from being answered.
#[tokio::main(worker_threads = 2)]
async fn serve_or_command() -> ExitCode {
    muster_proto::transport::install_cryptography();
    muster_agent::cli::run(async |paths, settings| {
        let journal = Journal::open(&paths.journal())?;
        Ok(Engine::new(SystemHost::new(), journal, settings.allow_steps.clone()))
    })
    .await
}
