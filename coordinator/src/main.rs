//! The program `coordinator`: a daemon on the master, and the commands that talk to it.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    muster_proto::transport::install_cryptography();
    muster_coordinator::cli::run().await
}
