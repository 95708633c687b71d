//! The smallest HTTP client: one GET, and the status code of the answer.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What does not answer in this time does not answer.
const LIMIT: Duration = Duration::from_secs(3);

/// The status code, or none when nothing answers in HTTP.
pub(super) async fn status(address: SocketAddr, path: &str) -> Option<u16> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: muster\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        // The status line is all that is wanted.
        while answer.len() < 16 && stream.read_buf(&mut answer).await.ok()? > 0 {}
        parse_status(&answer)
    };
    tokio::time::timeout(LIMIT, asked).await.ok().flatten()
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
    async fn the_status_of_an_answer_is_read_and_anything_else_is_none() {
        assert_eq!(status(server(b"HTTP/1.1 200 OK\r\n\r\nhello").await, "/").await, Some(200));
        assert_eq!(status(server(b"HTTP/1.0 404 Not Found\r\n\r\n").await, "/").await, Some(404));
        assert_eq!(status(server(b"SSH-2.0-OpenSSH_9.2p1\r\n").await, "/").await, None);
        assert_eq!(status(server(b"").await, "/").await, None);
    }

    #[tokio::test]
    async fn a_closed_port_is_none() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(status(address, "/").await, None);
    }
}
