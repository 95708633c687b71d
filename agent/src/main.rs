//! The program `agent`: root on one node, commanded by its coordinator alone.

use std::io::{stdin, stdout};
use std::process::ExitCode;

use muster_agent::cli;
use muster_agent::engine::{Allowed, Engine};
use muster_agent::host::change::Host;
use muster_agent::host::system::{SystemHost, users};
use muster_proto::journal::Journal;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == users::SUBCOMMAND) {
        // The agent's child as another user: it starts no threads and opens no connection.
        return users::run_child(arguments, stdin().lock(), stdout().lock());
    }
    muster_proto::panics::watch();
    muster_proto::transport::install_cryptography();
    work()
}

// Two threads also on a machine with one processor: a slow disk must not keep the connection from being answered.
#[tokio::main(worker_threads = 2)]
async fn work() -> ExitCode {
    cli::run(async |paths, settings| {
        let journal = Journal::open(&paths.journal())?;
        let allowed = Allowed { steps: settings.allow_steps.clone(), no_reset: !settings.allow_reset };
        let host = SystemHost::below(&paths.root);
        let ours = host.clone();
        tokio::spawn(async move { ours.earlier_ended().await });
        Ok(Engine::new(host, journal, allowed))
    })
    .await
}
