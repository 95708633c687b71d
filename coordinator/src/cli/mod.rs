//! The commands of `coordinator`. Each is a client of the daemon's admin socket; `serve` is the daemon itself.

pub mod address;
mod bootstrap;
mod cluster_file;
pub mod exit;
pub mod findings;
pub mod firewall;
mod follow;
pub mod init;
mod journal;
pub mod node;
mod plan;
mod preflight;
mod reattach;
mod report;
mod reset;
mod screen;
pub mod service;
mod status;
pub mod token;
mod wait;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use muster_proto::cause::chain;
use muster_proto::coordinator::admin_client::AdminClient;
use muster_proto::redaction::printable;
use muster_proto::transport::{MESSAGE_LIMIT, channel_over, connection_ended};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::settings::{Paths, Settings};
use crate::view::SchemaName;

/// Turns Linux machines into a Kubernetes cluster with kubeadm; this is the side that decides.
#[derive(Debug, Parser)]
#[command(name = "coordinator", version, propagate_version = true)]
struct Arguments {
    /// Where /etc, /var/lib and /run are; for tests.
    #[arg(long, hide = true, global = true, default_value = "/")]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set this machine up as the master: choose its address, start the daemon, enrol its own agent
    Init(init::Arguments),
    /// One-time tokens that enrol a node's agent
    #[command(subcommand)]
    Token(token::Command),
    /// The enrolled nodes
    #[command(subcommand)]
    Nodes(node::Command),
    /// Show what bootstrap would change on every host; changes nothing
    Plan(plan::Arguments),
    /// Look on all nodes, and between them, for what would stop a bootstrap; changes nothing
    Preflight(preflight::Arguments),
    /// Make the cluster, resume it, or attach to the run that makes it; Ctrl-C detaches
    Bootstrap(bootstrap::Arguments),
    /// Undo what bootstrap did, on one node or on all of them
    Reset(reset::Arguments),
    /// Print a JSON Schema: of the cluster file, for editors, or of what a command prints with `-o json`
    Schema {
        #[arg(value_enum, default_value_t)]
        name: SchemaName,
    },
    /// Where the newest run stands; for every user
    Status(status::Arguments),
    /// Wait for the end of a run; for every user
    Wait(wait::Arguments),
    /// Show what was sent to the nodes and what they reported; the daemon need not run
    Journal(journal::Arguments),
    /// The record of a run to hand in: what was done, changed, said and mended; the daemon need not run
    Report(report::Arguments),
    /// The daemon; systemd starts it
    #[command(hide = true)]
    Serve,
}

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// A command that failed; what a person reads.
/// systemd waits for a second before it starts the coordinator again, which then reads its journal.
const AWAY: Duration = Duration::from_secs(5);

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A request that the daemon could not get, or refused.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "the coordinator does not run here ({path} does not answer): `sudo coordinator init` sets it up; if that was done, see `systemctl status muster-coordinator`"
    )]
    NotRunning { path: PathBuf, source: io::Error },
    #[error(
        "the coordinator of this machine does not run now ({path} does not answer): systemd starts it again within seconds; see \
         `systemctl status muster-coordinator` if it does not"
    )]
    Away { path: PathBuf, source: io::Error },
    #[error(
        "you may not open {path}: use sudo, or join the group muster (`sudo usermod -aG muster NAME`, then log in again); that group is root on every node"
    )]
    NotAllowed { path: PathBuf },
    #[error("the coordinator does not talk on {path}")]
    Transport { path: PathBuf, source: tonic::transport::Error },
    #[error("{0}")]
    Refused(String),
    /// What was given is wrong, the cluster file above all.
    #[error("{0}")]
    Invalid(String),
    #[error("the connection to the coordinator was lost ({0}); the nodes go on: run the same command again")]
    Lost(String),
}

impl From<tonic::Status> for ClientError {
    fn from(status: tonic::Status) -> Self {
        let said = printable(status.message());
        match status.code() {
            _ if connection_ended(&status) => Self::Lost(said),
            tonic::Code::InvalidArgument => Self::Invalid(said),
            _ => Self::Refused(said),
        }
    }
}

/// Reads the arguments, does what they say, and turns the outcome into an exit code.
pub async fn run() -> ExitCode {
    let Arguments { root, command } = Arguments::parse();
    let outcome = match command {
        Command::Init(arguments) => init::run(&root, arguments).await,
        Command::Token(command) => token::run(&Paths::under(&root), command).await,
        Command::Nodes(command) => node::run(&Paths::under(&root), command).await,
        Command::Plan(arguments) => plan::run(&Paths::under(&root), arguments).await,
        Command::Preflight(arguments) => preflight::run(&Paths::under(&root), arguments).await,
        Command::Bootstrap(arguments) => bootstrap::run(&Paths::under(&root), arguments).await,
        Command::Reset(arguments) => reset::run(&Paths::under(&root), arguments).await,
        Command::Status(arguments) => status::run(&Paths::under(&root), arguments).await,
        Command::Journal(arguments) => journal::run(&Paths::under(&root), arguments),
        Command::Report(arguments) => report::run(&Paths::under(&root), arguments),
        Command::Schema { name } => {
            anstream::println!("{:#}", crate::view::schema(name));
            Ok(())
        }
        Command::Wait(arguments) => wait::run(&Paths::under(&root), arguments).await,
        Command::Serve => serve(&root).await,
    };
    match outcome {
        Ok(()) => exit::Outcome::Done.into(),
        Err(error) => {
            anstream::eprintln!("error: {}", chain(error.as_ref()));
            exit::Outcome::of(&error).into()
        }
    }
}

async fn serve(root: &Path) -> Result<(), Failure> {
    let levels = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    // journald adds the time; a colour would be noise there.
    tracing_subscriber::fmt()
        .with_env_filter(levels)
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    crate::daemon::serve_until_stopped(Settings::load(root)?).await?;
    Ok(())
}

/// A channel to the daemon over one of its unix sockets.
pub async fn connect(socket: &Path) -> Result<Channel, ClientError> {
    let path = || socket.to_owned();
    let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotAllowed { path: path() },
        _ => ClientError::NotRunning { path: path(), source },
    })?;
    channel_over(stream).await.map_err(|source| ClientError::Transport { path: path(), source })
}

/// The same for a machine of these paths: where a coordinator was set up it is one that is just being started again, or was stopped.
pub async fn connected(paths: &Paths, socket: &Path) -> Result<Channel, ClientError> {
    let deadline = Instant::now() + AWAY;
    loop {
        match connect(socket).await {
            Err(ClientError::NotRunning { path, source }) if paths.configuration.exists() => {
                if Instant::now() >= deadline {
                    return Err(ClientError::Away { path, source });
                }
                sleep(Duration::from_millis(200)).await;
            }
            answered => return answered,
        }
    }
}

/// A client of every verb.
pub async fn admin(paths: &Paths) -> Result<AdminClient<Channel>, ClientError> {
    let channel = connected(paths, &paths.admin_socket()).await?;
    Ok(AdminClient::new(channel)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT))
}

/// Prints rows with their columns under each other.
pub(crate) fn print_table(header: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([header[column].len()]).max().unwrap_or(0)
    };
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<width$}", width = width(column)))
            .collect();
        anstream::println!("{}", padded.join("  ").trim_end());
    };
    line(header.to_vec());
    rows.iter().for_each(|row| line(row.iter().map(String::as_str).collect()));
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares its own folder")]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_run_is_said_so_with_the_remedy() {
        let error = connect(Path::new("/nonexistent/admin.sock")).await.unwrap_err().to_string();
        assert!(error.contains("coordinator init"), "{error}");
    }

    /// Answers one connection's settings, and ends it in the middle of its first call.
    async fn dies_in_the_first_call(listener: UnixListener) -> io::Result<()> {
        dies_in_the_first_call_of(&listener).await
    }

    async fn dies_in_the_first_call_of(listener: &UnixListener) -> io::Result<()> {
        const PREFACE: usize = 24;
        const HEADERS: u8 = 1;
        let (mut stream, _) = listener.accept().await?;
        // An empty SETTINGS frame, which a client waits for.
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
        stream.read_exact(&mut [0; PREFACE]).await?;
        loop {
            let mut frame = [0; 9];
            stream.read_exact(&mut frame).await?;
            if frame[3] == HEADERS {
                return Ok(());
            }
            let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
            stream.read_exact(&mut vec![0; length as usize]).await?;
        }
    }

    #[tokio::test]
    async fn a_coordinator_that_dies_in_the_middle_of_a_call_is_told_with_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        std::fs::create_dir_all(&paths.runtime).unwrap();
        let listener = UnixListener::bind(paths.admin_socket()).unwrap();
        let (error, died) =
            tokio::join!(node::run(&paths, node::Command::List), dies_in_the_first_call(listener));
        died.unwrap();
        let error = error.unwrap_err();
        assert!(chain(error.as_ref()).contains("run the same command again"), "{error}");
        assert!(matches!(error.downcast_ref(), Some(ClientError::Lost(_))), "{error:?}");
    }

    #[tokio::test]
    async fn a_command_asks_again_while_its_coordinator_comes_back_and_then_says_that_it_did_not() {
        use reattach::{Patience, follow_to_the_end};
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        std::fs::create_dir_all(&paths.runtime).unwrap();
        let listener = UnixListener::bind(paths.admin_socket()).unwrap();
        let asked = std::sync::atomic::AtomicU32::new(0);
        let ask = async |mut client: AdminClient<Channel>| {
            asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            client.bootstrap(muster_proto::coordinator::ClusterFiles::default()).await
        };
        let words = follow::Words { nothing: "", name: "the bootstrap" };
        let patience = Patience::of(Duration::from_millis(1200));
        let dying = async {
            for _ in 0..2 {
                dies_in_the_first_call_of(&listener).await.unwrap();
            }
            drop(listener);
        };
        let (ended, ()) = tokio::join!(follow_to_the_end(&paths, &patience, &words, ask), dying);
        let error = ended.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(ClientError::NotRunning { .. })), "{error:?}");
        assert_eq!(asked.into_inner(), 2);
    }

    #[tokio::test]
    async fn a_coordinator_that_was_set_up_here_is_not_to_be_set_up_again() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        std::fs::create_dir_all(paths.configuration.parent().unwrap()).unwrap();
        std::fs::write(&paths.configuration, "").unwrap();
        let error = admin(&paths).await.unwrap_err().to_string();
        assert!(
            !error.contains("coordinator init") && error.contains("systemctl status muster-coordinator"),
            "{error}"
        );
    }

    #[test]
    fn what_the_coordinator_answers_is_no_lost_connection() {
        for status in
            [tonic::Status::internal("the disk is full"), tonic::Status::failed_precondition("a run goes on")]
        {
            let error = ClientError::from(status);
            assert!(matches!(error, ClientError::Refused(_)), "{error:?}");
        }
    }
}
