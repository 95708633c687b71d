//! The pod network's manifest, as far as Muster looks into it: its objects, the range of pod addresses that it names, and
//! the names that its configuration gets on the nodes. The coordinator asks when it reads the cluster file, the agent again
//! before it applies anything.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde_json::Value;

use crate::redaction::printable;

/// A text that cannot be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAManifest {
    #[error("not YAML: {0}")]
    Yaml(String),
    #[error("not a manifest: every document must be a Kubernetes object with a kind")]
    Object,
}

/// A range of pod addresses in a manifest, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// For instance `net-conf.json in ConfigMap kube-flannel-cfg (flannel)`.
    pub place: String,
    pub range: String,
}

/// The objects of the manifest; those of a List by themselves.
pub fn objects(manifest: &str) -> Result<Vec<Value>, NotAManifest> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifest).map_err(|error| {
        let message = error.to_string();
        let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
        // It may repeat what stands in the file.
        NotAManifest::Yaml(printable(first).chars().take(200).collect())
    })?;
    let items = |document: Value| match &document["items"] {
        Value::Array(items) => items.clone(),
        _ => vec![document],
    };
    let objects: Vec<Value> = documents.into_iter().flat_map(items).filter(|one| !one.is_null()).collect();
    if objects.is_empty() || objects.iter().any(|object| !object["kind"].is_string()) {
        return Err(NotAManifest::Object);
    }
    Ok(objects)
}

/// The first range of the manifest that is not the cluster's pod subnet.
pub fn other_range(objects: &[Value], pod_subnet: &IpNet) -> Option<Range> {
    let is_pod_subnet =
        |range: &str| range.trim().parse::<IpNet>().is_ok_and(|range| range.trunc() == pod_subnet.trunc());
    objects.iter().flat_map(ranges).find(|found| !is_pod_subnet(&found.range))
}

/// What CNI's library reads in /etc/cni/net.d (libcni, ConfFiles); `.json` is read too, but no network writes one.
const ENDINGS: [&str; 2] = [".conflist", ".conf"];

/// Networks that name their file not in the manifest but in a program of their image: the image, and the file.
const UNNAMED: [(&str, &[&str]); 4] = [
    ("/weave-kube", &["10-weave.conflist"]),
    ("cilium/cilium", &["05-cilium.conf", "05-cilium.conflist"]),
    ("antrea/antrea", &["10-antrea.conflist"]),
    ("kubeovn/kube-ovn", &["01-kube-ovn.conflist"]),
];

/// Whether a pod network may call its file in /etc/cni/net.d so: `10-flannel.conflist`. All begin with two digits, by which
/// the files are ordered.
pub fn is_configuration_file(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= 255
        && bytes.iter().take(2).all(u8::is_ascii_digit)
        && bytes.get(2) == Some(&b'-')
        && name.chars().all(of_a_file_name)
        && ENDINGS.iter().any(|ending| name.len() > 3 + ending.len() && name.ends_with(ending))
}

fn of_a_file_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_')
}

/// Programs that no pod network brings along (containernetworking/plugins), as far as they stand in manifests.
const PROGRAMS: [&str; 7] =
    ["bandwidth", "bridge", "firewall", "host-local", "loopback", "portmap", "tuning"];
/// What flannel's program calls in its turn, and every runtime.
const OF_FLANNEL: [&str; 3] = ["bridge", "host-local", "loopback"];

/// The network programs that the manifest's configuration calls and does not bring along. One whose pods put programs into the
/// folder brings all that it calls, except flannel, which brings its own alone (since 0.15).
pub fn programs_called(manifest: &str) -> BTreeSet<String> {
    let calls = |name: &str| {
        ["\"type\": ", "\"type\":"].iter().any(|key| manifest.contains(&format!("{key}\"{name}\"")))
    };
    if manifest.contains("/opt/cni/bin") && !calls("flannel") {
        return BTreeSet::new();
    }
    let of_flannel = OF_FLANNEL.into_iter().filter(|_| calls("flannel"));
    PROGRAMS.into_iter().filter(|name| calls(name)).chain(of_flannel).map(str::to_owned).collect()
}

/// The names that the pod network gives its configuration in /etc/cni/net.d, sorted. None: the manifest does not tell.
pub fn configuration_files(manifest: &str) -> BTreeSet<String> {
    let words = manifest.split(|letter| !of_a_file_name(letter));
    let named = words.filter(|word| is_configuration_file(word));
    let unnamed = UNNAMED.iter().filter(|(image, _)| manifest.contains(image)).flat_map(|(_, files)| *files);
    named.chain(unnamed.copied()).map(str::to_owned).collect()
}

/// Flannel's `Network` in net-conf.json of a ConfigMap; Calico's CALICO_IPV4POOL_CIDR of a DaemonSet. Other networks take
/// the cluster's pod subnet or say theirs elsewhere; nothing is found then.
fn ranges(object: &Value) -> Vec<Range> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if let Some(text) = object["data"]["net-conf.json"].as_str() {
        let network = serde_json::from_str::<Value>(text).ok();
        let range = network.and_then(|network| network["Network"].as_str().map(str::to_owned));
        let place = format!("net-conf.json in ConfigMap {name} (flannel)");
        return range.map(|range| Range { place, range }).into_iter().collect();
    }
    let containers = object.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let variables = containers.into_iter().flatten().filter_map(|container| container["env"].as_array());
    let pools = variables.flatten().filter(|variable| variable["name"] == "CALICO_IPV4POOL_CIDR");
    let range = |pool: &Value| {
        let place = format!("CALICO_IPV4POOL_CIDR in {} {name}", object["kind"].as_str().unwrap_or_default());
        Some(Range { place, range: pool["value"].as_str()?.to_owned() })
    };
    pools.filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLANNEL: &str = "kind: List\nitems:\n  - kind: Namespace\n  - kind: ConfigMap\n    metadata: {name: kube-flannel-cfg}\n    data:\n      net-conf.json: |\n        {\"Network\": \"10.5.0.0/16\", \"Backend\": {\"Type\": \"vxlan\"}}\n";
    const CALICO: &str = "kind: DaemonSet\nmetadata: {name: calico-node, namespace: kube-system}\nspec:\n  template:\n    spec:\n      containers:\n        - name: calico-node\n          env:\n            - {name: CALICO_IPV4POOL_IPIP, value: Always}\n            - {name: CALICO_IPV4POOL_CIDR, value: \"192.168.0.0/16\"}\n";

    fn found_in(manifest: &str) -> Vec<String> {
        objects(manifest).unwrap().iter().flat_map(ranges).map(|found| found.range).collect()
    }

    #[test]
    fn the_range_is_found_where_flannel_and_calico_say_it() {
        assert_eq!(found_in(FLANNEL), ["10.5.0.0/16"]);
        assert_eq!(found_in(CALICO), ["192.168.0.0/16"]);
        assert!(found_in(&CALICO.replace("CALICO_IPV4POOL_CIDR", "OTHER")).is_empty());
        assert!(found_in("kind: ConfigMap\nmetadata: {name: x}\ndata: {net-conf.json: \"{\"}\n").is_empty());
    }

    #[test]
    fn a_range_is_another_one_only_when_its_addresses_are() {
        let objects = objects(FLANNEL).unwrap();
        let other = |subnet: &str| other_range(&objects, &subnet.parse().unwrap()).map(|found| found.range);
        assert_eq!(other("10.244.0.0/16").as_deref(), Some("10.5.0.0/16"));
        assert_eq!(other("10.5.0.0/16"), None);
    }

    #[test]
    fn the_file_that_a_network_writes_is_found_in_its_manifest_or_known_by_its_image() {
        let files = |manifest: &str| configuration_files(manifest).into_iter().collect::<Vec<_>>();
        let flannel = "args: [-f, /etc/kube-flannel/cni-conf.json, /etc/cni/net.d/10-flannel.conflist]";
        assert_eq!(files(flannel), ["10-flannel.conflist"]);
        assert_eq!(files("- {name: CNI_CONF_NAME, value: \"10-calico.conflist\"}"), ["10-calico.conflist"]);
        assert_eq!(files("mv /net.d/.new /net.d/10-pods.conflist; fi"), ["10-pods.conflist"]);
        assert_eq!(files("image: 'docker.io/weaveworks/weave-kube:2.8.1'"), ["10-weave.conflist"]);
        assert_eq!(files("image: quay.io/cilium/cilium:v1.9"), ["05-cilium.conf", "05-cilium.conflist"]);
        assert!(
            files("kind: ConfigMap\ndata: {net-conf.json: '', a-b.conf: '', 1-x.conf: '', 10-.conf: ''}")
                .is_empty()
        );
    }

    #[test]
    fn the_programs_that_a_network_calls_are_those_that_it_does_not_bring() {
        let called = |manifest: &str| programs_called(manifest).into_iter().collect::<Vec<_>>();
        let flannel = "{\"type\": \"flannel\"}, {\"type\":\"portmap\"}\n- {mountPath: /opt/cni/bin}\n";
        assert_eq!(called(flannel), ["bridge", "host-local", "loopback", "portmap"]);
        assert!(
            called("{\"type\": \"calico\"}, {\"type\": \"portmap\"}\n- {mountPath: /host/opt/cni/bin}\n")
                .is_empty()
        );
        assert!(called("kind: DaemonSet\n").is_empty());
    }

    #[test]
    fn a_text_that_is_no_manifest_is_refused() {
        for manifest in ["", "---\n", "a: b: c", "hello", "metadata: {name: x}\n"] {
            assert!(objects(manifest).is_err(), "{manifest:?}");
        }
    }
}
