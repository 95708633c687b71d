//! Every failure as a person reads it, the right cause in the first line: whole runs over fake hosts, printed by the CLI's own
//! code, held against golden/failures/NAME.txt. `MUSTER_REGENERATE=1` writes these files; read the difference.

#![allow(clippy::disallowed_methods, reason = "a test writes its own golden files")]

use std::fs;
use std::path::Path;

use muster_agent::host::change::ProgramName;
use muster_agent::host::fake::FakeHost;
use muster_agent::host::query::JournalLine;
use muster_coordinator::cli::findings::told;
use muster_coordinator::view::Failure;
use muster_tests::cluster::TestCluster;
use regex::Regex;

/// What kubeadm says when all it knows is that it waited: of 1.20.2.
const ONLY_WAITED: &str = "[certs] Generating \"ca\" certificate and key\n[kubelet-start] Starting the kubelet\n[wait-control-plane] Waiting for the kubelet to boot up the control plane\n\n\tUnfortunately, an error has occurred:\n\t\ttimed out waiting for the condition\n\nerror execution phase wait-control-plane: couldn't initialize a Kubernetes cluster\nTo see the stack trace of this error execute with --v=5 or higher\n";

/// A fault, and the first line that has to be read of it.
struct Case {
    name: &'static str,
    first_line: &'static str,
    prepare: fn(&TestCluster),
    /// What is done between a first bootstrap, which the preparation made fail, and the one whose end is shown.
    between: Option<fn(&TestCluster)>,
}

const fn case(name: &'static str, first_line: &'static str, prepare: fn(&TestCluster)) -> Case {
    Case { name, first_line, prepare, between: None }
}

/// `kubeadm init` waits in vain, and the kubelet's journal holds this line.
fn waits_in_vain(cluster: &TestCluster, journal: &str) {
    let host = cluster.host("m1");
    host.fail_next(ProgramName::Kubeadm, 1, ONLY_WAITED);
    let line = JournalLine { time: "2100-01-01T00:00:00Z".parse().unwrap(), message: journal.to_owned() };
    host.with(|state| state.kubelet_journal.push(line));
}

/// kubeadm's preflight checks refuse with these lines.
fn refuses(host: &FakeHost, errors: &str) {
    let lead = "error execution phase preflight: [preflight] Some fatal errors occurred:\n";
    let end = "[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-preflight-errors=...`\n";
    host.fail_next(ProgramName::Kubeadm, 1, format!("{lead}{errors}{end}"));
}

/// `kubeadm join` ends with this error.
fn join_ends(cluster: &TestCluster, error: &str) {
    let text = format!("[preflight] Running pre-flight checks\nerror execution phase preflight: {error}\n");
    cluster.host("w1").fail_next(ProgramName::Kubeadm, 1, text);
}

const CASES: [Case; 18] = [
    case("kubelet-masked", "m1 / packages: the kubelet is masked", |cluster| {
        cluster
            .host("m1")
            .with(|state| state.units.get_mut("kubelet.service").unwrap().file_state = "masked".into());
    }),
    case("docker-stopped", "m1 / kubeadm-init: Docker does not run", |cluster| {
        waits_in_vain(
            cluster,
            "F1122 server.go:269] failed to run Kubelet: failed to create kubelet: failed to get docker version: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        );
    }),
    case(
        "docker-stopped-before-init",
        "kubeadm refuses to begin: the container runtime does not run",
        |cluster| {
            refuses(
                cluster.host("m1"),
                "\t[ERROR CRI]: container runtime is not running: output: Client:\n\t[ERROR Service-Docker]: docker service is not active, please run 'systemctl start docker.service'\n",
            );
        },
    ),
    case(
        "swap-back-on",
        "m1 / kubeadm-init: swap is on, and the kubelet refuses to run with it",
        |cluster| {
            waits_in_vain(
                cluster,
                "F1122 server.go:269] failed to run Kubelet: running with swap on is not supported, please disable swap! or set --fail-swap-on flag to false.",
            );
        },
    ),
    case("swap-back-on-before-init", "kubeadm refuses to begin: running with swap on", |cluster| {
        refuses(
            cluster.host("m1"),
            "\t[ERROR Swap]: running with swap on is not supported. Please disable swap\n",
        );
    }),
    case("image-missing", "m1 / images: ", |cluster| {
        cluster.host("m1").with(|state| state.images.remove("k8s.gcr.io/etcd:3.4.13-0"));
    }),
    case(
        "image-missing-meanwhile",
        "m1 / kubeadm-init: the image k8s.gcr.io/pause:3.2 is not on this node",
        |cluster| {
            waits_in_vain(
                cluster,
                "E1122 remote_runtime.go:116] RunPodSandbox from runtime service failed: rpc error: code = Unknown desc = failed pulling image \"k8s.gcr.io/pause:3.2\": Error response from daemon",
            );
        },
    ),
    case("runc-broken", "m1 / kubeadm-init: the container runtime cannot start any container", |cluster| {
        waits_in_vain(
            cluster,
            "E1122 remote_runtime.go:116] RunPodSandbox from runtime service failed: rpc error: code = Unknown desc = failed to start sandbox container for pod \"etcd-m1\": Error response from daemon: OCI runtime create failed: unable to retrieve OCI runtime error (open /run/containerd/log.json: no such file or directory): runc did not terminate successfully: exit status 1: unknown",
        );
    }),
    case("port-taken", "m1 / ports: another program listens on TCP port 6443 of m1", |cluster| {
        let listening = "sl local rem st\n0: 00000000:192B 00000000:0000 0A\n";
        cluster.host("m1").with(|state| state.put("/proc/net/tcp", listening));
    }),
    case("port-taken-meanwhile", "kubeadm refuses to begin: port 6443 is taken", |cluster| {
        refuses(cluster.host("m1"), "\t[ERROR Port-6443]: Port 6443 is in use\n");
    }),
    case(
        "api-server-unreachable",
        "w1 / kubeadm-join: the API server at 10.88.0.11:6443 cannot be reached",
        |cluster| {
            let why = "no answer within 3 s".to_owned();
            cluster.host("w1").with(|state| state.unreachable.insert("10.88.0.11:6443".into(), why));
        },
    ),
    Case {
        name: "wrong-ca-hash",
        first_line: "m1 / join-ticket: kubeadm printed another CA than the one in ca.crt",
        prepare: |cluster| join_ends(cluster, "the first try fails"),
        between: Some(|cluster| {
            cluster.host("m1").put_file("/etc/kubernetes/pki/ca.crt", include_str!("../golden/other-ca.pem"));
        }),
    },
    case("another-cluster-answers", "w1 / kubeadm-join: another cluster answers", |cluster| {
        join_ends(
            cluster,
            "couldn't validate the identity of the API Server: Abort reading the cluster-info ConfigMap after timeout of 2m0s: Get \"https://10.88.0.11:6443/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s\": x509: certificate signed by unknown authority",
        );
    }),
    case("token-expired", "w1 / kubeadm-join: the API server does not accept the join token", |cluster| {
        join_ends(
            cluster,
            "unable to fetch the kubeadm-config ConfigMap: failed to get config map: Unauthorized",
        );
    }),
    case(
        "member-of-another-cluster",
        "w1 / leftovers: w1 is already a member of another cluster",
        |cluster| {
            let conf = "clusters: [{cluster: {server: \"https://10.0.0.9:6443\"}}]\n";
            cluster.host("w1").put_file("/etc/kubernetes/kubelet.conf", conf);
        },
    ),
    case(
        "member-of-another-cluster-meanwhile",
        "kubeadm refuses to begin: this node is a member of a cluster already",
        |cluster| {
            refuses(
                cluster.host("w1"),
                "\t[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: /etc/kubernetes/kubelet.conf already exists\n\t[ERROR Port-10250]: Port 10250 is in use\n",
            );
        },
    ),
    case(
        "half-of-an-earlier-cluster",
        "w1 / leftovers: on w1 is what is left of an earlier cluster",
        |cluster| {
            cluster.host("w1").put_file("/etc/kubernetes/pki/ca.crt", "");
        },
    ),
    case("no-known-cause", "m1 / kubeadm-init: the kubelet says: something that nobody knows", |cluster| {
        waits_in_vain(cluster, "E1122 11:03:33.652436   28093 kubelet.go:99] something that nobody knows");
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_names_its_cause_in_the_first_line_and_says_how_to_go_on() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/failures");
    let time = Regex::new(r"\b\d\d:\d\d:\d\dZ").unwrap();
    let mut wrong = Vec::new();
    for Case { name, first_line, prepare, between } in CASES {
        let cluster = TestCluster::of(&["m1", "w1"]).await;
        prepare(&cluster);
        let mut end = cluster.bootstrap("").await.1;
        if let Some(between) = between {
            between(&cluster);
            end = cluster.bootstrap("").await.1;
        }
        assert_ne!(end.phase, "done", "{name}");
        let failures: Vec<_> = end.failures.iter().cloned().map(Failure::from).collect();
        let text = time.replace_all(&told(&failures), "HH:MM:SSZ").into_owned();
        let first = text.lines().next().unwrap_or_default();
        assert!(
            (first.starts_with("FAILED  ") || first.starts_with("BLOCKED  ")) && first.contains(first_line),
            "{name}: {first}"
        );
        assert!(!first.contains("timed out waiting"), "{name}: {first}");
        assert!(text.contains("\n    to do: "), "{name}: {text}");
        let path = folder.join(format!("{name}.txt"));
        if std::env::var_os("MUSTER_REGENERATE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        if fs::read_to_string(&path).unwrap_or_default() != text {
            wrong.push(format!("{}\n{text}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "not as the golden files say:\n{}", wrong.join("\n"));
    let files = fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, CASES.len(), "a golden file for every case and none beside");
}
