//! Names and values that cross an edge, parsed once into types that cannot be wrong.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A value that does not have the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct Malformed {
    /// The value, cut to what a screen can hold.
    value: String,
    /// The form that was expected, for instance "a node name: ...".
    expected: &'static str,
}

impl Malformed {
    pub fn new(value: &str, expected: &'static str) -> Self {
        Self { value: value.chars().take(80).collect(), expected }
    }
}

macro_rules! text_type {
    ($name:ident, $expected:expr, $valid:expr) => {
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

/// The name of a node: hostname, Kubernetes node name and enrolled name in one. RFC 1123, at most 63 characters
/// (Kubernetes uses it as a label value).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);
text_type!(
    NodeName,
    "a node name: at most 63 of a-z, 0-9, '-' and '.', every part beginning and ending with a letter or digit",
    |value| value.len() <= 63 && value.split('.').all(is_dns_label)
);

/// The name of a local user as Debian's adduser allows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);
text_type!(
    UserName,
    "a user name: at most 32 of a-z, 0-9, '-' and '_', beginning with a letter or '_'",
    |value| {
        value.len() <= 32
            && value.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
            && value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
    }
);

/// A container image with its tag or digest, as `docker pull` takes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference(String);
text_type!(ImageReference, "a container image such as nginx:1.22 or registry.k8s.io/pause:3.9", |value| {
    value.len() <= 255
        && value.starts_with(|first: char| first.is_ascii_alphanumeric())
        && !value.ends_with(['/', ':', '.', '-', '_', '@'])
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "./:@_-".contains(c))
});

/// The identity of a planned step: `NODE/STEP`, for instance `node-1/kubeadm-join`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepId(String);
text_type!(StepId, "a step id such as node-1/kubeadm-join", |value| {
    value.len() <= 128
        && value
            .split_once('/')
            .is_some_and(|(node, step)| node.parse::<NodeName>().is_ok() && step.split('.').all(is_dns_label))
});

impl StepId {
    pub fn new(node: &NodeName, step: &str) -> Result<Self, Malformed> {
        format!("{node}/{step}").parse()
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

/// `sha256:` and 64 hexadecimal digits: the pin of a public key, as kubeadm prints it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash(String);
text_type!(KeyHash, "a key hash: sha256: and 64 hexadecimal digits", |value| {
    value.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
});

/// Whether the text is a kubeadm bootstrap token: `[a-z0-9]{6}.[a-z0-9]{16}`
/// (kubernetes 1.20.2, staging/src/k8s.io/cluster-bootstrap/token/api/types.go).
pub fn is_bootstrap_token(value: &str) -> bool {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    value
        .split_once('.')
        .is_some_and(|(id, secret)| id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret))
}

fn is_dns_label(label: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(label.bytes().next())
        && edge(label.bytes().last())
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: [&str; 12] =
        ["", "$(id)", "a\nb", "a\0b", "--help", "%n", "\u{202e}abc", "../x", "a b", "A", "-a", "a;reboot"];

    #[test]
    fn hostile_values_are_refused_by_every_name() {
        for value in HOSTILE {
            assert!(value.parse::<NodeName>().is_err(), "node name {value:?}");
            assert!(value.parse::<UserName>().is_err(), "user name {value:?}");
            assert!(value.parse::<StepId>().is_err(), "step id {value:?}");
            assert!(value.parse::<KubernetesVersion>().is_err(), "version {value:?}");
            assert!(value.parse::<KeyHash>().is_err(), "key hash {value:?}");
            assert!(!is_bootstrap_token(value), "token {value:?}");
        }
        for value in HOSTILE.iter().filter(|value| **value != "A") {
            assert!(value.parse::<ImageReference>().is_err(), "image {value:?}");
        }
        let long = "a".repeat(10_000_000);
        assert!(long.parse::<NodeName>().is_err() && long.parse::<ImageReference>().is_err());
    }

    #[test]
    fn a_refusal_shows_the_value_and_what_was_expected() {
        let error = "Node_1".parse::<NodeName>().unwrap_err().to_string();
        assert!(error.starts_with("\"Node_1\" is not a node name:"), "{error}");
    }

    #[test]
    fn a_version_is_shown_with_its_leading_v_however_it_was_written() {
        assert_eq!("1.20.2".parse::<KubernetesVersion>().unwrap().to_string(), "v1.20.2");
        assert_eq!("v1.36.0".parse::<KubernetesVersion>().unwrap().to_string(), "v1.36.0");
        for wrong in ["1.20", "1.20.2.1", "1.020.2", "v1.20.x", "1.20.2+build"] {
            assert!(wrong.parse::<KubernetesVersion>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_step_id_knows_its_node_and_its_step() {
        let id: StepId = "node-1.lab/kubeadm-join".parse().unwrap();
        assert_eq!((id.node(), id.step()), ("node-1.lab", "kubeadm-join"));
    }
}
