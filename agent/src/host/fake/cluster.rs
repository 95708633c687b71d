//! The cluster that several fake hosts share: Kubernetes objects, and what controllers would do to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::host::query::{is_ready, name_of};
use crate::host::reach::Door;

/// Kind, namespace (empty for kinds without one) and name.
pub type ObjectKey = (String, String, String);

/// One API server's store. Cheap to clone: all clones are the same cluster.
#[derive(Debug, Clone, Default)]
pub struct FakeCluster {
    state: Arc<Mutex<ClusterState>>,
    /// The doors that are held open on the hosts' addresses.
    pub(super) doors: Arc<Mutex<BTreeSet<(IpAddr, Door)>>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterState {
    pub objects: BTreeMap<ObjectKey, Value>,
    /// HOST:PORT of the API server; none before `kubeadm init`.
    pub endpoint: Option<String>,
    /// The API server does not answer.
    pub unreachable: bool,
    /// A DaemonSet was applied that does not bring the network up: nodes stay NotReady.
    pub network_broken: bool,
    /// Its kubelets renew their status instead, as those of 1.13.
    pub no_leases: bool,
    /// Nodes whose kubelet was last heard of so long ago; of all others it was this moment.
    pub unheard: BTreeMap<String, SignedDuration>,
    /// By pod: the last line of a container that ended.
    pub last_lines: BTreeMap<String, String>,
    tokens_made: u64,
}

impl FakeCluster {
    /// Looks at or changes the cluster from a test; controllers act afterwards.
    pub fn with<T>(&self, act: impl FnOnce(&mut ClusterState) -> T) -> T {
        let mut state = self.lock();
        let answer = act(&mut state);
        state.reconcile();
        answer
    }

    /// All of it, to compare.
    pub fn snapshot(&self) -> ClusterState {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, ClusterState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl ClusterState {
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned()))
    }

    pub fn get_mut(&mut self, kind: &str, namespace: &str, name: &str) -> Option<&mut Value> {
        self.objects.get_mut(&(kind.to_owned(), namespace.to_owned(), name.to_owned()))
    }

    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |(key, _)| key.0 == kind).map(|(_, object)| object)
    }

    /// The Leases that the nodes' kubelets keep renewing.
    pub fn leases(&self) -> Vec<Value> {
        let nodes = self.of_kind("Node").map(name_of).filter(|_| !self.no_leases);
        nodes
            .map(|name| json!({"metadata": {"name": name}, "spec": {"renewTime": self.heard(name)}}))
            .collect()
    }

    /// A Node with the time at which its kubelet told its status: now and then where it has a Lease.
    pub fn with_heartbeat(&self, mut object: Value) -> Value {
        let heard = match self.no_leases {
            true => self.heard(name_of(&object)),
            false => (Timestamp::now() - SignedDuration::from_mins(4)).to_string(),
        };
        if object["kind"] != "Node" {
            return object;
        }
        let conditions = object["status"]["conditions"].as_array_mut();
        for condition in conditions.into_iter().flatten().filter(|one| one["type"] == "Ready") {
            condition["lastHeartbeatTime"] = json!(heard);
        }
        object
    }

    fn heard(&self, node: &str) -> String {
        (Timestamp::now() - self.unheard.get(node).copied().unwrap_or_default()).to_string()
    }

    /// Stores a manifest's object; the status of one that is there already stays. Whether it is new.
    pub fn put(&mut self, mut object: Value) -> bool {
        let key = key_of(&object);
        if !key.1.is_empty() {
            object["metadata"]["namespace"] = json!(key.1);
        }
        let before = self.objects.get(&key);
        if let Some(status) = before.and_then(|before| before.get("status")) {
            object["status"] = status.clone();
        }
        let new = before.is_none();
        self.objects.insert(key, object);
        new
    }

    /// Removes an object and what it owns. Whether it was there.
    pub fn delete(&mut self, kind: &str, namespace: &str, name: &str) -> bool {
        let there = self.objects.remove(&(kind.to_owned(), namespace.to_owned(), name.to_owned())).is_some();
        self.objects.retain(|key, object| {
            let owner = &object["metadata"]["ownerReferences"][0];
            key.1 != namespace || owner["kind"] != kind || owner["name"] != name
        });
        there
    }

    /// Makes a bootstrap token as kubeadm does, with the signature that lets a join begin. `token` none: a fresh one.
    pub fn make_token(&mut self, token: Option<&str>, lifetime: SignedDuration) -> String {
        self.tokens_made += 1;
        let token = token.map_or_else(
            || format!("fake{:02}.{:016x}", self.tokens_made % 100, 0x0123_4567_89ab_cdef ^ self.tokens_made),
            str::to_owned,
        );
        let (id, secret) = token.split_once('.').unwrap_or((&token, ""));
        let encoded = |text: &str| BASE64_STANDARD.encode(text);
        let expiration = (Timestamp::now() + lifetime).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.put(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": { "name": format!("bootstrap-token-{id}"), "namespace": "kube-system" },
            "data": {
                "token-id": encoded(id), "token-secret": encoded(secret), "expiration": encoded(&expiration),
                "usage-bootstrap-authentication": encoded("true"), "usage-bootstrap-signing": encoded("true"),
                "auth-extra-groups": encoded("system:bootstrappers:kubeadm:default-node-token"),
            },
        }));
        token
    }

    /// Gives a token the description by which `kubeadm token list` shows it; an empty one is none.
    pub fn describe_token(&mut self, token: &str, description: &str) {
        let id = token.split('.').next().unwrap_or_default();
        let secret = self.get_mut("Secret", "kube-system", &format!("bootstrap-token-{id}"));
        if let Some(secret) = secret.filter(|_| !description.is_empty()) {
            secret["data"]["description"] = json!(BASE64_STANDARD.encode(description));
        }
    }

    /// Whether the token exists and has not expired.
    pub fn knows_token(&self, token: &str) -> bool {
        let (id, secret) = token.split_once('.').unwrap_or((token, ""));
        let field = |name: &str| -> Option<String> {
            let held = self.get("Secret", "kube-system", &format!("bootstrap-token-{id}"))?;
            let bytes = BASE64_STANDARD.decode(held["data"][name].as_str()?).ok()?;
            String::from_utf8(bytes).ok()
        };
        field("token-secret").as_deref() == Some(secret)
            && field("expiration")
                .and_then(|time| time.parse::<Timestamp>().ok())
                .is_none_or(|time| time > Timestamp::now())
    }

    /// A node as a kubelet registers it: not ready, nothing but the taints given.
    pub fn add_node(&mut self, name: &str, address: &str, version: &str, master: bool) {
        let mut labels = json!({ "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" });
        let mut taints = vec![json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" })];
        if master {
            labels["node-role.kubernetes.io/master"] = json!("");
            labels["node-role.kubernetes.io/control-plane"] = json!("");
            taints.push(json!({ "key": "node-role.kubernetes.io/master", "effect": "NoSchedule" }));
        }
        let number = self.of_kind("Node").count();
        self.put(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "labels": labels, "resourceVersion": "1" },
            "spec": { "podCIDR": format!("10.244.{number}.0/24"), "taints": taints },
            "status": {
                "addresses": [
                    { "type": "InternalIP", "address": address }, { "type": "Hostname", "address": name },
                ],
                "nodeInfo": { "kubeletVersion": version, "containerRuntimeVersion": "docker://20.10.24+dfsg1" },
            },
        }));
    }

    /// What the controllers, the scheduler and the kubelets would do: nodes become ready once a pod network is there,
    /// DaemonSets run everywhere, a Deployment gets at most one pod per ready node without NoSchedule taints.
    fn reconcile(&mut self) {
        let network =
            !self.network_broken && self.of_kind("DaemonSet").any(|object| name_of(object) != "kube-proxy");
        for node in self.objects.iter_mut().filter(|(key, _)| key.0 == "Node").map(|(_, node)| node) {
            set_ready(node, network);
        }
        let nodes: Vec<(String, bool)> =
            self.of_kind("Node").map(|n| (name_of(n).to_owned(), open(n))).collect();
        let everywhere: Vec<String> = nodes.iter().map(|(name, _)| name.clone()).collect();
        let open: Vec<String> = nodes.into_iter().filter(|(_, open)| *open).map(|(name, _)| name).collect();
        let owners: Vec<Value> =
            self.of_kind("DaemonSet").chain(self.of_kind("Deployment")).cloned().collect();
        for owner in owners {
            let (kind, namespace, name) = key_of(&owner);
            let wanted = owner["spec"]["replicas"].as_u64().unwrap_or(1) as usize;
            let places: Vec<&String> = match (kind.as_str(), name.as_str()) {
                ("DaemonSet", _) => everywhere.iter().collect(),
                (_, "coredns") if network => self.places_of_coredns(&everywhere, wanted),
                (_, "coredns") => Vec::new(),
                _ => open.iter().take(wanted).collect(),
            };
            for (nth, place) in places.iter().enumerate() {
                let here = places[..nth].iter().filter(|other| *other == place).count();
                self.add_pod(&owner, place, here);
            }
            let running = places.len();
            let status = if kind == "DaemonSet" {
                json!({
                    "desiredNumberScheduled": running, "currentNumberScheduled": running, "numberReady": running,
                    "numberAvailable": running, "updatedNumberScheduled": running, "observedGeneration": 1,
                })
            } else {
                json!({
                    "replicas": wanted, "readyReplicas": running, "availableReplicas": running,
                    "updatedReplicas": wanted, "observedGeneration": 1,
                })
            };
            if let Some(object) = self.get_mut(&kind, &namespace, &name) {
                object["status"] = status;
            }
        }
        self.sign_cluster_info();
    }

    /// It tolerates the control plane's taint, and all its replicas run on one node where there is no other.
    fn places_of_coredns<'a>(&self, everywhere: &'a [String], wanted: usize) -> Vec<&'a String> {
        let takes = |name: &&String| {
            self.get("Node", "", name).is_some_and(|node| node["spec"]["unschedulable"] != true)
        };
        let open: Vec<&String> = everywhere.iter().filter(takes).collect();
        open.iter().copied().cycle().take(if open.is_empty() { 0 } else { wanted }).collect()
    }

    /// `nth`: how many pods of this owner run on the node before this one.
    fn add_pod(&mut self, owner: &Value, node: &str, nth: usize) {
        let (kind, namespace, owner_name) = key_of(owner);
        let name = match nth {
            0 => format!("{owner_name}-{node}"),
            nth => format!("{owner_name}-{node}-{nth}"),
        };
        if self.get("Pod", &namespace, &name).is_some() {
            return;
        }
        let number = self.of_kind("Node").position(|object| name_of(object) == node).unwrap_or(0);
        let host_address = self.get("Node", "", node).and_then(internal_address).unwrap_or_default();
        let template = &owner["spec"]["template"];
        let address = if template["spec"]["hostNetwork"] == true {
            host_address.clone()
        } else {
            let host_part = 2 + self.of_kind("Pod").count() as u8;
            Ipv4Addr::new(10, 244, number as u8, host_part).to_string()
        };
        let mut spec = template["spec"].clone();
        spec["nodeName"] = json!(node);
        self.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": namespace, "labels": template["metadata"]["labels"],
                "ownerReferences": [{ "kind": kind, "name": owner_name }],
            },
            "spec": spec,
            "status": {
                "phase": "Running", "podIP": address, "hostIP": host_address,
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }));
    }

    /// The bootstrap signer: one signature per token in kube-public/cluster-info, without which a join waits.
    fn sign_cluster_info(&mut self) {
        let signatures: Vec<String> = self
            .of_kind("Secret")
            .filter_map(|secret| name_of(secret).strip_prefix("bootstrap-token-"))
            .map(|id| format!("jws-kubeconfig-{id}"))
            .collect();
        let Some(info) = self.get_mut("ConfigMap", "kube-public", "cluster-info") else { return };
        let Some(data) = info["data"].as_object_mut() else { return };
        data.retain(|key, _| !key.starts_with("jws-kubeconfig-"));
        data.extend(signatures.into_iter().map(|key| (key, json!("header..signature"))));
    }
}

/// Kind, namespace and name of an object; `default` when a kind that has namespaces names none.
pub(super) fn key_of(object: &Value) -> ObjectKey {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]);
    let without = ["Node", "Namespace", "ClusterRole", "ClusterRoleBinding", "PodSecurityPolicy"];
    let namespace = match text(&object["metadata"]["namespace"]) {
        _ if without.contains(&kind.as_str()) => String::new(),
        empty if empty.is_empty() => "default".to_owned(),
        given => given,
    };
    (kind, namespace, name_of(object).to_owned())
}

fn internal_address(node: &Value) -> Option<String> {
    let addresses = node["status"]["addresses"].as_array()?;
    addresses.iter().find(|one| one["type"] == "InternalIP")?["address"].as_str().map(str::to_owned)
}

fn open(node: &Value) -> bool {
    let taints = node["spec"]["taints"].as_array();
    is_ready(node) && !taints.is_some_and(|all| all.iter().any(|taint| taint["effect"] == "NoSchedule"))
}

fn set_ready(node: &mut Value, ready: bool) {
    node["status"]["conditions"] = if ready {
        json!([{ "type": "Ready", "status": "True", "reason": "KubeletReady",
            "message": "kubelet is posting ready status" }])
    } else {
        json!([{ "type": "Ready", "status": "False", "reason": "KubeletNotReady",
            "message": "runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:docker: network plugin is not ready: cni config uninitialized" }])
    };
    let Some(taints) = node["spec"]["taints"].as_array_mut() else { return };
    taints.retain(|taint| taint["key"] != "node.kubernetes.io/not-ready");
    if !ready {
        taints.push(json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }));
    }
}
