//! Names and values that cross an edge, parsed once into types that cannot be wrong.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::step_kind::StepKind;

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
    UserName: "a user name: at most 32 of a-z, 0-9, '-' and '_', beginning with a letter or '_'",
        |value| {
            value.len() <= 32
                && value.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
                && value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
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
mod tests {
    use super::*;

    use proptest::prelude::*;

    use crate::hostile::{PIECES, is_inert, is_showable, values};

    /// One good value of every type above; a type without one fails here.
    fn good(name: &str) -> &'static str {
        match name {
            "NodeName" => "node-1.lab",
            "HostName" => "M1_old.lab-2",
            "UserName" => "student_1",
            "ImageReference" => "registry.example:5000/a/b_c:v1.2-x",
            "StepId" => "node-1.lab/kubeadm-join",
            "ApiEndpoint" => "[fd00::1]:6443",
            "KeyHash" => "sha256:58bebb5a08acf2f61c443ebc45f3f860d481bc528790d1c88cf336935a679e7e",
            other => panic!("{other} is new: give a good value of it here"),
        }
    }

    type Parser = fn(&str) -> Result<String, Malformed>;

    fn types() -> impl Iterator<Item = (&'static str, Parser)> {
        let version: Parser = |value| value.parse::<KubernetesVersion>().map(String::from);
        let token: Parser = |value| {
            is_bootstrap_token(value).then(|| value.to_owned()).ok_or(Malformed::new(value, "a token"))
        };
        TEXT_TYPES.iter().copied().chain([("KubernetesVersion", version), ("bootstrap token", token)])
    }

    #[test]
    fn hostile_values_are_refused_by_every_name() {
        for value in values() {
            for (name, parse) in types() {
                let shown: String = value.chars().take(40).collect();
                let refusal = parse(&value).expect_err(&format!("{name} took {shown:?}")).to_string();
                assert!(is_showable(&refusal), "{name}: {shown:?}");
            }
        }
    }

    #[test]
    fn a_good_value_with_a_hostile_piece_anywhere_in_it_is_refused_by_every_name() {
        for (name, parse) in TEXT_TYPES {
            let good = good(name);
            assert_eq!(parse(good).unwrap(), good);
            for piece in PIECES {
                for place in 0..=good.len() {
                    let value = format!("{}{piece}{}", &good[..place], &good[place..]);
                    assert!(parse(&value).is_err(), "{name} took {value:?}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

        #[test]
        fn what_a_name_takes_is_inert_and_is_the_same_when_it_is_read_again(
            value in prop_oneof![any::<String>(), "[a-z0-9A-Z./:@_ \\-$%\n\u{202e}]{0,80}", "[a-z0-9./:-]{1,24}"]
        ) {
            for (name, parse) in types() {
                if let Ok(taken) = parse(&value) {
                    prop_assert!(is_inert(&taken), "{} took {:?}", name, taken);
                    prop_assert_eq!(parse(&taken), Ok(taken.clone()));
                }
            }
        }
    }

    #[test]
    fn an_image_is_named_as_docker_names_it() {
        let digest = "sha256:58bebb5a08acf2f61c443ebc45f3f860d481bc528790d1c88cf336935a679e7e";
        for good in [
            "nginx",
            "nginx:1.22",
            "k8s.gcr.io/kube-apiserver:v1.20.2",
            "quay.io/coreos/flannel:v0.13.1-rc1",
            "localhost:5000/a__b/c:LATEST_1",
            &format!("registry.k8s.io/pause:3.9@{digest}"),
        ] {
            assert!(good.parse::<ImageReference>().is_ok(), "{good}");
        }
        for wrong in
            ["A", "/a", "a/../b", "a//b", "a:", "a:b:c", "a@b", "a.io:x/b", "-a/b", "a/-b", "a@sha256:12"]
        {
            assert!(wrong.parse::<ImageReference>().is_err(), "{wrong}");
        }
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
        assert_eq!(id, StepId::of(&"node-1.lab".parse().unwrap(), StepKind::KubeadmJoin));
        let node: NodeName = "m1".parse().unwrap();
        let labelled = StepId::labelled(&node, StepKind::DrainNode, "w1.lab").unwrap();
        assert_eq!((labelled.as_str(), labelled.kind()), ("m1/drain-node.w1.lab", Some(StepKind::DrainNode)));
        assert!(StepId::labelled(&node, StepKind::Kubeconfig, "a_b").is_err());
        assert_eq!("m1/of-tomorrow".parse::<StepId>().unwrap().kind(), None);
    }

    #[test]
    fn the_endpoint_of_an_api_server_is_a_host_and_a_port_and_nothing_else() {
        for good in ["10.88.0.11:6443", "[fd00::1]:6443", "master.lab:1"] {
            assert!(good.parse::<ApiEndpoint>().is_ok(), "{good}");
        }
        for wrong in [
            "a:+1",
            "a:0",
            "a:65536",
            "a:b:1",
            "[a]:1",
            "fd00::1:6443",
            "[fd00::1]6443",
            "a:6443x",
            "a",
            ":1",
        ] {
            assert!(wrong.parse::<ApiEndpoint>().is_err(), "{wrong}");
        }
    }
}
