//! `agent serve`: dial the coordinator, serve it over that one connection, and dial again when it ends.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{StreamExt, stream};
use muster_proto::agent::node_agent_server::NodeAgentServer;
use muster_proto::cause::chain;
use muster_proto::failpoint;
use muster_proto::names::NodeName;
use muster_proto::transport::{self, MESSAGE_LIMIT, Watched};
use muster_proto::version::ALPN_AGENT;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::client::TlsStream;

use crate::connect::dial::{DialError, Endpoint, dial};
use crate::connect::identity::{Identity, IdentityError};
use crate::connect::service::{NodeService, Steps};

/// A connection that lived this long was a good one: the next try comes at once.
const SETTLED: Duration = Duration::from_secs(10);

/// The longest pause between two tries: a coordinator that comes back has its agents within seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Why there is no connection now.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the connection to {0} has no address of its own")]
    NoAddress(Endpoint, #[source] io::Error),
    #[error("the connection to {0} cannot be served")]
    Serving(Endpoint, #[source] tonic::transport::Error),
    #[error("the coordinator at {0} did not take this agent into its service{reason}", reason = explained(.1))]
    TurnedAway(Endpoint, Option<String>),
}

/// What a fatal alert of the coordinator means to whoever reads the agent's log.
fn explained(reason: &Option<String>) -> String {
    match reason.as_deref() {
        Some(alert) if alert.contains("CertificateRevoked") => {
            ": this machine is not enrolled there any more; on the master run `coordinator token create --node NAME`".to_owned()
        }
        Some(other) => format!(" ({other})"),
        None => String::new(),
    }
}

/// Connects and serves for ever.
pub async fn serve<S: Steps>(identity: &Identity, endpoint: &Endpoint, node: &NodeName, steps: S) {
    let patience = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times();
    let mut pauses = patience.build();
    let mut said = String::new();
    loop {
        let began = Instant::now();
        match serve_once(identity, endpoint, node, steps.clone()).await {
            Ok(reason) => {
                said.clear();
                let reason = reason.unwrap_or_else(|| "the coordinator closed it".to_owned());
                tracing::warn!("the connection to {endpoint} ended: {reason}");
            }
            Err(error) => {
                // The same trouble again is not news.
                let sentence = chain(&error);
                if sentence != said {
                    tracing::warn!("{sentence}");
                    said = sentence;
                }
            }
        }
        if began.elapsed() >= SETTLED {
            pauses = patience.build();
        }
        sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

/// One connection from its beginning to its end; the error of the socket that ended it, if there was one.
pub async fn serve_once<S: Steps>(
    identity: &Identity,
    endpoint: &Endpoint,
    node: &NodeName,
    steps: S,
) -> Result<Option<String>, ConnectionError> {
    let stream = dial(endpoint, identity.tls()?, ALPN_AGENT).await?;
    let address =
        own_address(&stream).map_err(|source| ConnectionError::NoAddress(endpoint.clone(), source))?;
    let service = NodeService::new(steps, node.clone(), address);
    let greeted = service.greeted();
    let server = NodeAgentServer::new(service)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let (watched, cord) = Watched::new(stream);
    let cord = Arc::new(cord);
    failpoint::connected(&cord);
    // The stream of connections yields this one and never ends: its end would be the server's end.
    let incoming = stream::iter([Ok::<_, io::Error>(watched)]).chain(stream::pending());
    let ended = async {
        cord.ended().await;
    };
    transport::server()
        .add_service(server)
        .serve_with_incoming_shutdown(incoming, ended)
        .await
        .map_err(|source| ConnectionError::Serving(endpoint.clone(), source))?;
    let reason = cord.ended().await;
    if greeted.load(Ordering::Relaxed) {
        Ok(reason)
    } else {
        Err(ConnectionError::TurnedAway(endpoint.clone(), reason))
    }
}

fn own_address(stream: &TlsStream<TcpStream>) -> io::Result<IpAddr> {
    Ok(stream.get_ref().0.local_addr()?.ip())
}
