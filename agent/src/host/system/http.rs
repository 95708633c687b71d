//! The smallest HTTP client: one GET, the status code of the answer and the beginning of its body.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::host::query::Page;

/// What does not answer in this time does not answer.
const LIMIT: Duration = Duration::from_secs(3);

/// Head and body together, in bytes: of more than this nobody wants to know.
const MOST: usize = 8192;
const MOST_OF_BODY: usize = 4096;

/// The answer, or none when nothing answers in HTTP. A server that does not end its answer in time has answered with what came.
pub(super) async fn page(address: SocketAddr, path: &str) -> Option<Page> {
    let mut answer = Vec::new();
    let asked = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: muster\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        while answer.len() < MOST && stream.read_buf(&mut answer).await.ok()? > 0 {}
        Some(())
    };
    let _ = tokio::time::timeout(LIMIT, asked).await;
    let status = parse_status(&answer)?;
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(answer.len(), |end| end + 4);
    let end = answer.len().min(body + MOST_OF_BODY);
    Some(Page { status, text: String::from_utf8_lossy(&answer[body..end]).into_owned() })
}

/// `HTTP/1.1 200 OK`
fn parse_status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.get(..12)?).ok()?;
    let (version, code) = line.split_once(' ')?;
    (version.starts_with("HTTP/1.") && code.len() == 3).then(|| code.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 256];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        });
        address
    }

    #[tokio::test]
    async fn status_and_body_of_an_answer_are_read_and_anything_else_is_none() {
        let of = async |answer| page(server(answer).await, "/").await.map(|page| (page.status, page.text));
        let answered = |status, text: &str| Some((status, text.to_owned()));
        assert_eq!(of(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhello").await, answered(200, "hello"));
        assert_eq!(of(b"HTTP/1.0 404 Not Found\r\n\r\n").await, answered(404, ""));
        assert_eq!(of(b"HTTP/1.1 200 OK\r\nServer: x").await, answered(200, ""));
        assert_eq!(of(b"SSH-2.0-OpenSSH_9.2p1\r\n").await, None);
        assert_eq!(of(b"").await, None);
    }

    #[tokio::test]
    async fn of_a_long_body_the_beginning_is_read() {
        let long: &'static [u8] =
            Vec::leak([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 20_000]].concat());
        assert_eq!(page(server(long).await, "/").await.unwrap().text.len(), MOST_OF_BODY);
    }

    #[tokio::test]
    async fn a_closed_port_is_none() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(page(address, "/").await, None);
    }
}
