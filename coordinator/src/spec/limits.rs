//! What a single value must keep to besides its form. Each function says what is wrong with a text and what to write.

use ipnet::IpNet;
use muster_proto::kubernetes::release::Release;
use muster_proto::names::{ImageReference, KubernetesVersion};
use muster_proto::redaction::printable;

/// A version that has a row in the table of releases.
pub(super) fn kubernetes_version(text: &str) -> Option<String> {
    match text.parse::<KubernetesVersion>() {
        Err(error) => Some(error.to_string()),
        Ok(version) if Release::of(version).is_some() => None,
        Ok(version) => {
            let (first, last) = Release::known();
            Some(format!("Muster does not know Kubernetes {version}; write a version from {first} to {last}"))
        }
    }
}

/// kube-controller-manager gives every node a /24 of an IPv4 range, a /64 of an IPv6 one, and refuses a range that is
/// more than 16 bits wider (kubernetes 1.20.2, pkg/controller/nodeipam and kubeadm's validation).
pub(super) fn pod_subnet(text: &str) -> Option<String> {
    let example = "10.244.0.0/16";
    range(text, example).or_else(|| {
        let part = node_part(&text.parse().ok()?);
        let found = text.parse::<IpNet>().ok()?;
        let (widest, prefix) = (part - 16, found.prefix_len());
        if prefix > part {
            return Some(format!("{found} is too small: every node takes a /{part} of it; write for instance {example}"));
        }
        (prefix < widest).then(|| {
            format!("{found} is too large: Kubernetes takes at most a /{widest} here; write for instance {example}")
        })
    })
}

/// The prefix length of the part of the pod subnet that one node gets.
pub(super) fn node_part(pods: &IpNet) -> u8 {
    if pods.addr().is_ipv4() { 24 } else { 64 }
}

/// The API server takes at most 20 bits of addresses; kubeadm wants ten addresses at least (kubernetes 1.20.2,
/// cmd/kube-apiserver/app/options/validation.go, cmd/kubeadm/app/constants: MinimumAddressesInServiceSubnet).
pub(super) fn service_subnet(text: &str) -> Option<String> {
    let example = "10.96.0.0/12";
    range(text, example).or_else(|| {
        let found = text.parse::<IpNet>().ok()?;
        let bits = found.max_prefix_len() - found.prefix_len();
        if bits < 4 {
            return Some(format!("{found} is too small: kubeadm wants ten addresses; write for instance {example}"));
        }
        let widest = found.max_prefix_len() - 20;
        (bits > 20).then(|| {
            format!("{found} is too large: Kubernetes takes at most a /{widest} here; write for instance {example}")
        })
    })
}

/// An address range whose addresses a machine may have.
fn range(text: &str, example: &str) -> Option<String> {
    let Ok(found) = text.parse::<IpNet>() else {
        let shown: String = text.chars().take(80).collect();
        return Some(format!("{shown:?} is not an address range; write for instance {example}"));
    };
    if found.addr() != found.network() {
        return Some(format!("{found} begins in the middle of its range; write {}", found.trunc()));
    }
    let reserved =
        ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/8", "fe80::/10", "ff00::/8"];
    let taken =
        reserved.iter().filter_map(|range| range.parse().ok()).find(|range| overlap(range, &found))?;
    Some(format!("{found} overlaps {taken}, which no network may use; write for instance {example}"))
}

/// Whether two ranges share an address.
pub(super) fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// kubeadm puts the image's name behind it.
pub(super) fn repository(text: &str) -> Option<String> {
    let plain = text.parse::<ImageReference>().is_ok() && !text.contains('@') && text.len() <= 200;
    let shown: String = text.chars().take(80).collect();
    (!plain).then(|| format!("{shown:?} is not an image repository; write for instance registry.example/k8s"))
}

/// The web server's image, by its tag: a runtime names what it holds so, and knows no digest of an image that was loaded from a file.
pub(super) fn tagged_image(text: &str) -> Option<String> {
    match text.parse::<ImageReference>() {
        Err(error) => Some(error.to_string()),
        Ok(_) if text.contains('@') => {
            let (tagged, _) = text.split_once('@').unwrap_or((text, ""));
            Some(format!(
                "{text} names its content by a digest, which no runtime lists for an image from a file; write {tagged}"
            ))
        }
        Ok(_) => None,
    }
}

/// A path that can be shown in a sentence. Whether there is such a file is seen when it is read.
pub(super) fn file_path(text: &str) -> Option<String> {
    let plain =
        !text.is_empty() && text.len() <= 1024 && printable(text) == text && !text.contains(['\n', '\t']);
    let shown: String = text.chars().take(80).collect();
    (!plain).then(|| format!("{shown:?} is not the path of a file; write for instance pod-network.yaml"))
}
