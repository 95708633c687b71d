//! What a failed cluster leaves behind for whoever asks why: the kubelet's journal, an endpoint that does not answer. All
//! of it bounded, and redacted before anybody sees it.

use std::time::Duration;

use jiff::Timestamp;
use muster_proto::redaction::{printable, redact};
use serde_json::Value;
use tokio::net::TcpStream;

use super::child::{find, run};
use crate::host::HostError;
use crate::host::query::JournalLine;

const LIMIT: Duration = Duration::from_secs(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// A longer line is cut; a goroutine dump or an event object need not be kept.
const LONGEST_LINE: usize = 2000;

/// The lines of a unit since then, oldest first.
pub(super) async fn unit_journal(unit: &str, since: Timestamp) -> Result<Vec<JournalLine>, HostError> {
    if find("journalctl").is_none() {
        return Ok(Vec::new());
    }
    // Whole seconds: systemd before 256 knows no fraction after @.
    let since = format!("@{}", since.as_second());
    let arguments = ["-u", unit, "-o", "json", "--since", since.as_str(), "--no-pager", "--quiet"];
    let answer = run("journalctl", &arguments, LIMIT).await?;
    Ok(parse_journal(&String::from_utf8_lossy(&answer.output)))
}

fn parse_journal(said: &str) -> Vec<JournalLine> {
    said.lines().filter_map(parse_line).collect()
}

/// A message that is no text is an array of bytes in journalctl's JSON.
fn parse_line(line: &str) -> Option<JournalLine> {
    let entry: Value = serde_json::from_str(line).ok()?;
    let microseconds = entry["__REALTIME_TIMESTAMP"].as_str()?.parse().ok()?;
    let message = match &entry["MESSAGE"] {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            let bytes: Vec<u8> =
                bytes.iter().filter_map(Value::as_u64).filter_map(|byte| u8::try_from(byte).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => return None,
    };
    let cut: String = message.chars().take(LONGEST_LINE).collect();
    Some(JournalLine {
        time: Timestamp::from_microsecond(microseconds).ok()?,
        message: redact(&printable(&cut)),
    })
}

/// Why no connection can be opened; none when it can.
pub(super) async fn unreachable(endpoint: &str) -> Option<String> {
    match tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(endpoint)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => error.to_string(),
        }),
        Err(_) => Some(format!("no answer within {} s", CONNECT_LIMIT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_lines_keep_their_time_and_lose_their_secrets() {
        let said = "{\"__REALTIME_TIMESTAMP\":\"1795345413652436\",\"MESSAGE\":\"F1122 failed to run Kubelet: --token s41abx.qkb1j0cxvu3rp1j0\"}\n\
                    {\"__REALTIME_TIMESTAMP\":\"1795345414000000\",\"MESSAGE\":[72,105]}\n-- no json --\n";
        let lines = parse_journal(said);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].message.ends_with("--token <redacted>"), "{}", lines[0].message);
        assert_eq!(
            (lines[0].time.as_microsecond(), lines[1].message.as_str()),
            (1_795_345_413_652_436, "Hi")
        );
    }

    #[tokio::test]
    async fn an_endpoint_is_reachable_while_somebody_listens() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        assert_eq!(unreachable(&endpoint).await, None);
        drop(listener);
        assert_eq!(unreachable(&endpoint).await.as_deref(), Some("connection refused"));
    }
}
