//! `coordinator wait`: returns when a run has ended, with the code of its end; in the place of asking again and again.

use std::time::Duration;

use clap::ValueEnum;
use muster_proto::coordinator::status_client::StatusClient;
use muster_proto::coordinator::{ClusterStatus, GetStatusRequest};
use tokio::time::timeout;

use super::exit::{NotFinished, Outcome};
use super::{ClientError, Failure, connected};
use crate::settings::Paths;
use crate::view::status::{Phase, Status};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What is waited for
    #[arg(long = "for", value_enum, default_value_t = WaitedFor::Done, ignore_case = true)]
    waited_for: WaitedFor,
    /// The run, as bootstrap printed it; the newest one if none is given
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    run: String,
    /// At most so long, for instance 90s, 15m or 1h
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30m")]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WaitedFor {
    /// The run ended well; one that ended otherwise ends the wait with its code
    Done,
}

/// The time that was given is over.
#[derive(Debug, thiserror::Error)]
#[error("the run did not end within {0:?}; it goes on, and `coordinator status` shows where it stands")]
struct NotInTime(Duration);

/// There is nothing to wait for.
#[derive(Debug, thiserror::Error)]
#[error("no run was ever begun: `sudo coordinator bootstrap -f cluster.yaml` begins one")]
struct NoRun;

pub(super) async fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    let WaitedFor::Done = arguments.waited_for;
    let channel = connected(paths, &paths.status_socket()).await?;
    let mut request = GetStatusRequest { run_id: arguments.run };
    let mut client = StatusClient::new(channel);
    let ended = async {
        if request.run_id.is_empty() {
            // Of one run to its end, also when another one begins meanwhile.
            let newest = client.get(request.clone()).await.map_err(ClientError::from)?.into_inner();
            request.run_id = newest.run_id;
        }
        if request.run_id.is_empty() {
            return Err(Failure::from(NoRun));
        }
        let mut news = client.watch(request).await.map_err(ClientError::from)?.into_inner();
        while let Some(status) = news.message().await.map_err(ClientError::from)? {
            if let Some(ended) = ended(&status) {
                return ended;
            }
        }
        Err(ClientError::Lost("it ended the connection".into()).into())
    };
    timeout(arguments.timeout, ended).await.unwrap_or_else(|_| Err(NotInTime(arguments.timeout).into()))
}

/// How the wait ends; none while the run goes on.
fn ended(status: &ClusterStatus) -> Option<Result<(), Failure>> {
    let phase = match Status::try_from(status.clone()) {
        Ok(view) => view.phase,
        Err(unknown) => return Some(Err(unknown.into())),
    };
    match phase {
        Phase::Running => None,
        Phase::Done => Some(Ok(())),
        Phase::None => Some(Err(NoRun.into())),
        Phase::Failed | Phase::Interrupted => {
            let outcome = Outcome::of_run(status, &status.failures);
            Some(Err(NotFinished { what: "the run", outcome }.into()))
        }
    }
}

/// A whole number with its unit: s, m or h.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write a whole number with s, m or h, for instance 15m");
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(u64::from(number) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["", "5", "m", "-1m", "1.5h", "5d", "5\u{e9}"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_wait_ends_with_the_run_and_as_it_did() {
        let of = |phase: &str| ClusterStatus { phase: phase.to_owned(), ..ClusterStatus::default() };
        assert!(ended(&of("running")).is_none());
        assert!(ended(&of("done")).unwrap().is_ok());
        let step = muster_proto::coordinator::StepStatus {
            state: "blocked".to_owned(),
            ..muster_proto::coordinator::StepStatus::default()
        };
        let blocked = ClusterStatus { steps: vec![step], ..of("failed") };
        assert_eq!(Outcome::of(&ended(&blocked).unwrap().unwrap_err()), Outcome::Blocked);
        assert_eq!(Outcome::of(&ended(&of("interrupted")).unwrap().unwrap_err()), Outcome::Unexpected);
        assert!(ended(&of("perhaps")).unwrap().is_err(), "a word of another version ends it too");
    }
}
