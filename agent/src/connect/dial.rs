//! Dialling the coordinator: TCP, then TLS 1.3 for one named use. A failure is final; nothing weaker is tried.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use muster_proto::names::Malformed;
use muster_proto::version::{DEFAULT_PORT, SERVER_NAME};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Every stage of dialling ends within this time.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the coordinator is: a host name or an address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// A coordinator that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("{0} cannot be resolved to an address: give the coordinator's IP address instead")]
    Unresolved(Endpoint, #[source] io::Error),
    #[error(
        "no answer from {0} within {DIAL_TIMEOUT:?}: most likely a firewall on the master drops TCP port {port} \
         (there: `sudo ufw allow in proto tcp to {to} port {port}`), or the address is not the master's",
        port = .0.port,
        to = .0.address_or_any()
    )]
    Silent(Endpoint),
    #[error(
        "nothing listens on {0}: is that the master's address, and does `systemctl status muster-coordinator` there say that it runs?"
    )]
    Refused(Endpoint),
    #[error("{0} cannot be reached")]
    Unreachable(Endpoint, #[source] io::Error),
    #[error("{0} is not the coordinator that this machine trusts, or does not trust this machine")]
    Untrusted(Endpoint, #[source] io::Error),
    #[error("{0} accepts connections and then says nothing: is that port the coordinator's?")]
    Mute(Endpoint),
    #[error(
        "{0} is no coordinator of this protocol: install the same version of muster-agent and muster-coordinator on both"
    )]
    OtherProtocol(Endpoint),
}

/// Opens a connection for this one use.
pub async fn dial(
    endpoint: &Endpoint,
    mut settings: ClientConfig,
    purpose: &[u8],
) -> Result<TlsStream<TcpStream>, DialError> {
    settings.alpn_protocols = vec![purpose.to_vec()];
    let socket = connect(endpoint).await?;
    let _ = socket.set_nodelay(true);
    let name = ServerName::try_from(SERVER_NAME)
        .map_err(|error| DialError::Untrusted(endpoint.clone(), io::Error::other(error)))?;
    let shaken = timeout(DIAL_TIMEOUT, TlsConnector::from(Arc::new(settings)).connect(name, socket)).await;
    let stream = shaken
        .map_err(|_| DialError::Mute(endpoint.clone()))?
        .map_err(|source| DialError::Untrusted(endpoint.clone(), source))?;
    if stream.get_ref().1.alpn_protocol() != Some(purpose) {
        return Err(DialError::OtherProtocol(endpoint.clone()));
    }
    Ok(stream)
}

async fn connect(endpoint: &Endpoint) -> Result<TcpStream, DialError> {
    let addresses = timeout(DIAL_TIMEOUT, lookup_host((endpoint.host.as_str(), endpoint.port)))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| DialError::Unresolved(endpoint.clone(), source))?;
    let mut last = DialError::Unresolved(endpoint.clone(), io::ErrorKind::NotFound.into());
    for address in addresses {
        last = match timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                DialError::Refused(endpoint.clone())
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => DialError::Silent(endpoint.clone()),
            Ok(Err(error)) => DialError::Unreachable(endpoint.clone(), error),
            Err(_) => DialError::Silent(endpoint.clone()),
        };
    }
    Err(last)
}

impl Endpoint {
    pub fn new(host: IpAddr, port: u16) -> Self {
        Self { host: host.to_string(), port }
    }

    /// What a rule of ufw can name: it takes no host names.
    fn address_or_any(&self) -> &str {
        if self.host.parse::<IpAddr>().is_ok() { &self.host } else { "any" }
    }
}

impl FromStr for Endpoint {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong =
            || Malformed::new(text, "a coordinator: HOST or HOST:PORT, an IPv6 address in [brackets]");
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) })
            }
            None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || "-.:".contains(c);
        if host.is_empty() || host.len() > 253 || host.starts_with(['-', '.']) || !host.chars().all(letters) {
            return Err(wrong());
        }
        let port = match port {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
            None => DEFAULT_PORT,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_a_host_and_a_port_and_nothing_else() {
        for (text, shown) in [
            ("10.88.0.11", "10.88.0.11:7443"),
            ("master.lab:8443", "master.lab:8443"),
            ("fd00::1", "[fd00::1]:7443"),
            ("[fd00::1]:8443", "[fd00::1]:8443"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        for wrong in
            ["", ":7443", "a:0", "a:65536", "a:+1", "--help", "a b", "$(id)", "[x]:1", "[::1]7443", "a:1:2x"]
        {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_out_names_the_firewall_and_the_exact_rule() {
        let said = |endpoint: &str| DialError::Silent(endpoint.parse().unwrap()).to_string();
        assert!(said("10.88.0.11").contains("`sudo ufw allow in proto tcp to 10.88.0.11 port 7443`"));
        assert!(said("master.lab:8443").contains("`sudo ufw allow in proto tcp to any port 8443`"));
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_said_so() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = connect(&Endpoint::new(free.ip(), free.port())).await.unwrap_err();
        assert!(matches!(error, DialError::Refused(_)), "{error}");
    }
}
