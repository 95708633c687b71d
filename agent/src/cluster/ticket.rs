//! The join ticket: what `kubeadm init` and `kubeadm token create --print-join-command` print for those who may join.

use std::fmt;

use muster_proto::agent;
use muster_proto::names::{ApiEndpoint, KeyHash, is_bootstrap_token};
use secrecy::{ExposeSecret, SecretString};

use crate::cluster::membership::ca_hashes;

/// What kubeadm reads instead of cluster-info: the server and its CA certificate. Removed after the join.
pub(crate) const DISCOVERY_FILE: &str = "/run/muster-agent/join-discovery.conf";

/// A kubeadm token that lives minutes, where to use it, and the pins of the cluster's CA. `Debug` does not show the token.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// HOST:PORT of the API server.
    pub endpoint: ApiEndpoint,
    pub token: SecretString,
    pub ca_hashes: Vec<KeyHash>,
    /// pki/ca.crt of the node that gave the ticket; none on a ticket just captured.
    pub ca: Option<PinnedCa>,
}

/// A CA certificate whose every public key is one of a ticket's pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedCa {
    pem: String,
    hash: KeyHash,
}

impl PinnedCa {
    /// None when the text holds no certificate, or one with a key that is not pinned.
    pub fn of(pem: &str, pins: &[KeyHash]) -> Option<Self> {
        let hashes = ca_hashes(pem)?;
        if !hashes.iter().all(|hash| pins.contains(hash)) {
            return None;
        }
        Some(Self { pem: pem.to_owned(), hash: hashes.into_iter().next()? })
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn hash(&self) -> &KeyHash {
        &self.hash
    }
}

/// Text that holds no join command, or one that cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoTicket(&'static str);

impl fmt::Display for NoTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no usable join ticket: {}", self.0)
    }
}

impl std::error::Error for NoTicket {}

impl Ticket {
    /// Reads the worker's join command out of kubeadm's output: one line up to 1.13, wrapped with a backslash and 4 spaces
    /// up to 1.20, with a tab from 1.21, and with a run of spaces in `--print-join-command` of 1.20.
    pub fn parse(output: &str) -> Result<Self, NoTicket> {
        let start = output.rfind("kubeadm join ").ok_or(NoTicket("the words `kubeadm join` are missing"))?;
        let mut command = String::new();
        for line in output[start..].lines() {
            let line = line.trim_end();
            command.push_str(line.trim_end_matches('\\'));
            command.push(' ');
            if !line.ends_with('\\') {
                break;
            }
        }
        let mut words = command.split_whitespace().skip(2);
        let (mut endpoint, mut token, mut ca_hashes) = (None, None, Vec::new());
        while let Some(word) = words.next() {
            let (flag, value) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None if word.starts_with("--") && word != "--control-plane" => (word, words.next()),
                None => (word, None),
            };
            match (flag, value) {
                ("--token", Some(value)) => token = Some(value),
                ("--discovery-token-ca-cert-hash", Some(value)) => {
                    ca_hashes.push(value.parse().map_err(|_| NoTicket("the CA hash is malformed"))?);
                }
                (bare, None) if !bare.starts_with("--") => endpoint = Some(bare),
                _ => {}
            }
        }
        let endpoint =
            endpoint.and_then(|text: &str| text.parse().ok()).ok_or(NoTicket("it names no HOST:PORT"))?;
        let token =
            token.filter(|text| is_bootstrap_token(text)).ok_or(NoTicket("it holds no well-formed token"))?;
        if ca_hashes.is_empty() {
            return Err(NoTicket("it holds no CA hash"));
        }
        Ok(Self { endpoint, token: token.to_owned().into(), ca_hashes, ca: None })
    }

    /// The public half of the token: the name of its Secret.
    pub fn id(&self) -> &str {
        self.token.expose_secret().split('.').next().unwrap_or_default()
    }

    pub fn to_message(&self) -> agent::Ticket {
        agent::Ticket {
            endpoint: self.endpoint.to_string(),
            token: self.token.expose_secret().to_owned(),
            ca_hashes: self.ca_hashes.iter().map(ToString::to_string).collect(),
            ca_certificate_hash: self.ca.as_ref().map(|ca| ca.hash.to_string()).unwrap_or_default(),
            ca_certificate: self.ca.as_ref().map(|ca| ca.pem.clone()).unwrap_or_default(),
        }
    }

    /// The ticket of a message, its CA certificate held against its pins: nothing of it is believed.
    pub fn from_message(message: &agent::Ticket) -> Result<Self, NoTicket> {
        let ca_hashes =
            message.ca_hashes.iter().map(|hash| hash.parse()).collect::<Result<Vec<KeyHash>, _>>();
        let ca_hashes = ca_hashes.map_err(|_| NoTicket("the CA hash is malformed"))?;
        let malformed = NoTicket("endpoint, token or CA hash is malformed");
        let Ok(endpoint) = message.endpoint.parse() else { return Err(malformed) };
        if !is_bootstrap_token(&message.token) || ca_hashes.is_empty() {
            return Err(malformed);
        }
        let ca = PinnedCa::of(&message.ca_certificate, &ca_hashes)
            .ok_or(NoTicket("its CA certificate is not the one that its hash names"))?;
        Ok(Self { endpoint, token: message.token.clone().into(), ca_hashes, ca: Some(ca) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{CA_CERTIFICATE, CA_HASH};

    const HASH: &str = "sha256:58bebb5a08acf2f61c443ebc45f3f860d481bc528790d1c88cf336935a679e7e";

    fn read(output: &str) -> (String, String, usize) {
        let ticket = Ticket::parse(output).unwrap();
        (ticket.endpoint.to_string(), ticket.token.expose_secret().to_owned(), ticket.ca_hashes.len())
    }

    #[test]
    fn the_join_command_is_read_in_the_layout_of_every_version() {
        let expected = ("10.88.0.11:6443".to_owned(), "s41abx.qkb1j0cxvu3rp1j0".to_owned(), 1);
        let lead =
            "You can now join any number of machines by running the following on each node\nas root:\n\n";
        for layout in [
            format!(
                "{lead}  kubeadm join 10.88.0.11:6443 --token s41abx.qkb1j0cxvu3rp1j0 --discovery-token-ca-cert-hash {HASH}\n"
            ),
            format!(
                "{lead}kubeadm join 10.88.0.11:6443 --token s41abx.qkb1j0cxvu3rp1j0 \\\n    --discovery-token-ca-cert-hash {HASH} \n"
            ),
            format!(
                "{lead}kubeadm join 10.88.0.11:6443 --token s41abx.qkb1j0cxvu3rp1j0 \\\n\t--discovery-token-ca-cert-hash {HASH} \n"
            ),
            format!(
                "kubeadm join 10.88.0.11:6443 --token s41abx.qkb1j0cxvu3rp1j0     --discovery-token-ca-cert-hash {HASH} \n"
            ),
        ] {
            assert_eq!(read(&layout), expected, "{layout}");
        }
    }

    #[test]
    fn of_a_control_plane_and_a_worker_command_the_workers_is_taken() {
        let text = format!(
            "  kubeadm join lb.example:6443 --token aaaaaa.aaaaaaaaaaaaaaaa \\\n    --discovery-token-ca-cert-hash {HASH} \\\n    --control-plane --certificate-key K\n\nkubeadm join lb.example:6443 --token bbbbbb.bbbbbbbbbbbbbbbb \\\n    --discovery-token-ca-cert-hash {HASH} \n"
        );
        assert_eq!(read(&text).1, "bbbbbb.bbbbbbbbbbbbbbbb");
    }

    #[test]
    fn a_command_without_token_hash_or_endpoint_is_no_ticket() {
        for text in [
            "kubeadm init failed",
            "kubeadm join 10.88.0.11:6443 --token <value withheld> --discovery-token-ca-cert-hash sha256:12",
            "kubeadm join 10.88.0.11:6443 --token s41abx.qkb1j0cxvu3rp1j0",
            &format!("kubeadm join --token s41abx.qkb1j0cxvu3rp1j0 --discovery-token-ca-cert-hash {HASH}"),
        ] {
            assert!(Ticket::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_ticket_whose_ca_certificate_is_not_the_pinned_one_is_refused() {
        let mut ticket = Ticket::parse(&format!(
            "kubeadm join h:1 --token s41abx.qkb1j0cxvu3rp1j0 --discovery-token-ca-cert-hash {CA_HASH}"
        ))
        .unwrap();
        assert!(Ticket::from_message(&ticket.to_message()).is_err(), "a ticket without a certificate");
        ticket.ca = PinnedCa::of(CA_CERTIFICATE, &ticket.ca_hashes);
        let good = ticket.to_message();
        assert_eq!(good.ca_certificate_hash, CA_HASH);
        assert_eq!(Ticket::from_message(&good).unwrap().ca.unwrap().pem(), CA_CERTIFICATE);

        let other_pin = agent::Ticket { ca_hashes: vec![HASH.into()], ..good.clone() };
        let garbage = agent::Ticket { ca_certificate: "ca.crt".into(), ..good };
        for wrong in [other_pin, garbage] {
            let error = Ticket::from_message(&wrong).unwrap_err().to_string();
            assert!(error.ends_with("its CA certificate is not the one that its hash names"), "{error}");
        }
    }

    #[test]
    fn the_token_is_not_shown_by_debug() {
        let ticket = Ticket::parse(&format!(
            "kubeadm join h:1 --token s41abx.qkb1j0cxvu3rp1j0 --discovery-token-ca-cert-hash {HASH}"
        ))
        .unwrap();
        assert!(!format!("{ticket:?}").contains("qkb1j0cxvu3rp1j0"));
    }
}
