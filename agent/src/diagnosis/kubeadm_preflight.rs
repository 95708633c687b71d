//! kubeadm's preflight checks: `[ERROR Name]: text`, the one form that all versions from 1.13 to 1.36 share. The text may
//! run over several lines, up to the next mark.

use std::sync::LazyLock;

use muster_proto::event::{Complaint, reset_command};
use muster_proto::kubernetes::runtime::RuntimeName;
use regex::Regex;

use super::kubelet;
use super::sign::{Cause, Surroundings};

static FINDING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^\s*\[ERROR ([A-Za-z0-9_.-]+)\]: (.*)$").expect("the pattern is constant and valid")
});

/// All errors as one complaint with the remedies that are known, the deepest cause first, and the commands that show more;
/// none when there is no error.
pub(super) fn complaint(output: &str, place: &Surroundings, more: &str) -> Option<Complaint> {
    let runtime = place.runtime;
    let findings: Vec<(String, String)> = FINDING
        .captures_iter(output)
        .map(|found| (found[1].to_owned(), found[2].trim().to_owned()))
        .collect();
    let deepest = findings
        .iter()
        .min_by_key(|(name, text)| cause(name, text, runtime).map_or((1, None), |cause| (0, Some(cause))));
    let (name, text) = deepest?;
    let first = sentence(name, text, runtime);
    let others = match findings.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let evidence: Vec<String> =
        findings.iter().map(|(name, text)| format!("[ERROR {name}]: {text}")).collect();
    let mut remedies = vec![remedy(name, text, place)];
    for (name, text) in &findings {
        let remedy = remedy(name, text, place);
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    remedies.push("start over: run the same bootstrap again (nothing was changed by kubeadm)".into());
    remedies.push(more.to_owned());
    Some(Complaint::new(
        format!("kubeadm refuses to begin: {first}{others}"),
        evidence.join("\n"),
        remedies.join("\n"),
    ))
}

/// The known cause behind a check, by its name (kubernetes 1.20.2, cmd/kubeadm/app/preflight/checks.go).
fn cause(check: &str, text: &str, runtime: RuntimeName) -> Option<Cause> {
    let row = runtime.row();
    match check {
        "Swap" => Some(Cause::SwapOn),
        name if row.checks.contains(&name) && text.contains(row.no_interface) => Some(Cause::InterfaceOff),
        name if row.checks.contains(&name) => Some(Cause::RuntimeStopped),
        name if row.asking_checks.contains(&name) => {
            row.silent.iter().any(|words| text.contains(words)).then_some(Cause::RuntimeStopped)
        }
        "ImagePull" => Some(Cause::ImageMissing),
        "FileAvailable--etc-kubernetes-kubelet.conf"
        | "FileAvailable--etc-kubernetes-bootstrap-kubelet.conf"
        | "FileAvailable--etc-kubernetes-pki-ca.crt" => Some(Cause::AlreadyMember),
        name if name.starts_with("FileAvailable--etc-kubernetes-manifests") => Some(Cause::AlreadyMember),
        name if name.starts_with("Port-") => Some(Cause::PortTaken),
        _ => None,
    }
}

fn sentence(check: &str, text: &str, runtime: RuntimeName) -> String {
    match cause(check, text, runtime) {
        Some(Cause::InterfaceOff) => kubelet::interface_off(runtime),
        Some(Cause::RuntimeStopped) => "the container runtime does not run".into(),
        Some(Cause::ImageMissing) => {
            let image = text.strip_prefix("failed to pull image ").and_then(|rest| rest.split(": ").next());
            image.map_or_else(
                || text.to_owned(),
                |image| format!("the image {image} is not on this node and cannot be pulled"),
            )
        }
        Some(Cause::AlreadyMember) => {
            format!("this node is a member of a cluster already, or half of one: {text}")
        }
        Some(Cause::PortTaken) => {
            format!("port {} is taken by another program", check.trim_start_matches("Port-"))
        }
        _ => text.to_owned(),
    }
}

fn remedy(check: &str, text: &str, place: &Surroundings) -> String {
    let node = place.node;
    if let Some(cause) = cause(check, text, place.runtime) {
        return cause.remedy(&Surroundings { endpoint: None, ..*place });
    }
    match check {
        "NumCPU" => "give the machine at least 2 CPUs".into(),
        "Mem" => "give the machine at least 2 GB of memory".into(),
        name if name.starts_with("FileAvailable-") || name.starts_with("DirAvailable-") => {
            format!(
                "an earlier cluster left files behind: `{}` on the master removes them",
                reset_command(node)
            )
        }
        name if name.starts_with("FileExisting-") => {
            format!("install {} on {node}", name.trim_start_matches("FileExisting-"))
        }
        name if name.starts_with("FileContent-") => {
            "Muster sets this kernel setting at every bootstrap; find out what resets it".into()
        }
        _ => format!("remove what [ERROR {check}] says"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(output: &str) -> Complaint {
        on(RuntimeName::Docker, output)
    }
    fn on(runtime: RuntimeName, output: &str) -> Complaint {
        complaint(output, &Surroundings { node: "m1", endpoint: None, runtime }, "more: x").unwrap()
    }

    #[test]
    fn all_errors_become_one_complaint_with_all_remedies() {
        let complaint = of(
            "\t[WARNING IsDockerSystemdCheck]: detected\nerror execution phase preflight: [preflight] Some fatal errors occurred:\n\
             \t[ERROR Port-6443]: Port 6443 is in use\n\t[ERROR Swap]: running with swap on is not supported. Please disable swap\n",
        );
        assert_eq!(
            complaint.cause,
            "kubeadm refuses to begin: running with swap on is not supported. Please disable swap (and 1 more)"
        );
        assert!(
            complaint.remedy.starts_with("on m1: `sudo swapoff -a`") && complaint.remedy.contains("ss -ltnp"),
            "{complaint}"
        );
        assert_eq!(complaint.evidence.lines().count(), 2);
        let last: Vec<&str> = complaint.remedy.lines().rev().take(2).collect();
        assert!(last[0] == "more: x" && last[1].starts_with("start over: "), "{complaint}");
    }

    #[test]
    fn a_stopped_docker_is_one_cause_behind_four_errors() {
        let complaint = of("error execution phase preflight: [preflight] Some fatal errors occurred:\n\
            \t[ERROR CRI]: container runtime is not running: output: Client:\n Context:    default\n\
            \t[ERROR Service-Docker]: docker service is not active, please run 'systemctl start docker.service'\n\
            \t[ERROR IsDockerSystemdCheck]: cannot execute 'docker info -f {{.CgroupDriver}}': exit status 1\n\
            \t[ERROR SystemVerification]: error verifying Docker info: \"Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\"\n");
        assert_eq!(
            complaint.cause,
            "kubeadm refuses to begin: the container runtime does not run (and 3 more)"
        );
        assert!(complaint.remedy.contains("systemctl start docker"), "{complaint}");
    }

    #[test]
    fn a_containerd_that_is_stopped_is_named_in_the_words_of_1_36() {
        let complaint = on(
            RuntimeName::Containerd,
            "[preflight] Some fatal errors occurred:\n\t[ERROR CRI]: could not connect to the container runtime: failed to create new CRI runtime service: validate service connection: validate CRI v1 runtime API for endpoint \"unix:///var/run/containerd/containerd.sock\": rpc error: code = Unavailable desc = connection error\n",
        );
        assert_eq!(complaint.cause, "kubeadm refuses to begin: the container runtime does not run");
        assert!(complaint.remedy.contains("systemctl start containerd"), "{complaint}");
    }

    #[test]
    fn a_containerd_whose_interface_is_switched_off_is_not_called_stopped() {
        let complaint = on(
            RuntimeName::Containerd,
            "[preflight] Some fatal errors occurred:\n\t[ERROR CRI]: could not connect to the container runtime: failed to create new CRI runtime service: validate service connection: validate CRI v1 runtime API for endpoint \"unix:///run/containerd/containerd.sock\": rpc error: code = Unimplemented desc = unknown service runtime.v1.RuntimeService\n",
        );
        assert!(complaint.cause.contains("containerd runs, but its interface"), "{complaint}");
        assert!(complaint.remedy.contains("/etc/containerd/config.toml"), "{complaint}");
    }

    #[test]
    fn a_missing_image_is_named_in_old_and_new_words() {
        for output in [
            "\t[ERROR ImagePull]: failed to pull image k8s.gcr.io/pause:3.2: output: Error response from daemon: Get \"https://k8s.gcr.io/v2/\": dial tcp\n",
            "\t[ERROR ImagePull]: failed to pull image k8s.gcr.io/pause:3.2: failed to pull image k8s.gcr.io/pause:3.2: failed to pull and unpack image\n",
        ] {
            assert_eq!(
                of(output).cause,
                "kubeadm refuses to begin: the image k8s.gcr.io/pause:3.2 is not on this node and cannot be pulled"
            );
        }
    }

    #[test]
    fn a_node_that_joined_before_is_a_member_and_not_a_taken_port() {
        let complaint = of(
            "\t[ERROR DirAvailable--etc-kubernetes-manifests]: /etc/kubernetes/manifests is not empty\n\
            \t[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: /etc/kubernetes/kubelet.conf already exists\n\t[ERROR Port-10250]: Port 10250 is in use\n",
        );
        assert!(
            complaint
                .cause
                .starts_with("kubeadm refuses to begin: this node is a member of a cluster already"),
            "{complaint}"
        );
        assert!(complaint.remedy.contains("`sudo kubeadm reset -f`"), "{complaint}");
    }

    #[test]
    fn a_port_that_another_program_holds_is_named() {
        assert_eq!(
            of("\t[ERROR Port-6443]: Port 6443 is in use\n").cause,
            "kubeadm refuses to begin: port 6443 is taken by another program"
        );
    }
}
