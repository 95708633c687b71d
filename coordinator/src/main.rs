//! The program `coordinator`: a daemon on the master, and the commands that talk to it.

use std::process::ExitCode;

// Two threads also on a machine with one processor: a slow disk must not keep the connection from being answered.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    muster_proto::panics::watch();
    muster_proto::transport::install_cryptography();
    muster_coordinator::cli::run().await
}
