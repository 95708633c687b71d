//! The real host under a real systemd. Where no systemd runs, or not as root, each test says so and passes; the scenario
//! `system-host` runs them in a machine of the lab, with MUSTER_REAL_HOST, which makes a failure of it. They start only
//! programs that change nothing and remove the unit that they make.

use std::path::Path;
use std::time::Duration;

use muster_agent::host::HostError;
use muster_agent::host::change::{Applied, Change, ChangeId, Host, Program, ProgramName, UnitAction};
use muster_agent::host::query::{KubernetesProgram, ObserveCluster, ObserveRuntime, ObserveSystem};
use muster_agent::host::system::SystemHost;
use muster_proto::kubernetes::runtime::RuntimeName;
use secrecy::ExposeSecret;

fn skip(why: &str) {
    assert!(std::env::var_os("MUSTER_REAL_HOST").is_none(), "{why}");
    println!("skipped: {why}");
}

fn host() -> Option<SystemHost> {
    let here = Path::new("/run/systemd/system").is_dir() && nix::unistd::geteuid().is_root();
    if !here {
        skip("no systemd runs here, or not as root");
    }
    here.then(SystemHost::new)
}

fn with_kubeadm() -> Option<SystemHost> {
    let there = Path::new("/usr/bin/kubeadm").exists() && Path::new("/usr/bin/kubectl").exists();
    if !there {
        skip("kubeadm and kubectl are not installed here");
    }
    host().filter(|_| there)
}

fn id(step: &str) -> ChangeId {
    ChangeId { step: format!("test/system-host-{step}").parse().unwrap(), index: 0 }
}

fn program(name: ProgramName, line: &str, limit: Duration) -> Program {
    Program::new(name, line.split(' '), limit)
}

/// A program that goes on until its limit, in seconds, ends it.
fn hanging(limit: u64) -> Program {
    program(ProgramName::Kubectl, "proxy --port=0", Duration::from_secs(limit))
}

const MINUTE: Duration = Duration::from_secs(60);

async fn run(host: &SystemHost, step: &str, program: Program) -> Applied {
    host.forget(&id(step)).await.unwrap();
    let applied = host.apply(&Change::Run(program), &id(step)).await.unwrap();
    assert!(host.attach(&id(step)).await.unwrap().is_some(), "the result stays until it is forgotten");
    host.forget(&id(step)).await.unwrap();
    assert!(host.attach(&id(step)).await.unwrap().is_none());
    let left = host.list_folder(Path::new("/run/muster-agent/output")).await.unwrap();
    assert!(!left.iter().any(|name| name.starts_with(&id(step).unit())), "{left:?}");
    applied
}

#[tokio::test]
async fn a_programs_output_and_end_are_taken_and_its_unit_goes() {
    let Some(host) = with_kubeadm() else { return };
    let good = run(&host, "good", program(ProgramName::Kubeadm, "version -o short", MINUTE)).await;
    assert!(good.made && good.outcome.exit_code == Some(0), "{good:?}");
    assert!(good.outcome.output.starts_with("v1."), "{good:?}");
    assert!(good.outcome.error.is_none() && good.outcome.duration_ms > 0, "{good:?}");
    let bad = run(&host, "bad", program(ProgramName::Kubeadm, "no-such-phase", MINUTE)).await;
    assert!(!bad.made && bad.outcome.exit_code.is_some_and(|code| code > 0), "{bad:?}");
    assert!(bad.outcome.output.contains("unknown command \"no-such-phase\""), "{bad:?}");
}

#[tokio::test]
async fn a_program_reads_its_input_from_memory_and_its_secrets_do_not_reach_the_journal() {
    let Some(host) = with_kubeadm() else { return };
    let token = "abcdef.0123456789abcdef";
    let join = format!(
        "apiVersion: kubeadm.k8s.io/v1beta2\nkind: JoinConfiguration\ndiscovery: {{bootstrapToken: {{apiServerEndpoint: \"192.0.2.1:6443\", token: {token}, unsafeSkipCAVerification: true}}}}\n"
    );
    let migrate =
        program(ProgramName::Kubeadm, "config migrate --old-config /dev/stdin", MINUTE).with_input(join);
    let applied = run(&host, "input", migrate).await;
    assert!(applied.made, "{applied:?}");
    assert!(applied.standard_output.expose_secret().contains(token));
    assert!(applied.outcome.output.contains("kind: JoinConfiguration"), "{applied:?}");
    assert!(!applied.outcome.output.contains(token), "{applied:?}");
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_by_its_limit_and_the_limit_is_named() {
    let Some(host) = with_kubeadm() else { return };
    let applied = run(&host, "hang", hanging(2)).await;
    assert!(!applied.made && applied.outcome.exit_code.is_none(), "{applied:?}");
    assert_eq!(applied.outcome.error.as_deref(), Some("it was ended by its time limit of 2 s"));
    assert!(applied.outcome.output.contains("Starting to serve on"), "{applied:?}");
    assert!(applied.outcome.duration_ms >= 1900, "{applied:?}");
}

#[tokio::test]
async fn systemd_itself_says_that_a_running_program_has_limits_of_time_memory_and_processes() {
    let Some(host) = with_kubeadm() else { return };
    let id = id("limits");
    host.forget(&id).await.unwrap();
    let change = Change::Run(hanging(4));
    let looking = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let bus = zbus_systemd::zbus::Connection::system().await.unwrap();
        let systemd = zbus_systemd::systemd1::ManagerProxy::new(&bus).await.unwrap();
        let path = systemd.get_unit(id.unit()).await.unwrap();
        let unit = zbus_systemd::systemd1::ServiceProxy::new(&bus, path).await.unwrap();
        let time = unit.timeout_start_u_sec().await.unwrap();
        (time, unit.tasks_max().await.unwrap(), unit.memory_max().await.unwrap())
    };
    let (applied, limits) = tokio::join!(host.apply(&change, &id), looking);
    let error = applied.unwrap().outcome.error;
    assert_eq!(error.as_deref(), Some("it was ended by its time limit of 4 s"));
    assert_eq!(limits, (4_000_000, 4096, 1 << 30));
    host.forget(&id).await.unwrap();
}

#[tokio::test]
async fn a_program_outlives_the_agent_is_not_started_twice_and_is_found_again() {
    let Some(host) = with_kubeadm() else { return };
    let id = id("outlives");
    host.forget(&id).await.unwrap();
    let change = Change::Run(hanging(4));
    let answered = tokio::time::timeout(Duration::from_secs(1), host.apply(&change, &id)).await;
    assert!(answered.is_err(), "the program still runs: {answered:?}");
    let next_life = SystemHost::new();
    let again = next_life.apply(&change, &id).await.unwrap_err();
    assert!(matches!(&again, HostError::Systemd { message, .. } if message.contains("exists")), "{again}");
    assert!(next_life.forget(&id).await.is_err(), "what runs is not forgotten");
    let found = next_life.attach(&id).await.unwrap().unwrap();
    assert_eq!(found.outcome.error.as_deref(), Some("it was ended by its time limit of 4 s"));
    next_life.forget(&id).await.unwrap();
    assert!(next_life.attach(&id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_unit_is_started_kept_and_masked() {
    let Some(host) = host() else { return };
    let (unit, file) = ("muster-test.service", "/etc/systemd/system/muster-test.service");
    let apply = async |change: Change| host.apply(&change, &id("unit")).await;
    let act = async |action| apply(Change::Unit { unit: unit.into(), action }).await;
    assert!(!host.unit(unit).await.unwrap().exists);
    assert!(act(UnitAction::Start).await.is_err(), "there is no such unit");
    let content = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
    let write = Change::write(file, content);
    assert!(host.before(&write).await.unwrap().is_none());
    apply(write.clone()).await.unwrap();
    assert_eq!(host.before(&write).await.unwrap().unwrap()["mode"], 0o644);
    apply(Change::ReloadUnits).await.unwrap();
    for _ in 0..2 {
        act(UnitAction::Enable).await.unwrap();
        act(UnitAction::Start).await.unwrap();
    }
    let stands = host.unit(unit).await.unwrap();
    assert!(stands.exists && stands.active, "{stands:?}");
    assert_eq!((stands.file_state.as_str(), stands.state.as_str()), ("enabled", "active (exited)"));
    act(UnitAction::Restart).await.unwrap();
    act(UnitAction::Stop).await.unwrap();
    act(UnitAction::Disable).await.unwrap();
    let stands = host.unit(unit).await.unwrap();
    assert!(!stands.active && stands.file_state == "disabled", "{stands:?}");
    apply(Change::RemoveFile { path: file.into() }).await.unwrap();
    act(UnitAction::Mask).await.unwrap();
    let stands = host.unit(unit).await.unwrap();
    assert!(stands.exists && stands.file_state == "masked", "{stands:?}");
    let refused = act(UnitAction::Start).await.unwrap_err().to_string();
    assert!(refused.starts_with("systemd refused to start muster-test.service: "), "{refused}");
    // A mask is a link to /dev/null, which the agent does not remove as a file.
    assert!(matches!(
        apply(Change::RemoveFile { path: file.into() }).await,
        Err(HostError::NotPlain { what: "a symbolic link", .. })
    ));
    #[allow(clippy::disallowed_methods, reason = "the test tidies up behind itself")]
    std::fs::remove_file(file).unwrap();
    apply(Change::ReloadUnits).await.unwrap();
}

#[tokio::test]
async fn the_host_answers_every_question() {
    let Some(host) = with_kubeadm() else { return };
    let version = host.kubernetes_version(KubernetesProgram::Kubeadm).await.unwrap().unwrap();
    for program in KubernetesProgram::ALL {
        assert_eq!(host.kubernetes_version(program).await.unwrap(), Some(version), "{}", program.name());
    }
    let docker = host.runtime(RuntimeName::Docker).await.unwrap().unwrap();
    assert!(docker.cgroup_driver.is_some() && docker.root.is_dir(), "{docker:?}");
    let images = host.images(RuntimeName::Docker).await.unwrap();
    let wanted = host.kubeadm_images(version, None).await.unwrap();
    assert!(
        wanted.iter().all(|image| images.iter().any(|held| held == image.as_str())),
        "{wanted:?} {images:?}"
    );
    assert_eq!(host.hostname().await.unwrap(), nix::unistd::gethostname().unwrap().to_str().unwrap());
    assert!(host.addresses().await.unwrap().iter().any(|address| !address.is_loopback()));
    assert!(host.kernel_has("overlay").await.unwrap() && !host.kernel_has("no_such_module").await.unwrap());
    assert!(host.missing_programs(&["docker", "no-such-program"]).await.unwrap() == ["no-such-program"]);
    assert!(host.sysctl("net.ipv4.ip_forward").await.unwrap().is_some());
    host.swap_units().await.unwrap();
    host.swaps().await.unwrap();
    host.kubelet_healthy().await.unwrap();
    assert!(host.unit("docker.service").await.unwrap().active);
}
