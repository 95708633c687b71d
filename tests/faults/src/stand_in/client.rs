//! Talking to the API server: one request, one connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;

use super::{Said, said};

const LIMIT: Duration = Duration::from_secs(5);
/// As long as a join is told to ask for its cluster.
const DISCOVERY: Duration = Duration::from_secs(120);

/// Whoever can speak to one API server.
pub(super) struct Client {
    /// HOST:PORT
    pub(super) server: String,
    /// PEM.
    ca: String,
    settings: Arc<ClientConfig>,
    token: Option<String>,
}

impl Client {
    /// As a kubeconfig says.
    pub(super) fn of(kubeconfig: &str) -> Said<Self> {
        let text = std::fs::read_to_string(kubeconfig).map_err(|error| format!("{kubeconfig}: {error}"))?;
        let file: Value = serde_saphyr::from_str(&text).map_err(said)?;
        let cluster = file.pointer("/clusters/0/cluster").cloned().unwrap_or_default();
        let user = file.pointer("/users/0/user").cloned().unwrap_or_default();
        let decoded =
            |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).map_err(said);
        let mut roots = RootCertStore::empty();
        let ca = decoded(&cluster["certificate-authority-data"])?;
        roots.add(CertificateDer::from_pem_slice(&ca).map_err(said)?).map_err(said)?;
        let settings = ClientConfig::builder().with_root_certificates(roots);
        // In the file itself, or in another one that it names.
        let pem = |name: &str| match user[name].as_str() {
            Some(path) => std::fs::read(path).map_err(|error| format!("{path}: {error}")),
            None => decoded(&user[format!("{name}-data").as_str()]),
        };
        let certificate = pem("client-certificate")?;
        let settings = match certificate.is_empty() {
            true => settings.with_no_client_auth(),
            false => {
                let certificate = CertificateDer::from_pem_slice(&certificate).map_err(said)?;
                let key = PrivateKeyDer::from_pem_slice(&pem("client-key")?).map_err(said)?;
                settings.with_client_auth_cert(vec![certificate], key).map_err(said)?
            }
        };
        let server = cluster["server"].as_str().unwrap_or_default().trim_start_matches("https://").to_owned();
        let token = user["token"].as_str().map(str::to_owned);
        let ca = String::from_utf8(ca).map_err(said)?;
        Ok(Self { server, ca, settings: Arc::new(settings), token })
    }

    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Said<(u16, Value)> {
        let address = self.server.parse().map_err(|error| format!("{}: {error}", self.server))?;
        let socket = TcpStream::connect_timeout(&address, LIMIT).map_err(said)?;
        socket.set_read_timeout(Some(LIMIT)).map_err(said)?;
        let name = ServerName::from(address.ip());
        let connection = ClientConnection::new(self.settings.clone(), name).map_err(said)?;
        let mut stream = StreamOwned::new(connection, socket);
        let body = body.map(Value::to_string).unwrap_or_default();
        let token = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{}Content-Length: {}\r\n\r\n{body}",
            self.server,
            token.unwrap_or_default(),
            body.len()
        );
        stream.write_all(head.as_bytes()).map_err(said)?;
        let mut answer = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            if let Some(done) = parse(&answer) {
                return Ok(done);
            }
            match stream.read(&mut buffer) {
                Ok(0) => return Err("the API server closed the connection".to_owned()),
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(error) => return Err(said(error)),
            }
        }
    }

    pub(super) fn put(&self, path: &str, object: &Value) -> Said<Value> {
        match self.ask("PUT", path, Some(object))? {
            (200, object) => Ok(object),
            (code, answer) => Err(format!("PUT {path}: {code} {answer}")),
        }
    }

    pub(super) fn get(&self, path: &str) -> Said<Option<Value>> {
        match self.ask("GET", path, None)? {
            (200, object) => Ok(Some(object)),
            (404, _) => Ok(None),
            (code, answer) => Err(format!("GET {path}: {code} {answer}")),
        }
    }
}

fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split_whitespace().nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?.trim().parse().ok()?;
    (body.len() >= length).then(|| (code, serde_json::from_str(&body[..length]).unwrap_or_default()))
}

/// Endpoint and CA of a discovery file, once a server with a certificate of this CA has answered: kubeadm's discovery, which
/// asks a server that is away again and again.
pub(super) fn discover(file: &str) -> Said<(String, String)> {
    let client = Client::of(file)?;
    let deadline = Instant::now() + DISCOVERY;
    while let Err(problem) = client.ask("GET", "/healthz", None) {
        if Instant::now() > deadline {
            return Err(format!("couldn't validate the identity of the API Server: {problem}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok((client.server, client.ca))
}
