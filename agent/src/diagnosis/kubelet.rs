//! The kubelet's journal: lines that name a cause which does not go away by waiting. What every start of a cluster says
//! on its way (connection refused, node not found, cni config uninitialized, no config.yaml yet) is no sign.

use std::sync::LazyLock;

use muster_proto::kubernetes::runtime::RuntimeName;
use regex::Regex;

use super::sign::{Cause, Sign, add, short};
use crate::host::query::JournalLine;

const PLACE: &str = "the kubelet's journal";

static IMAGE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?:ailed pulling image|ailed to get sandbox image|ailed to pull image|Back-off pulling image) \\*"([^"\\]+)"#)
        .expect("the pattern is constant and valid")
});
static PORT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"listen \w+ \S*:(\d+): bind: address already in use")
        .expect("the pattern is constant and valid")
});
static RUNTIME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"OCI runtime create failed: ([^"]+)"#).expect("the pattern is constant and valid")
});
static FATAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?:failed to run Kubelet: |"command failed" err=")(.+)"#)
        .expect("the pattern is constant and valid")
});
static SILENT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"dial tcp (\S+:\d+): (?:i/o timeout|connect: no route to host)")
        .expect("the pattern is constant and valid")
});

static PLUGIN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"failed to find plugin \\*"([^"\\]+)\\*" in path \[([^\]]*)\]"#)
        .expect("the pattern is constant and valid")
});
static NO_NODE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"node \\*"([^"\\]+)\\*" not found"#).expect("the pattern is constant and valid")
});

/// The causes that the journal names, each with the line in which it appeared first.
pub(super) fn signs(lines: &[JournalLine], runtime: RuntimeName) -> Vec<Sign> {
    let mut signs = Vec::new();
    for line in lines {
        if let Some((cause, sentence)) = of_line(&line.message, runtime) {
            add(&mut signs, Sign::new(cause, sentence, PLACE, &line.message).at(line.time));
        }
    }
    signs
}

/// A kubelet that asks for another node than its own: the cluster never has one of that name.
pub(super) fn other_name(lines: &[JournalLine], node: &str) -> Option<Sign> {
    lines.iter().find_map(|line| {
        let name = NO_NODE.captures(&line.message)?.get(1)?.as_str();
        let sentence =
            format!("the kubelet of {node} calls itself {name}, and the cluster knows no node of that name");
        (name != node).then(|| Sign::new(Cause::OtherName, sentence, PLACE, &line.message).at(line.time))
    })
}

/// Before kubeadm wrote its configuration, every kubelet says this.
pub(super) fn is_unconfigured(message: &str) -> bool {
    message.contains("failed to load Kubelet config file")
        || message.contains("failed to load kubelet config file")
}

/// Whether a line tells of an error in klog's form; shown when no cause is known.
pub(super) fn is_error(message: &str) -> bool {
    let mut letters = message.chars();
    matches!(letters.next(), Some('E' | 'F')) && letters.take(4).all(|letter| letter.is_ascii_digit())
}

/// What one line says on a node with this runtime, in the words of 1.20 and of 1.36.
pub(super) fn of_line(line: &str, runtime: RuntimeName) -> Option<(Cause, String)> {
    let has = |text: &str| line.contains(text);
    let row = runtime.row();
    if has("running with swap on is not supported") {
        return Some((Cause::SwapOn, "swap is on, and the kubelet refuses to run with it".into()));
    }
    if has(row.other_driver) {
        return Some((
            Cause::CgroupDriver,
            format!("the kubelet and {runtime} use different cgroup drivers"),
        ));
    }
    if has(row.no_interface) {
        return Some((Cause::InterfaceOff, interface_off(runtime)));
    }
    if has("configured to not run on a host using cgroup v1") {
        return Some((Cause::CgroupVersion, "this kubelet refuses to run on cgroup v1".into()));
    }
    if row.silent.iter().any(|words| has(words)) {
        return Some((Cause::RuntimeStopped, format!("{runtime} does not run")));
    }
    if has("OCI runtime create failed")
        || has("runc did not terminate success")
        || has("failed to create shim")
    {
        // What runc itself said, or that it said nothing.
        let said = RUNTIME.captures(line).map(|found| short(found[1].trim_end_matches(": unknown"), 160));
        let said = said.filter(|said| !said.starts_with("unable to retrieve OCI runtime error"));
        let why = said.unwrap_or_else(|| "its program runc fails without a word".into());
        return Some((
            Cause::RuntimeBroken,
            format!("the container runtime cannot start any container: {why}"),
        ));
    }
    if has("lookup localhost") {
        return Some((Cause::NoLocalhost, "the name localhost means nothing on this node".into()));
    }
    if let Some(found) = PLUGIN.captures(line) {
        return Some((
            Cause::PluginMissing,
            format!("the network program {} is not in {}", &found[1], &found[2]),
        ));
    }
    if has("proxyconnect tcp") {
        return Some((Cause::Proxied, "the kubelet speaks to the cluster through a proxy".into()));
    }
    if let Some(found) = IMAGE.captures(line) {
        return Some((
            Cause::ImageMissing,
            format!("the image {} is not on this node and cannot be pulled", &found[1]),
        ));
    }
    if let Some(found) = PORT.captures(line) {
        return Some((Cause::PortTaken, format!("port {} is taken by another program", &found[1])));
    }
    if has("x509: certificate has expired or is not yet valid") {
        return Some((Cause::ClockWrong, clock(line)));
    }
    if has("Failed while requesting a signed certificate") && has("Unauthorized") {
        return Some((Cause::Unauthorized, "the API server does not accept the kubelet's token".into()));
    }
    if let Some(found) = SILENT.captures(line) {
        return Some((Cause::ApiUnreachable, format!("{} cannot be reached from this node", &found[1])));
    }
    let fatal = FATAL.captures(line).filter(|_| !is_unconfigured(line))?;
    Some((
        Cause::KubeletRefuses,
        format!("the kubelet refuses to run: {}", short(fatal[1].trim_end_matches('"'), 200)),
    ))
}

/// Of a runtime that runs without its interface for the kubelet.
pub(super) fn interface_off(runtime: RuntimeName) -> String {
    format!("{runtime} runs, but its interface for the kubelet (CRI) is switched off or did not come up")
}

/// Which way the clock is wrong, as far as the text tells.
pub(super) fn clock(line: &str) -> String {
    if line.contains("is before") {
        "the clock of this node is behind: the cluster's certificate is not yet valid here".into()
    } else if line.contains("is after") {
        "the cluster's certificate has expired, or the clock of this node is ahead".into()
    } else {
        "the cluster's certificate is not valid now: this node's clock differs from the control plane's"
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> (Cause, String) {
        of_line(line, RuntimeName::Docker).unwrap_or_else(|| panic!("no cause in {line}"))
    }

    #[test]
    fn containerds_ends_are_named_stopped_without_its_interface_and_with_another_driver() {
        let of =
            |line| of_line(line, RuntimeName::Containerd).unwrap_or_else(|| panic!("no cause in {line}"));
        let stopped = "E1130 11:00:00.1 1 run.go:72] \"command failed\" err=\"failed to run Kubelet: validate service connection: validate CRI v1 runtime API for endpoint \\\"unix:///run/containerd/containerd.sock\\\": rpc error: code = Unavailable desc = connection error: desc = \\\"transport: Error while dialing: dial unix /run/containerd/containerd.sock: connect: no such file or directory\\\"\"";
        assert_eq!(of(stopped), (Cause::RuntimeStopped, "containerd does not run".into()));
        let off = "E1130 11:00:00.1 1 run.go:72] \"command failed\" err=\"failed to run Kubelet: validate service connection: validate CRI v1 runtime API for endpoint \\\"unix:///run/containerd/containerd.sock\\\": rpc error: code = Unimplemented desc = unknown service runtime.v1.RuntimeService\"";
        assert_eq!(of(off).0, Cause::InterfaceOff);
        let driver = "E1130 11:00:00.1 1 remote_runtime.go:176] \"RunPodSandbox from runtime service failed\" err=\"rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: expected cgroupsPath to be of format \\\"slice:prefix:name\\\" for systemd cgroups, got \\\"/kubepods/burstable/pod1/2\\\" instead: unknown\"";
        assert_eq!(
            of(driver),
            (Cause::CgroupDriver, "the kubelet and containerd use different cgroup drivers".into())
        );
    }

    #[test]
    fn swap_is_named_in_the_words_of_old_and_new_kubelets() {
        let old = "F1122 11:03:33.652436   28093 server.go:269] failed to run Kubelet: running with swap on is not supported, please disable swap! or set --fail-swap-on flag to false. /proc/swaps contained: [Filename Type Size Used Priority /swapfile file 65532 132 -2]";
        let new = "E1122 10:47:30.298256     459 run.go:72] \"command failed\" err=\"failed to run Kubelet: running with swap on is not supported, please disable swap or set --fail-swap-on flag to false\"";
        for line in [old, new] {
            assert_eq!(
                told(line),
                (Cause::SwapOn, "swap is on, and the kubelet refuses to run with it".into())
            );
        }
    }

    #[test]
    fn a_missing_sandbox_image_is_named_for_docker_and_for_containerd() {
        let docker = "E1122 11:06:53.914330   20350 remote_runtime.go:116] RunPodSandbox from runtime service failed: rpc error: code = Unknown desc = failed pulling image \"k8s.gcr.io/pause:3.2\": Error response from daemon: Get \"https://k8s.gcr.io/v2/\": dial tcp: lookup k8s.gcr.io on [::1]:53: read udp [::1]:42489->[::1]:53: read: connection refused";
        assert_eq!(told(docker).1, "the image k8s.gcr.io/pause:3.2 is not on this node and cannot be pulled");
        let containerd = "E1122 11:01:00.393032    4340 remote_runtime.go:237] \"RunPodSandbox from runtime service failed\" err=\"rpc error: code = Unknown desc = failed to start sandbox \\\"99ab\\\": failed to get sandbox image \\\"registry.k8s.io/pause:3.10\\\": failed to pull image \\\"registry.k8s.io/pause:3.10\\\": failed to pull and unpack image\"";
        assert_eq!(
            told(containerd).1,
            "the image registry.k8s.io/pause:3.10 is not on this node and cannot be pulled"
        );
    }

    #[test]
    fn a_broken_runc_is_named_with_its_own_words() {
        let line = "E1122 12:00:01.000000    1 remote_runtime.go:116] RunPodSandbox from runtime service failed: rpc error: code = Unknown desc = failed to start sandbox container for pod \"etcd-m1\": Error response from daemon: OCI runtime create failed: unable to retrieve OCI runtime error (open /run/containerd/log.json: no such file or directory): runc did not terminate successfully: exit status 1: unknown";
        let (cause, sentence) = told(line);
        assert_eq!(cause, Cause::RuntimeBroken);
        assert_eq!(
            sentence,
            "the container runtime cannot start any container: its program runc fails without a word"
        );
        let spoken = "Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to create session key: operation not permitted: unknown";
        assert!(
            told(spoken)
                .1
                .ends_with("runc create failed: unable to create session key: operation not permitted")
        );
    }

    #[test]
    fn a_stopped_docker_different_drivers_and_cgroup_v1_are_told_apart() {
        let docker = "F1122 server.go:269] failed to run Kubelet: failed to create kubelet: failed to get docker version: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?";
        assert_eq!(told(docker), (Cause::RuntimeStopped, "Docker does not run".into()));
        let driver = "F1122 server.go:269] failed to run Kubelet: misconfiguration: kubelet cgroup driver: \"systemd\" is different from docker cgroup driver: \"cgroupfs\"";
        assert_eq!(told(driver).0, Cause::CgroupDriver);
        let version = "E1122 10:48:32.163151     312 run.go:72] \"command failed\" err=\"failed to validate kubelet configuration, error: kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported and will be removed in a future release, path: &TypeMeta{Kind:,APIVersion:,}\"";
        assert_eq!(told(version).0, Cause::CgroupVersion);
        let other = "E1122 run.go:72] \"command failed\" err=\"failed to parse kubelet flag: unknown flag: --network-plugin\"";
        assert_eq!(
            told(other).1,
            "the kubelet refuses to run: failed to parse kubelet flag: unknown flag: --network-plugin"
        );
    }

    #[test]
    fn a_missing_localhost_a_missing_network_program_and_a_proxy_are_named_in_old_and_new_words() {
        let localhost = "E1130 11:00:00.1 1 server.go:179] Streaming server stopped unexpectedly: listen tcp: lookup localhost on [::1]:53: read udp [::1]:40153->[::1]:53: read: connection refused";
        assert_eq!(told(localhost).0, Cause::NoLocalhost);
        let old = "E1130 11:00:00.1 1 pod_workers.go:191] Error syncing pod 1: failed to \"CreatePodSandbox\" for \"x\" with CreatePodSandboxError: \"networkPlugin cni failed to set up pod: failed to find plugin \\\"portmap\\\" in path [/opt/cni/bin]\"";
        let new = "E1130 11:00:00.1 1 log.go:32] \"RunPodSandbox from runtime service failed\" err=\"rpc error: failed to setup network for sandbox: plugin type=\\\"portmap\\\" failed (add): failed to find plugin \\\"portmap\\\" in path [/opt/cni/bin]\"";
        let plain = "E1130 1 cni.go:366] Error adding pod to network: failed to find plugin \"portmap\" in path [/opt/cni/bin]";
        for line in [old, new, plain] {
            assert_eq!(
                told(line),
                (Cause::PluginMissing, "the network program portmap is not in /opt/cni/bin".into())
            );
        }
        let proxy = "E1130 1 reflector.go:138] Failed to watch *v1.Node: Get \"https://10.88.0.11:6443/api\": proxyconnect tcp: dial tcp 10.88.0.250:3128: i/o timeout";
        assert_eq!(told(proxy).0, Cause::Proxied);
    }

    #[test]
    fn what_every_healthy_start_says_is_no_sign() {
        for line in [
            "F1122 10:53:02.1   1 server.go:198] failed to load Kubelet config file /var/lib/kubelet/config.yaml, error failed to read kubelet config file \"/var/lib/kubelet/config.yaml\"",
            "E1122 10:47:30.1   1 run.go:72] \"command failed\" err=\"failed to load kubelet config file, path: /var/lib/kubelet/config.yaml\"",
            "E1122 10:53:12.492369   23645 certificate_manager.go:437] Failed while requesting a signed certificate from the master: cannot create certificate signing request: Post \"https://10.88.0.11:6443/apis\": dial tcp 10.88.0.11:6443: connect: connection refused",
            "E1122 10:53:19.116188   23645 kubelet.go:2163] Container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:docker: network plugin is not ready: cni config uninitialized",
            "E1122 10:53:19.117171   23645 remote_runtime.go:332] ContainerStatus \"f6cc\" from runtime service failed: rpc error: code = Unknown desc = Error: No such container: f6cc",
            "E1122 11:01:52.569290   19070 kubelet.go:2243] node \"w1\" not found",
            "kubelet.service: Main process exited, code=exited, status=255/EXCEPTION",
        ] {
            assert_eq!(of_line(line, RuntimeName::Docker), None, "{line}");
            assert_eq!(of_line(line, RuntimeName::Containerd), None, "{line}");
        }
    }
}
