//! The commands of `agent`: enrol this machine, serve its coordinator, show the journal.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use muster_proto::cause::chain;
use muster_proto::journal::Journal;
use muster_proto::listing::{self, Form};
use muster_proto::settings_file::SettingsFile;
use muster_proto::token::EnrolmentToken;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::connect::connection;
use crate::connect::dial::Endpoint;
use crate::connect::enrol::enroll;
use crate::connect::identity::Identity;
use crate::connect::service::Steps;
use crate::connect::settings::{Paths, Settings};
use crate::connect::unit;

/// Prepares this machine for Kubernetes and runs kubeadm here, commanded by one coordinator alone.
#[derive(Debug, Parser)]
#[command(name = "agent", version, propagate_version = true)]
struct Arguments {
    /// Where /etc, /var/lib and /run are; for tests.
    #[arg(long, hide = true, global = true, default_value = "/")]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give this machine its identity, with a token from `coordinator token create`
    Enroll {
        /// The master's address: HOST or HOST:PORT
        #[arg(long)]
        coordinator: Endpoint,
        /// Read the token from this file (mode 0600) or from /dev/stdin instead of asking for it
        #[arg(long)]
        token_file: Option<PathBuf>,
        /// Leave the service alone; for tests and images
        #[arg(long, hide = true)]
        no_start: bool,
    },
    /// Serve the coordinator; systemd starts it
    #[command(hide = true)]
    Serve,
    /// Show what was done on this machine; nothing need be running
    Journal {
        /// Read this file, for instance a copy from another machine. Of a service that runs, copy FILE-wal with it: without that the
        /// copy ends with the last step that ended
        #[arg(long)]
        file: Option<PathBuf>,
        /// How to print
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Text,
    /// One object a line
    Json,
}

/// A command that failed; what a person reads.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A token that cannot be read. The token itself is never repeated.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("the token cannot be read from {path}")]
    Reading { path: PathBuf, source: io::Error },
    #[error(
        "{path} holds a secret that others can read: `chmod 600 {path}`, and make a new token if others may have seen it"
    )]
    NotPrivate { path: PathBuf },
    #[error(
        "there is no terminal to ask for the token on: give it with --token-file FILE (mode 0600) or --token-file /dev/stdin"
    )]
    NoTerminal(#[source] io::Error),
}

/// Reads the arguments, does what they say, and turns the outcome into an exit code.
pub async fn run<S: Steps>(
    make_steps: impl AsyncFnOnce(&Paths, &Settings) -> Result<S, Failure>,
) -> ExitCode {
    let Arguments { root, command } = Arguments::parse();
    let paths = Paths::under(&root);
    let outcome = match command {
        Command::Enroll { coordinator, token_file, no_start } => {
            enroll_here(&paths, &coordinator, token_file.as_deref(), !no_start).await
        }
        Command::Serve => serve(&paths, make_steps).await,
        Command::Journal { file, output } => show_journal(&file.unwrap_or_else(|| paths.journal()), output),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn enroll_here(
    paths: &Paths,
    coordinator: &Endpoint,
    token_file: Option<&Path>,
    start: bool,
) -> Result<(), Failure> {
    if start && !nix::unistd::geteuid().is_root() {
        return Err("enrolling changes this machine's settings: run it with sudo".into());
    }
    if let (Some(known), true) = (Settings::read(&paths.configuration)?, token_file.is_none()) {
        anstream::println!(
            "This machine is enrolled already, as {} with the coordinator at {}; a token enrols it once more.",
            known.node,
            known.coordinator
        );
    }
    let text = match token_file {
        Some(path) => read_token(path)?,
        None => Zeroizing::new(
            rpassword::prompt_password("Token (it will not be shown): ").map_err(TokenError::NoTerminal)?,
        ),
    };
    let token: EnrolmentToken = text.trim().parse()?;
    let node = enroll(paths, coordinator, &token).await?;
    anstream::println!("This machine is enrolled as {node} with the coordinator at {coordinator}.");
    if start {
        unit::enable_and_restart().await?;
        anstream::println!("{} runs, also after a reboot.", unit::UNIT);
    }
    Ok(())
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, TokenError> {
    let failed = |source| TokenError::Reading { path: path.to_owned(), source };
    let mut text = Zeroizing::new(String::with_capacity(4096));
    if path == Path::new("/dev/stdin") {
        // Not opened by its path: that fails for a socket, and for a pipe of another user.
        io::stdin().lock().take(4096).read_to_string(&mut text).map_err(failed)?;
        return Ok(text);
    }
    let file =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() && metadata.mode() & 0o077 != 0 {
        return Err(TokenError::NotPrivate { path: path.to_owned() });
    }
    file.take(4096).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

async fn serve<S: Steps>(
    paths: &Paths,
    make_steps: impl AsyncFnOnce(&Paths, &Settings) -> Result<S, Failure>,
) -> Result<(), Failure> {
    let levels = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    // journald adds the time; a colour would be noise there.
    tracing_subscriber::fmt()
        .with_env_filter(levels)
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    let settings = Settings::load(&paths.configuration)?;
    let identity = Identity::open(&paths.identity())?;
    let steps = make_steps(paths, &settings).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!("{} dials {}", settings.node, settings.coordinator);
    tokio::select! {
        () = connection::serve(&identity, &settings.coordinator, &settings.node, steps) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    Ok(())
}

fn show_journal(path: &Path, output: Output) -> Result<(), Failure> {
    let form = match output {
        Output::Text => Form::Text,
        Output::Json => Form::Json,
    };
    Ok(listing::list(&Journal::read_only(path)?, form, &mut io::stdout().lock())?)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares its own folder")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_token_file_that_others_can_read_is_refused_and_so_is_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("token"), folder.path().join("link"));
        std::fs::write(&path, "muster-token.1.x\n").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_token(&path), Err(TokenError::NotPrivate { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_token(&path).unwrap().trim(), "muster-token.1.x");
        assert!(matches!(read_token(&link), Err(TokenError::Reading { .. })));
    }
}
