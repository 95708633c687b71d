//! Names and values that cross an edge, parsed once into types that cannot be wrong.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use crate::malformed::Malformed;
use crate::step_kind::StepKind;

/// Types that are a text of one form. Each stands in `TEXT_TYPES` by being made here, and is tried there.
macro_rules! text_types {
    ($($(#[$documentation:meta])* $name:ident: $expected:expr, $valid:expr;)*) => {
        $(text_type!($(#[$documentation])* $name, $expected, $valid);)*

        /// Name and parser of every type above.
        #[cfg(any(test, feature = "hostile"))]
        pub const TEXT_TYPES: &[(&str, fn(&str) -> Result<String, Malformed>)] =
            &[$((stringify!($name), |value| value.parse::<$name>().map(String::from))),*];
    };
}

macro_rules! text_type {
    ($(#[$documentation:meta])* $name:ident, $expected:expr, $valid:expr) => {
        $(#[$documentation])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = Malformed;
            fn from_str(value: &str) -> Result<Self, Malformed> {
                let valid: fn(&str) -> bool = $valid;
                if valid(value) { Ok(Self(value.to_owned())) } else { Err(Malformed::new(value, $expected)) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = Malformed;
            fn try_from(value: String) -> Result<Self, Malformed> {
                value.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_types! {
    /// The name of a node: hostname, Kubernetes node name and enrolled name in one. RFC 1123, at most 63 characters
    /// (Kubernetes uses it as a label value).
    NodeName: "a node name: at most 63 of a-z, 0-9, '-' and '.', every part beginning and ending with a letter or digit",
        |value| value.len() <= 63 && value.split('.').all(is_dns_label);

    /// What a machine may be called, also one that is no node yet: the kernel takes 64 bytes, an administrator capitals and
    /// underscores (hostname(7) allows less than what is found).
    HostName: "a host name: at most 64 of a-z, A-Z, 0-9, '-', '_' and '.', beginning with a letter, a digit or '_'",
        |value| {
            value.len() <= 64
                && value.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
                && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };

    /// The name of a local user as Debian's adduser allows it.
    UserName: "a user name: at most 64 letters, digits, '-', '_', '.' and '@', beginning with a letter or '_'",
        |value| {
            value.len() <= 64
                && value.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c))
                && !value.contains("..")
                && !value.ends_with('.')
        };

    /// A container image with its tag or digest, as `docker pull` takes it.
    ImageReference: "a container image such as nginx:1.22 or registry.k8s.io/pause:3.9", is_image;

    /// The identity of a planned step: `NODE/STEP`, for instance `node-1/kubeadm-join`. The longest one names two nodes.
    StepId: "a step id such as node-1/kubeadm-join",
        |value| {
            value.len() <= 160
                && value.split_once('/').is_some_and(|(node, step)| {
                    node.parse::<NodeName>().is_ok() && step.split('.').all(is_dns_label)
                })
        };

    /// Where an API server listens: HOST:PORT; an IPv6 address stands in brackets.
    ApiEndpoint: "an endpoint HOST:PORT such as 10.88.0.11:6443 or [fd00::1]:6443", is_endpoint;

    /// `sha256:` and 64 hexadecimal digits: the pin of a public key, as kubeadm prints it.
    KeyHash: "a key hash: sha256: and 64 hexadecimal digits",
        |value| value.strip_prefix("sha256:").is_some_and(is_sha256);
}

fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let is_host = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty() && host.len() <= 253 && !host.starts_with(['-', '.']) && host.chars().all(plain)
        }
    };
    is_host && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

impl From<&NodeName> for HostName {
    fn from(name: &NodeName) -> Self {
        Self(name.0.clone())
    }
}

impl StepId {
    /// The one step of its kind on this node.
    pub fn of(node: &NodeName, kind: StepKind) -> Self {
        Self(format!("{node}/{kind}"))
    }

    /// One of several steps of a kind on this node: `NODE/KIND.LABEL`.
    pub fn labelled(node: &NodeName, kind: StepKind, label: &str) -> Result<Self, Malformed> {
        format!("{node}/{kind}.{label}").parse()
    }

    /// None for what is no step of a plan, and for one that a newer version knows.
    pub fn kind(&self) -> Option<StepKind> {
        self.step().split('.').next()?.parse().ok()
    }

    /// The part after the node's name.
    pub fn step(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, step)| step)
    }

    /// The part before the step's name.
    pub fn node(&self) -> &str {
        self.0.split_once('/').map_or("", |(node, _)| node)
    }
}

/// A Kubernetes version, always with all three numbers; shown with the leading v that kubeadm wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KubernetesVersion {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

impl FromStr for KubernetesVersion {
    type Err = Malformed;
    fn from_str(value: &str) -> Result<Self, Malformed> {
        let number = |text: &str| {
            let plain = !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
            if plain && (text == "0" || !text.starts_with('0')) { text.parse().ok() } else { None }
        };
        let parts: Vec<Option<u16>> =
            value.strip_prefix('v').unwrap_or(value).split('.').map(number).collect();
        match parts[..] {
            [Some(major), Some(minor), Some(patch)] => Ok(Self { major, minor, patch }),
            _ => Err(Malformed::new(value, "a Kubernetes version such as v1.20.2")),
        }
    }
}

impl TryFrom<String> for KubernetesVersion {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        value.parse()
    }
}

impl From<KubernetesVersion> for String {
    fn from(value: KubernetesVersion) -> String {
        value.to_string()
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Whether the text is a kubeadm bootstrap token: `[a-z0-9]{6}.[a-z0-9]{16}`
/// (kubernetes 1.20.2, staging/src/k8s.io/cluster-bootstrap/token/api/types.go).
pub fn is_bootstrap_token(value: &str) -> bool {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    value
        .split_once('.')
        .is_some_and(|(id, secret)| id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret))
}

fn is_sha256(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// `[HOST[:PORT]/]PATH[:TAG][@sha256:DIGEST]` (github.com/distribution/reference, reference.go).
fn is_image(value: &str) -> bool {
    if value.len() > 255 {
        return false;
    }
    let (named, digest) =
        value.split_once('@').map_or((value, None), |(named, digest)| (named, Some(digest)));
    let (folders, last) =
        named.rsplit_once('/').map_or((None, named), |(folders, last)| (Some(folders), last));
    let (last, tag) = last.split_once(':').map_or((last, None), |(last, tag)| (last, Some(tag)));
    // What stands behind the registry's host.
    let folders = folders.and_then(|folders| match folders.split_once('/') {
        Some((first, rest)) if is_registry(first) => Some(rest),
        None if is_registry(folders) => None,
        _ => Some(folders),
    });
    let is_part = |part: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        part.bytes().next().is_some_and(plain)
            && part.bytes().last().is_some_and(plain)
            && part.bytes().all(|b| plain(b) || b"._-".contains(&b))
            && !part.contains("..")
    };
    let is_tag = |tag: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        tag.len() <= 128
            && tag.bytes().next().is_some_and(plain)
            && tag.bytes().all(|b| plain(b) || b".-".contains(&b))
    };
    folders.is_none_or(|folders| folders.split('/').all(is_part))
        && is_part(last)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(|digest| digest.strip_prefix("sha256:").is_some_and(is_sha256))
}

/// The first part of an image's name is the registry's host when it could not be a folder.
fn is_registry(part: &str) -> bool {
    let (host, port) = part.split_once(':').map_or((part, None), |(host, port)| (host, Some(port)));
    let is_label = |label: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        edge(label.bytes().next())
            && edge(label.bytes().last())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let meant = host.contains('.') || port.is_some() || host == "localhost";
    let is_port =
        |port: &str| !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    meant && host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_dns_label(label: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(label.bytes().next())
        && edge(label.bytes().last())
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests;
