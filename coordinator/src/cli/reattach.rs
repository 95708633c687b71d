//! A command whose coordinator goes away does not end with it: systemd starts the coordinator again within seconds, and to ask
//! the same again is to attach to the run that goes on, or to go on with the one that was interrupted.

use std::time::Duration;

use muster_proto::coordinator::Progress;
use muster_proto::coordinator::admin_client::AdminClient;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::follow::{Followed, Words, follow};
use super::wait::duration;
use super::{ClientError, Failure, admin};
use crate::settings::Paths;

const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub struct Patience {
    /// How long to wait for a coordinator that goes away meanwhile, before the command ends with 5; 0s: not at all
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    reattach: Duration,
}

#[cfg(test)]
impl Patience {
    pub(super) fn of(reattach: Duration) -> Self {
        Self { reattach }
    }
}

/// Asks, and shows the run to its end; asks again for as long as `patience` says when the connection ends before.
pub(super) async fn follow_to_the_end<A>(
    paths: &Paths,
    patience: &Patience,
    words: &Words,
    ask: A,
) -> Result<Followed, Failure>
where
    A: AsyncFn(AdminClient<Channel>) -> Result<Response<Streaming<Progress>>, Status>,
{
    let mut answered = attach(paths, &ask).await;
    loop {
        let ended = match answered {
            Ok(stream) => follow(stream, words).await,
            Err(error) => Err(error.into()),
        };
        let lost = match &ended {
            Err(failure) => failure.downcast_ref().filter(|error| matches!(error, ClientError::Lost(_))),
            Ok(_) => None,
        };
        let Some(lost) = lost.filter(|_| !patience.reattach.is_zero()) else { return ended };
        anstream::eprintln!("{lost}; waiting up to {} s for it to come back", patience.reattach.as_secs());
        answered = again(paths, patience.reattach, &ask).await;
    }
}

async fn attach<A>(paths: &Paths, ask: &A) -> Result<Streaming<Progress>, ClientError>
where
    A: AsyncFn(AdminClient<Channel>) -> Result<Response<Streaming<Progress>>, Status>,
{
    Ok(ask(admin(paths).await?).await?.into_inner())
}

/// The last error when the time is over; one that is no sign of a coordinator that is gone at once.
async fn again<A>(paths: &Paths, patience: Duration, ask: &A) -> Result<Streaming<Progress>, ClientError>
where
    A: AsyncFn(AdminClient<Channel>) -> Result<Response<Streaming<Progress>>, Status>,
{
    let deadline = Instant::now() + patience;
    loop {
        sleep(PAUSE).await;
        match attach(paths, ask).await {
            Err(
                ClientError::NotRunning { .. }
                | ClientError::Away { .. }
                | ClientError::Transport { .. }
                | ClientError::Lost(_),
            ) if Instant::now() < deadline => {}
            answered => return answered,
        }
    }
}
