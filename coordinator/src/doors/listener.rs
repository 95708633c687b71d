//! The coordinator's one TCP port: an accept loop that a flood of strangers cannot take away from the agents.

mod strangers;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use muster_proto::cause::chain;
use muster_proto::enrolment::enrolment_server::EnrolmentServer;
use muster_proto::journal::Journal;
use muster_proto::token::public_key_of;
use muster_proto::transport::{self, Watched};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use self::strangers::{Slot, Slots, Source};
use crate::doors::authority::Authority;
use crate::doors::enrolment::{EnrolmentService, REQUEST_LIMIT};
use crate::doors::fleet::Fleet;
use crate::doors::store::Store;
use crate::doors::tls::{Face, Faces};
use crate::settings::Limits;

/// After a failed accept (descriptors run out, say) the loop rests: spinning would not give any back.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address}: does another program hold the port, or is the address not one of this machine's?"
)]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// All that a connection needs to be served.
#[derive(Clone)]
pub struct Doorkeeper {
    pub faces: Faces,
    pub authority: Authority,
    pub store: Store,
    pub journal: Journal,
    pub fleet: Fleet,
    pub limits: Limits,
}

/// Opens the port. The address need not be up yet: after a reboot the network may come later than we do.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::IpFreebind, &true)?;
        }
        socket.bind(address)?;
        socket.listen(1024)
    };
    open().map_err(|source| ListenError { address, source })
}

/// Accepts connections for ever. Dropping the future ends all of them.
pub async fn run(listener: TcpListener, doorkeeper: Doorkeeper) {
    let slots = Slots::new(doorkeeper.limits);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a connection cannot be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let source = peer.ip().to_canonical();
        // Too many strangers from there already: closed without a word, which costs least.
        let Some((slot, given_up)) = slots.take(Source::of(source)) else { continue };
        let doorkeeper = doorkeeper.clone();
        connections.spawn(async move {
            let reason = tokio::select! {
                served = doorkeeper.serve(socket, source, slot) => served.err(),
                Ok(()) = given_up => Some("it proved nothing, and others wanted its place".to_owned()),
            };
            if let Some(reason) = reason {
                tracing::debug!(%source, "connection ended: {reason}");
            }
        });
    }
}

impl Doorkeeper {
    async fn serve(&self, socket: TcpStream, source: IpAddr, slot: Slot) -> Result<(), String> {
        let deadline = Instant::now() + self.limits.handshake;
        let _ = socket.set_nodelay(true);
        let shaken = timeout_at(deadline, self.shake_hands(socket)).await;
        match shaken.map_err(|_| "no TLS handshake in time".to_owned())?? {
            (Face::Enrolment, stream) => self.enrol(stream, source, slot).await,
            (Face::Agent, stream) => self.command(stream, source, slot).await,
        }
    }

    async fn shake_hands(&self, socket: TcpStream) -> Result<(Face, TlsStream<TcpStream>), String> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket)
            .await
            .map_err(|error| error.to_string())?;
        let face = self
            .faces
            .chosen(start.client_hello().alpn())
            .ok_or("neither muster-agent/1 nor muster-enroll/1 was asked for")?;
        let settings = match face {
            Face::Enrolment => self.faces.enrolment.clone(),
            Face::Agent => self.faces.agent.clone(),
        };
        let stream = start.into_stream(settings).await.map_err(|error| error.to_string())?;
        Ok((face, stream))
    }

    /// Serves enrolment and nothing else, for as long as one enrolment takes.
    async fn enrol(&self, stream: TlsStream<TcpStream>, source: IpAddr, slot: Slot) -> Result<(), String> {
        let (authority, store, journal) = (self.authority.clone(), self.store.clone(), self.journal.clone());
        let service = EnrolmentService::new(authority, store, journal, source.to_string());
        let service = EnrolmentServer::new(service)
            .max_decoding_message_size(REQUEST_LIMIT)
            .max_encoding_message_size(REQUEST_LIMIT);
        let (watched, cord) = Watched::new(stream);
        let incoming = stream::iter([Ok::<_, io::Error>(watched)]).chain(stream::pending());
        let ended = async {
            let _ = timeout(self.limits.first_answer, cord.ended()).await;
            cord.cut();
        };
        let served = transport::enrolment_server()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, ended)
            .await
            .map_err(|error| chain(&error));
        drop(slot);
        served
    }

    /// The roles flip: from here on the coordinator is the client of the agent that dialled.
    async fn command(&self, stream: TlsStream<TcpStream>, source: IpAddr, slot: Slot) -> Result<(), String> {
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let key = certificate
            .and_then(|certificate| public_key_of(certificate).ok())
            .ok_or("the agent showed no certificate")?;
        let enrolled = || self.store.node_of(&key).map_err(|error| chain(&error));
        let node = enrolled()?.ok_or("the agent's key is not enrolled any more")?;
        let still_enrolled = || enrolled().is_ok_and(|found| found.as_ref() == Some(&node));
        tracing::info!(%source, "{node} dials in");
        match self.fleet.adopt(&node, source, stream, self.limits.first_answer, still_enrolled, slot).await {
            Ok(reason) => {
                tracing::info!(%source, "{node} is gone: {}", reason.unwrap_or("it closed".to_owned()))
            }
            Err(error) => tracing::warn!(%source, "{node} is not used: {}", chain(&error)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_not_up_yet_can_be_listened_on() {
        assert!(listen("192.0.2.1:0".parse().unwrap()).is_ok());
    }
}
