//! The fake kubeadm, in the words of 1.20.2.

use std::path::Path;

use jiff::SignedDuration;
use muster_proto::names::KubernetesVersion;
use serde_json::{Value, json};

use super::pods::{CONTROL_PLANE, KUBE_PROXY};
use super::programs::{Call, documents, failed, well};
use super::stock::{CA_CERTIFICATE, CA_HASH, stock_images, unit};
use super::{Ended, FakeHost, State};
use crate::cluster::membership::Membership;

const MANIFESTS: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"];
/// Of CoreDNS; kubeadm asks for two.
const REPLICAS: u32 = 2;
const HELP: &str = "To see the stack trace of this error execute with --v=5 or higher\n";

impl FakeHost {
    pub(super) fn kubeadm(&self, call: &Call<'_>, version: KubernetesVersion) -> Ended {
        match (call.word(0), call.word(1)) {
            ("init", _) => self.kubeadm_init(call, version),
            ("join", _) => self.kubeadm_join(call, version),
            ("token", "create") => self.kubeadm_token_create(call),
            ("reset", _) => self.kubeadm_reset(),
            (first, second) => {
                failed(1, format!("unknown command \"{first} {second}\" for \"kubeadm\"\n{HELP}"))
            }
        }
    }

    /// The documents of the file after `--config`, or what is wrong with it.
    fn configuration(&self, call: &Call<'_>) -> Result<Vec<Value>, Ended> {
        let Some(path) = call.flag(&["--config"]) else {
            return Err(failed(3, format!("the fake kubeadm wants --config\n{HELP}")));
        };
        let text = match path {
            "/dev/stdin" => call.input.to_owned(),
            _ => self.file(path).ok_or_else(|| {
                failed(1, format!("unable to read config from \"{path}\": open {path}: no such file or directory\n{HELP}"))
            })?,
        };
        documents(&text)
            .filter(|all| !all.is_empty())
            .ok_or_else(|| failed(1, format!("error unmarshaling configuration\n{HELP}")))
    }

    fn kubeadm_init(&self, call: &Call<'_>, version: KubernetesVersion) -> Ended {
        let documents = match self.configuration(call) {
            Ok(documents) => documents,
            Err(ended) => return ended,
        };
        let of_kind =
            |kind: &str| documents.iter().find(|one| one["kind"] == kind).cloned().unwrap_or_default();
        let (init, cluster) = (of_kind("InitConfiguration"), of_kind("ClusterConfiguration"));
        let mut state = self.state();
        let mut errors = state.preflight();
        if state.kubelet_healthy || state.runs_containers() {
            errors.extend([6443, 10259, 10257].map(|port| format!("Port-{port}]: Port {port} is in use")));
        }
        for name in MANIFESTS {
            let path = format!("/etc/kubernetes/manifests/{name}.yaml");
            if state.files.contains_key(Path::new(&path)) {
                errors.push(format!(
                    "FileAvailable--etc-kubernetes-manifests-{name}.yaml]: {path} already exists"
                ));
            }
        }
        if state.kubelet_healthy || state.runs_containers() {
            errors.extend([10250, 2379, 2380].map(|port| format!("Port-{port}]: Port {port} is in use")));
        }
        if state.files.keys().any(|path| path.starts_with("/var/lib/etcd")) {
            errors.push("DirAvailable--var-lib-etcd]: /var/lib/etcd is not empty".to_owned());
        }
        let repository = cluster["imageRepository"].as_str().unwrap_or("k8s.gcr.io");
        for image in stock_images(version, repository) {
            if !state.images.contains(&image) && !image.contains("coredns") {
                errors.push(format!(
                    "ImagePull]: failed to pull image {image}: output: Error response from daemon"
                ));
            }
        }
        if !errors.is_empty() {
            return preflight_failed(&format!("[init] Using Kubernetes version: {version}\n"), &errors);
        }
        let name = init["nodeRegistration"]["name"].as_str().unwrap_or(&state.hostname).to_owned();
        let own = state.address();
        let address = init["localAPIEndpoint"]["advertiseAddress"].as_str().unwrap_or(&own).to_owned();
        let port = init["localAPIEndpoint"]["bindPort"].as_u64().unwrap_or(6443);
        let endpoint = format!("{address}:{port}");
        for file in ["admin.conf", "kubelet.conf", "controller-manager.conf", "scheduler.conf"] {
            state.put(format!("/etc/kubernetes/{file}"), kubeconfig(&endpoint));
        }
        for manifest in MANIFESTS {
            let content = format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {manifest}\n");
            state.put(format!("/etc/kubernetes/manifests/{manifest}.yaml"), content);
        }
        state.put("/var/lib/etcd/member/snap/db", "");
        state.start_kubelet();
        CONTROL_PLANE.iter().for_each(|(component, ports)| state.start_container(component, ports));
        drop(state);
        let token = self.cluster.with(|held| {
            held.endpoint = Some(endpoint.clone());
            held.add_node(&name, &address, &version.to_string(), true);
            let text = serde_saphyr::to_string(&cluster).unwrap_or_default();
            held.put(config_map("kube-system", "kubeadm-config", "ClusterConfiguration", &text));
            held.put(config_map("kube-public", "cluster-info", "kubeconfig", &kubeconfig(&endpoint)));
            held.put(json!({
                "apiVersion": "apps/v1", "kind": "DaemonSet",
                "metadata": { "name": "kube-proxy", "namespace": "kube-system" },
                "spec": { "template": {
                    "metadata": { "labels": { "k8s-app": "kube-proxy" } }, "spec": { "hostNetwork": true },
                } },
            }));
            if !call.flag(&["--skip-phases"]).is_some_and(|phases| phases.split(',').any(|one| one == "addon/coredns")) {
                let labels = json!({ "k8s-app": "kube-dns" });
                held.put(json!({
                    "apiVersion": "apps/v1", "kind": "Deployment",
                    "metadata": { "name": "coredns", "namespace": "kube-system" },
                    "spec": { "replicas": REPLICAS, "template": { "metadata": { "labels": labels }, "spec": {} } },
                }));
            }
            let wanted = &init["bootstrapTokens"][0];
            let token = held.make_token(wanted["token"].as_str(), lifetime(wanted["ttl"].as_str()));
            held.describe_token(&token, wanted["description"].as_str().unwrap_or_default());
            token
        });
        well(format!(
            "[init] Using Kubernetes version: {version}\n[preflight] Running pre-flight checks\n[bootstrap-token] Using token: {token}\n[addons] Applied essential addon: kube-proxy\n\nYour Kubernetes control-plane has initialized successfully!\n\nThen you can join any number of worker nodes by running the following on each as root:\n\nkubeadm join {endpoint} --token {token} \\\n    --discovery-token-ca-cert-hash {CA_HASH} \n"
        ))
    }

    fn kubeadm_join(&self, call: &Call<'_>, version: KubernetesVersion) -> Ended {
        let documents = match self.configuration(call) {
            Ok(documents) => documents,
            Err(ended) => return ended,
        };
        let Some(join) = documents.iter().find(|one| one["kind"] == "JoinConfiguration") else {
            return failed(1, format!("no JoinConfiguration found in config\n{HELP}"));
        };
        let mut state = self.state();
        let mut errors = state.preflight();
        for (check, path) in [
            ("FileAvailable--etc-kubernetes-kubelet.conf", "/etc/kubernetes/kubelet.conf"),
            ("FileAvailable--etc-kubernetes-pki-ca.crt", "/etc/kubernetes/pki/ca.crt"),
        ] {
            if state.files.contains_key(Path::new(path)) {
                errors.push(format!("{check}]: {path} already exists"));
            }
        }
        if state.kubelet_healthy {
            errors.push("Port-10250]: Port 10250 is in use".to_owned());
        }
        if !errors.is_empty() {
            return preflight_failed("", &errors);
        }
        let endpoint = match self.discovered(&state, join) {
            Ok(endpoint) => endpoint,
            Err(ended) => return ended,
        };
        let registration = &join["nodeRegistration"];
        let name = registration["name"].as_str().unwrap_or(&state.hostname).to_owned();
        let own = state.address();
        let address = registration["kubeletExtraArgs"]["node-ip"].as_str().unwrap_or(&own).to_owned();
        state.put("/etc/kubernetes/kubelet.conf", kubeconfig(&endpoint));
        state.start_kubelet();
        drop(state);
        self.cluster.with(|held| held.add_node(&name, &address, &version.to_string(), false));
        well(
            "[preflight] Running pre-flight checks\n[kubelet-start] Starting the kubelet\n\nThis node has joined the cluster:\n* Certificate signing request was sent to apiserver and a response was received.\n* The Kubelet was informed of the new secure connection details.\n",
        )
    }

    /// The API server that the discovery file leads to, HOST:PORT, once it has proved itself with the file's CA and taken
    /// the token; unlike discovery by token it needs no signature in cluster-info.
    fn discovered(&self, state: &State, join: &Value) -> Result<String, Ended> {
        let discovery = &join["discovery"];
        let Some(path) = discovery["file"]["kubeConfigPath"].as_str() else {
            let text = "discovery: Invalid value: \"\": bootstrapToken or file must be set";
            return Err(failed(3, format!("{text}\n{HELP}")));
        };
        let Some(file) = state.files.get(Path::new(path)) else {
            let text = "not a valid HTTPS URL or a file on disk";
            return Err(failed(3, format!("discovery.file: Invalid value: \"{path}\": {text}\n{HELP}")));
        };
        let identity = "error execution phase preflight: couldn't validate the identity of the API Server: ";
        let file = Membership::read(&file.content)
            .and_then(|read| Some((read.server.strip_prefix("https://")?.to_owned(), read.ca_hashes)));
        let Some((endpoint, ca_hashes)) = file else {
            let text = "the provided kubeconfig file must have at least one Cluster defined";
            return Err(failed(1, format!("{identity}{text}\n{HELP}")));
        };
        let held = self.cluster.snapshot();
        let reached = !held.unreachable
            && !state.unreachable.contains_key(&endpoint)
            && held.endpoint.as_deref() == Some(endpoint.as_str());
        if !reached || !ca_hashes.iter().any(|hash| hash.as_str() == CA_HASH) {
            let timeout = discovery["timeout"].as_str().unwrap_or("5m0s");
            let text = format!("Abort reading the cluster-info ConfigMap after timeout of {timeout}");
            return Err(failed(1, format!("{identity}{text}\n{HELP}")));
        }
        match discovery["tlsBootstrapToken"].as_str().unwrap_or_default() {
            "" => {
                let text = "couldn't find authentication credentials for the TLS boostrap process. Please use Token discovery, a discovery file with embedded authentication credentials or a discovery file without authentication credentials but with the TLSBootstrapToken flag";
                Err(failed(1, format!("error execution phase preflight: {text}\n{HELP}")))
            }
            token if !held.knows_token(token) => {
                let text =
                    "unable to fetch the kubeadm-config ConfigMap: failed to get config map: Unauthorized";
                Err(failed(1, format!("error execution phase preflight: {text}\n{HELP}")))
            }
            _ => Ok(endpoint),
        }
    }

    fn kubeadm_token_create(&self, call: &Call<'_>) -> Ended {
        let given = Some(call.word(2)).filter(|word| !word.is_empty());
        let made = self.api(|cluster| {
            let token = cluster.make_token(given, lifetime(call.flag(&["--ttl"])));
            cluster.describe_token(&token, call.flag(&["--description"]).unwrap_or_default());
            (token, cluster.endpoint.clone().unwrap_or_default())
        });
        match made {
            Ok((token, endpoint)) if call.has("--print-join-command") => well(format!(
                "kubeadm join {endpoint} --token {token}     --discovery-token-ca-cert-hash {CA_HASH} \n"
            )),
            Ok((token, _)) => well(format!("{token}\n")),
            Err(error) => failed(1, format!("{error}\n{HELP}")),
        }
    }

    /// Like the real one: exit 0 also on a clean node; the Node object stays, and without etcd's manifest so does its data.
    fn kubeadm_reset(&self) -> Ended {
        let mut state = self.state();
        let etcd = state.files.contains_key(Path::new("/etc/kubernetes/manifests/etcd.yaml"));
        let was_master = state.files.contains_key(Path::new("/etc/kubernetes/admin.conf"));
        let folders = ["/etc/kubernetes", "/var/lib/kubelet", "/var/lib/etcd"];
        let emptied = &folders[..if etcd { 3 } else { 2 }];
        state.files.retain(|path, _| !emptied.iter().any(|below| path.starts_with(below)));
        state.kubelet_healthy = false;
        state.units.insert("kubelet.service".to_owned(), unit(false, "enabled"));
        let warning = match state.remove_containers() {
            true => "",
            false => {
                "W1130 10:00:00.000000    4000 cleanupnode.go:81] [reset] Failed to remove containers: exit status 1\n"
            }
        };
        drop(state);
        if was_master {
            self.cluster.with(|held| *held = super::ClusterState::default());
        }
        let lead = if etcd { "" } else { "[reset] No etcd config found. Assuming external etcd\n" };
        well(format!(
            "[reset] Stopping the kubelet service\n{warning}{lead}[reset] Deleting contents of stateful directories: [{} /var/lib/dockershim /var/run/kubernetes /var/lib/cni]\n",
            emptied[1..].join(" ")
        ))
    }
}

impl State {
    /// What kubeadm refuses on every node.
    fn preflight(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if self.runtimes.is_empty() {
            errors.push(
                "Service-Docker]: docker service is not active, please run 'systemctl start docker.service'"
                    .to_owned(),
            );
        }
        if self.sysctls.get("net.ipv4.ip_forward").map(String::as_str) != Some("1") {
            errors.push(
                "FileContent--proc-sys-net-ipv4-ip_forward]: /proc/sys/net/ipv4/ip_forward contents are not set to 1"
                    .to_owned(),
            );
        }
        if !self.swaps.is_empty() {
            errors.push("Swap]: running with swap on is not supported. Please disable swap".to_owned());
        }
        errors
    }

    fn start_kubelet(&mut self) {
        self.put("/etc/kubernetes/pki/ca.crt", CA_CERTIFICATE);
        self.put(
            "/var/lib/kubelet/config.yaml",
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n",
        );
        self.put("/var/lib/kubelet/kubeadm-flags.env", "KUBELET_KUBEADM_ARGS=\"--network-plugin=cni\"\n");
        self.units.insert("kubelet.service".to_owned(), unit(true, "enabled"));
        // What the pod network and kube-proxy bring a moment later, and `kubeadm reset` leaves.
        let cni = "{\"name\": \"cbr0\", \"plugins\": [{\"type\": \"flannel\"}]}";
        self.put("/etc/cni/net.d/10-flannel.conflist", cni);
        self.put("/run/flannel/subnet.env", "FLANNEL_NETWORK=10.244.0.0/16\n");
        self.put("/proc/net/dev", "Inter-|   Receive\n face |bytes\n    lo: 0\n  cni0: 0\nflannel.1: 0\n");
        // flannel's VXLAN with DirectRouting: a node of the same network by its address, the others through the link.
        let routes = "eth0\t0009F40A\t0C00580A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\nflannel.1\t0001F40A\t0001F40A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let table = self.files.get(Path::new("/proc/net/route")).map(|file| file.content.clone());
        self.put("/proc/net/route", table.unwrap_or_default() + routes);
        if !self.packet_filter.contains("KUBE-") {
            let rules = ":KUBE-FORWARD - [0:0]\n-A FORWARD -j KUBE-FORWARD\nCOMMIT\n";
            self.packet_filter = self.packet_filter.replace("COMMIT\n", rules);
        }
        self.start_container(KUBE_PROXY.0, KUBE_PROXY.1);
        self.kubelet_healthy = true;
    }
}

fn preflight_failed(lead: &str, errors: &[String]) -> Ended {
    let lines: String = errors.iter().map(|error| format!("\t[ERROR {error}\n")).collect();
    Ended {
        exit_code: 1,
        standard_output: format!("{lead}[preflight] Running pre-flight checks\n"),
        standard_error: format!(
            "error execution phase preflight: [preflight] Some fatal errors occurred:\n{lines}[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-preflight-errors=...`\n{HELP}"
        ),
    }
}

fn config_map(namespace: &str, name: &str, key: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": namespace }, "data": { key: text },
    })
}

fn kubeconfig(endpoint: &str) -> String {
    use base64::Engine;
    let authority = base64::prelude::BASE64_STANDARD.encode(CA_CERTIFICATE);
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {authority}\n    server: https://{endpoint}\n  name: kubernetes\ncontexts:\n- context:\n    cluster: kubernetes\n    user: kubernetes-admin\n  name: kubernetes-admin@kubernetes\ncurrent-context: kubernetes-admin@kubernetes\nkind: Config\npreferences: {{}}\nusers:\n- name: kubernetes-admin\n  user:\n    client-certificate-data: {authority}\n    client-key-data: RkFLRSBLRVkgT0YgQSBGQUtFIEhPU1Q=\n"
    )
}

/// A Go duration of hours, minutes or seconds, 24 h by default.
fn lifetime(text: Option<&str>) -> SignedDuration {
    text.and_then(|text| text.parse().ok()).unwrap_or(SignedDuration::from_hours(24))
}
