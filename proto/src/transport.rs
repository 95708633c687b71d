//! What both ends of a connection set the same way: limits, keepalive, and a socket whose end can be seen and forced.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{oneshot, watch};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};

/// A step whose encoding has this many bytes or more is sent to a node once, and called by its digest from then on: what every
/// node is told of every node grows with their square.
pub const SENT_ONCE: usize = 256;

/// The largest message either side sends or takes.
pub const MESSAGE_LIMIT: usize = 8 * 1024 * 1024;

/// A silent peer is asked whether it lives after this time ...
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(4);

/// ... and given up after this one: a dead peer is noticed within 14 s, and one whose disk is slow is not given up.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

const HEADER_LIMIT: u32 = 16 * 1024;
/// After decompression, each field with the 32 bytes that HTTP/2 counts beside its text (RFC 9113, 10.5.1).
const ENROLMENT_HEADER_LIMIT: u32 = 4 * 1024;
const ENROLMENT_WINDOW: u32 = 16 * 1024;
/// What a peer may send before it is read, on a stream and on the connection that the caller's end opened: a frame may bear a
/// single byte, which takes a hundred in memory.
const STREAM_WINDOW: u32 = 65_535;
const CONNECTION_WINDOW: u32 = 256 * 1024;
const CONCURRENT_STREAMS: u32 = 64;
const RESET_STREAMS: usize = 20;

/// Makes aws-lc-rs the one provider of cryptography; first thing in every `main` and in every test with TLS.
pub fn install_cryptography() {
    // An error says that it is installed already, and that is what holds afterwards.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Whether the answer stands for a connection that ended in the middle of the call: what a coordinator answers has no source
/// on the caller's side, and none of these codes.
pub fn connection_ended(answer: &Status) -> bool {
    answer.source().is_some() || matches!(answer.code(), Code::Unknown | Code::Unavailable | Code::Cancelled)
}

/// A gRPC server with the limits that every server of this program has.
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(CONCURRENT_STREAMS)
        .http2_max_header_list_size(HEADER_LIMIT)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS))
        .http2_max_local_error_reset_streams(Some(RESET_STREAMS))
}

/// The same for whoever proved nothing: one call at a time, with what an enrolment needs. What such a connection can take of
/// this process's memory is a few tens of KiB, whatever it sends; 256 of them stay far below what the unit may have.
pub fn enrolment_server() -> Server {
    server()
        .max_concurrent_streams(1)
        .http2_max_header_list_size(ENROLMENT_HEADER_LIMIT)
        .initial_stream_window_size(ENROLMENT_WINDOW)
        // The smallest that HTTP/2 knows (RFC 9113, 6.9.2).
        .initial_connection_window_size(65_535)
}

/// A gRPC client over one connection that stands already. When it ends every call fails; nothing dials again.
pub async fn channel_over<S>(stream: S) -> Result<Channel, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let only = Arc::new(Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_| {
        let stream = only.lock().expect("no holder of the lock panics").take();
        async move {
            stream.map(hyper_util::rt::TokioIo::new).ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotConnected, "the connection to the peer has ended")
            })
        }
    });
    // The name is only what HTTP/2 needs to hear: nothing resolves it, and TLS was done before.
    Endpoint::from_static("http://peer.muster.internal")
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADER_LIMIT)
        .http2_max_concurrent_reset_streams(RESET_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector(connector)
        .await
}

/// A socket that somebody else (hyper) owns: its end can be waited for and forced through its `Cord`.
pub struct Watched<S> {
    stream: S,
    cut: Option<oneshot::Receiver<()>>,
    /// Dropped with the socket; before that it takes the error that ended it.
    ended: watch::Sender<Option<String>>,
}

/// The handle on a `Watched` socket. Dropping the cord does not close the socket; `cut` does.
pub struct Cord {
    cut: Mutex<Option<oneshot::Sender<()>>>,
    ended: watch::Receiver<Option<String>>,
}

impl<S> Watched<S> {
    pub fn new(stream: S) -> (Self, Cord) {
        let (cut_sender, cut) = oneshot::channel();
        let (ended, ended_receiver) = watch::channel(None);
        let cord = Cord { cut: Mutex::new(Some(cut_sender)), ended: ended_receiver };
        (Self { stream, cut: Some(cut), ended }, cord)
    }

    fn check_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some(cut) = &mut self.cut else { return Ok(()) };
        match Pin::new(cut).poll(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection was closed on this side",
            )),
            // The cord is gone without having been cut: the socket lives on.
            Poll::Ready(Err(_)) => {
                self.cut = None;
                Ok(())
            }
        }
    }

    fn remember<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.ended.send_if_modified(|first| {
                let unset = first.is_none();
                first.get_or_insert_with(|| in_words(error));
                unset
            });
        }
        result
    }
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        // What a peer that was killed leaves behind; rustls has a longer sentence for it, with a link.
        io::ErrorKind::UnexpectedEof => "the other side closed it".to_owned(),
        _ => error.to_string(),
    }
}

impl Cord {
    /// Closes the socket, whoever owns it.
    pub fn cut(&self) {
        if let Some(cut) = self.cut.lock().expect("no holder of the lock panics").take() {
            // An error says that the socket is gone already.
            let _ = cut.send(());
        }
    }

    /// Waits until the socket is gone; the error that ended it, if one did.
    pub async fn ended(&self) -> Option<String> {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
        ended.borrow().clone()
    }

    /// Whether the socket is gone.
    pub fn has_ended(&self) -> bool {
        self.ended.has_changed().is_err()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = match self.check_cut(context) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(()) => Pin::new(&mut self.stream).poll_read(context, buffer),
        };
        result.map(|result| self.remember(result))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes).map(|result| self.remember(result))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context).map(|result| self.remember(result))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> Connected for Watched<S> {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_cut_ends_a_read_that_waits_and_the_end_is_seen_when_the_socket_is_dropped() {
        let (near, _far) = tokio::io::duplex(64);
        let (mut watched, cord) = Watched::new(near);
        let reading = tokio::spawn(async move { watched.read_u8().await.unwrap_err().kind() });
        tokio::task::yield_now().await;
        assert!(!cord.has_ended());
        cord.cut();
        assert_eq!(reading.await.unwrap(), io::ErrorKind::ConnectionAborted);
        assert_eq!(cord.ended().await.as_deref(), Some("the connection was closed on this side"));
    }

    #[tokio::test]
    async fn a_socket_outlives_its_cord() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut watched, cord) = Watched::new(near);
        drop(cord);
        far.write_u8(7).await.unwrap();
        assert_eq!(watched.read_u8().await.unwrap(), 7);
    }
}
