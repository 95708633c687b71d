//! The fake must be believable: what the real programs do and refuse, it does and refuses.

use std::path::Path;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use muster_proto::kubernetes::runtime::CgroupDriver;
use secrecy::ExposeSecret;

use super::*;
use crate::cluster::ticket::Ticket;
use crate::host::change::{Applied, Change, ChangeId, FileMode, Host, Program};
use crate::host::query::{ObjectKind, ObserveCluster, ObserveRuntime, ObserveSystem, is_ready};

fn id(step: &str) -> ChangeId {
    ChangeId { step: format!("m1/{step}").parse().unwrap(), index: 0 }
}

fn program(name: ProgramName, line: &str) -> Program {
    Program::new(name, line.split(' '), Duration::from_secs(60))
}

async fn run(host: &FakeHost, step: &str, program: Program) -> Applied {
    let applied = host.apply(&Change::Run(program), &id(step)).await.unwrap();
    host.forget(&id(step)).await.unwrap();
    applied
}

const INIT: &str = "apiVersion: kubeadm.k8s.io/v1beta2
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 10.88.0.11, bindPort: 6443}
nodeRegistration: {name: m1}
---
apiVersion: kubeadm.k8s.io/v1beta2
kind: ClusterConfiguration
kubernetesVersion: v1.20.2
";

const NETWORK: &str = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-flannel-ds, namespace: kube-system}
spec: {template: {metadata: {labels: {app: flannel}}, spec: {hostNetwork: true}}}
";

const NGINX: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx}
spec: {replicas: 2, template: {metadata: {labels: {app: nginx}}, spec: {}}}
";

fn prepare(host: &FakeHost) {
    host.with(|state| {
        state.swaps.clear();
        state.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
    });
    host.put_file("/etc/muster/init.yaml", INIT);
    host.put_file(DISCOVERY, discovery("https://10.88.0.11:6443", CA_CERTIFICATE));
}

fn init() -> Program {
    program(ProgramName::Kubeadm, "init --config /etc/muster/init.yaml")
}

const DISCOVERY: &str = "/run/discovery.conf";

/// A join by file: the cluster that the file names, the token beside it.
fn join(ticket: &Ticket) -> Program {
    let configuration = format!(
        "kind: JoinConfiguration\ndiscovery: {{file: {{kubeConfigPath: {DISCOVERY}}}, tlsBootstrapToken: {}, timeout: 30s}}\n",
        ticket.token.expose_secret(),
    );
    program(ProgramName::Kubeadm, "join --config /dev/stdin").with_input(configuration)
}

fn discovery(server: &str, ca: &str) -> String {
    let data = BASE64_STANDARD.encode(ca);
    format!(
        "clusters: [{{name: \"\", cluster: {{server: \"{server}\", certificate-authority-data: {data}}}}}]\n"
    )
}

fn ticket_of(applied: &Applied) -> Ticket {
    Ticket::parse(applied.standard_output.expose_secret()).unwrap()
}

#[tokio::test]
async fn init_join_network_and_pods_follow_each_other_as_in_a_real_cluster() {
    let cluster = FakeCluster::default();
    let (master, worker) = (FakeHost::debian("m1", cluster.clone()), FakeHost::debian("w1", cluster.clone()));
    prepare(&master);
    prepare(&worker);
    let made = run(&master, "init", init()).await;
    assert!(made.made, "{made:?}");
    assert!(
        !made.outcome.output.contains(ticket_of(&made).token.expose_secret()),
        "{:?}",
        made.outcome.output
    );
    assert_eq!(ticket_of(&made).ca_hashes[0].as_str(), CA_HASH);
    let joined = run(&worker, "join", join(&ticket_of(&made))).await;
    assert!(joined.made, "{joined:?}");
    let nodes = master.objects(ObjectKind::Node, "", "").await.unwrap();
    assert_eq!((nodes.len(), nodes.iter().any(is_ready)), (2, false));
    let kubectl = "apply --kubeconfig /etc/kubernetes/admin.conf -f -";
    run(&master, "network", program(ProgramName::Kubectl, kubectl).with_input(NETWORK)).await;
    assert!(master.objects(ObjectKind::Node, "", "").await.unwrap().iter().all(is_ready));
    let untaint = Change::RemoveTaints {
        node: "m1".parse().unwrap(),
        keys: vec!["node-role.kubernetes.io/master".into()],
    };
    master.apply(&untaint, &id("untaint")).await.unwrap();
    run(&master, "smoke", program(ProgramName::Kubectl, kubectl).with_input(NGINX)).await;
    let pods = master.objects(ObjectKind::Pod, "default", "app=nginx").await.unwrap();
    let mut places: Vec<&str> = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    places.sort_unstable();
    assert_eq!(places, ["m1", "w1"]);
    let address = format!("{}:80", pods[0]["status"]["podIP"].as_str().unwrap()).parse().unwrap();
    let page = worker.http_page(address).await.unwrap().unwrap();
    assert_eq!((page.status, page.text.as_str()), (200, pods[0]["metadata"]["name"].as_str().unwrap()));
}

#[tokio::test]
async fn a_second_init_is_refused_in_kubeadms_own_words() {
    let host = FakeHost::debian("m1", FakeCluster::default());
    prepare(&host);
    run(&host, "init", init()).await;
    let before = host.snapshot();
    let again = run(&host, "init", init()).await;
    assert_eq!(again.outcome.exit_code, Some(1));
    for words in [
        "\t[ERROR Port-6443]: Port 6443 is in use\n",
        "\t[ERROR FileAvailable--etc-kubernetes-manifests-etcd.yaml]: /etc/kubernetes/manifests/etcd.yaml already exists\n",
        "\t[ERROR DirAvailable--var-lib-etcd]: /var/lib/etcd is not empty\n",
    ] {
        assert!(again.outcome.output.contains(words), "{}", again.outcome.output);
    }
    assert_eq!(host.snapshot(), before);
    assert_eq!((host.runs(ProgramName::Kubeadm), host.overlaps()), (2, 0));
}

#[tokio::test]
async fn an_unprepared_host_and_an_unknown_token_are_refused() {
    let cluster = FakeCluster::default();
    let (master, worker) = (FakeHost::debian("m1", cluster.clone()), FakeHost::debian("w1", cluster));
    master.put_file("/etc/muster/init.yaml", INIT);
    let refused = run(&master, "init", init()).await;
    assert!(refused.outcome.output.contains("[ERROR Swap]"), "{}", refused.outcome.output);
    prepare(&master);
    prepare(&worker);
    let mut ticket = ticket_of(&run(&master, "init", init()).await);
    ticket.token = "zzzzzz.0123456789abcdef".to_owned().into();
    let refused = run(&worker, "join", join(&ticket)).await;
    assert!(refused.outcome.output.contains("failed to get config map: Unauthorized"), "{refused:?}");
    let create = program(ProgramName::Kubeadm, "token create --ttl 10m --print-join-command");
    let fresh = ticket_of(&run(&master, "ticket", create).await);
    assert!(run(&worker, "join", join(&fresh)).await.made);
}

#[tokio::test]
async fn a_join_by_file_wants_the_file_the_right_ca_and_an_api_server_that_answers() {
    let cluster = FakeCluster::default();
    let (master, worker) = (FakeHost::debian("m1", cluster.clone()), FakeHost::debian("w1", cluster));
    prepare(&master);
    prepare(&worker);
    let ticket = ticket_of(&run(&master, "init", init()).await);
    let not_in_time = "Abort reading the cluster-info ConfigMap after timeout of 30s";
    let other_ca = rcgen::generate_simple_self_signed(["kubernetes".to_owned()]).unwrap().cert.pem();
    for (file, words) in [
        (discovery("https://10.88.0.11:6443", &other_ca), not_in_time),
        (discovery("https://10.88.0.99:6443", CA_CERTIFICATE), not_in_time),
        ("clusters: []\n".to_owned(), "must have at least one Cluster defined"),
    ] {
        worker.put_file(DISCOVERY, file);
        let refused = run(&worker, "join", join(&ticket)).await;
        assert!(refused.outcome.output.contains(words), "{refused:?}");
    }
    worker.with(|state| state.files.remove(Path::new(DISCOVERY)));
    let refused = run(&worker, "join", join(&ticket)).await;
    assert_eq!(refused.outcome.exit_code, Some(3));
    assert!(refused.outcome.output.contains("not a valid HTTPS URL or a file on disk"), "{refused:?}");
}

#[tokio::test]
async fn a_program_outlives_the_agent_and_is_found_again() {
    let host = FakeHost::debian("m1", FakeCluster::default());
    prepare(&host);
    host.crash_at(1, Moment::WhileRunning);
    let (change, id_of_init) = (Change::Run(init()), id("init"));
    tokio::select! {
        _ = host.apply(&change, &id_of_init) => panic!("a dead agent has no answer"),
        () = host.died() => {}
    }
    assert!(host.apply(&Change::Run(init()), &id("init")).await.is_err(), "the unit's name is taken");
    let found = host.attach(&id("init")).await.unwrap().unwrap();
    assert!(found.made && host.runs(ProgramName::Kubeadm) == 1);
    host.forget(&id("init")).await.unwrap();
    assert!(host.attach(&id("init")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_crash_before_the_effect_leaves_the_host_alone_and_one_after_it_does_not() {
    for (moment, expected) in [(Moment::BeforeEffect, "m1"), (Moment::AfterEffect, "new")] {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.crash_at(1, moment);
        let (change, id) = (Change::SetHostname { name: "new".parse().unwrap() }, id("hostname"));
        tokio::select! {
            _ = host.apply(&change, &id) => panic!("a dead agent has no answer"),
            () = host.died() => {}
        }
        assert_eq!(host.hostname().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_deleted_link_takes_its_routes_along_and_an_absent_link_or_route_is_refused() {
    let host = FakeHost::debian("m1", FakeCluster::default());
    prepare(&host);
    run(&host, "init", init()).await;
    let ip = |line: &str| program(ProgramName::Ip, line);
    assert!(run(&host, "link", ip("link delete flannel.1")).await.made);
    assert!(!host.file("/proc/net/route").unwrap().contains("flannel.1"));
    for (line, exit_code, words) in [
        ("link delete flannel.1", 1, "Cannot find device \"flannel.1\""),
        ("route delete 10.244.1.0/24", 2, "RTNETLINK answers: No such process"),
    ] {
        let refused = run(&host, "ip", ip(line)).await.outcome;
        assert!(refused.exit_code == Some(exit_code) && refused.output.contains(words), "{refused:?}");
    }
    assert!(run(&host, "route", ip("route delete 10.244.9.0/24")).await.made);
    assert!(!host.file("/proc/net/route").unwrap().contains("eth0"));
}

#[tokio::test]
async fn the_before_image_holds_no_secret() {
    let host = FakeHost::debian("m1", FakeCluster::default());
    let write = |secret| Change::WriteUserFile {
        user: "student".parse().unwrap(),
        path: ".kube/config".into(),
        content: "new".into(),
        mode: FileMode::IfNew(0o600),
        secret,
    };
    host.apply(&write(true), &id("kubeconfig")).await.unwrap();
    assert!(!host.before(&write(true)).await.unwrap().unwrap().to_string().contains("new"));
    let open = host.before(&write(false)).await.unwrap().unwrap();
    assert_eq!((open["content"].as_str(), open["mode"].as_u64()), (Some("new"), Some(0o600)));
}

#[tokio::test]
async fn a_runtime_reads_its_cgroup_driver_when_it_starts() {
    let docker = "{\"exec-opts\": [\"native.cgroupdriver=systemd\"]}";
    let containerd = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nSystemdCgroup = true\n";
    for (name, settings) in [(RuntimeName::Docker, docker), (RuntimeName::Containerd, containerd)] {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.with(super::State::run_containerd);
        let driver = async || host.runtime(name).await.unwrap().unwrap().cgroup_driver;
        host.put_file(name.row().settings, settings);
        assert_eq!(driver().await, Some(CgroupDriver::Cgroupfs));
        let restart =
            Change::Unit { unit: name.row().unit.into(), action: crate::host::change::UnitAction::Restart };
        host.apply(&restart, &id("runtime")).await.unwrap();
        assert_eq!(driver().await, Some(CgroupDriver::Systemd));
    }
}

#[test]
fn the_certificates_hash_is_the_constant() {
    let (_, pem) = x509_parser::pem::parse_x509_pem(CA_CERTIFICATE.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.public_key().raw);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(CA_HASH, format!("sha256:{hex}"));
}

#[tokio::test]
async fn folders_list_their_direct_names() {
    let host = FakeHost::debian("m1", FakeCluster::default());
    let names = host.list_folder(Path::new("/etc")).await.unwrap();
    assert_eq!(names, ["fstab", "hostname", "hosts", "machine-id", "ufw"]);
    assert!(host.list_folder(Path::new("/nowhere")).await.unwrap().is_empty());
}
