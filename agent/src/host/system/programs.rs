//! The questions that programs answer, and reading their answers. Programs that change something run as transient units
//! instead.

use std::time::Duration;

use muster_proto::names::{ImageReference, KubernetesVersion};
use muster_proto::redaction::printable;

use super::answers::Answers;
use super::child::{find, not_found, run};
use super::errand::{self, Errand};
use crate::host::HostError;
use crate::host::query::{Family, KubernetesProgram};

/// A question is answered in a second; a machine that swaps takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// The version that a program says of itself; none when it is not installed.
pub(super) async fn kubernetes_version(
    answers: &Answers,
    program: KubernetesProgram,
) -> Result<Option<KubernetesVersion>, HostError> {
    let name = program.name();
    let arguments: &[&str] = match program {
        KubernetesProgram::Kubeadm => &["version", "-o", "short"],
        KubernetesProgram::Kubelet => &["--version"],
        KubernetesProgram::Kubectl => &["version", "--client", "-o", "json"],
    };
    let Some(said) = answers.ask(name, arguments, LIMIT).await? else { return Ok(None) };
    parse_version(program, &said).map(Some).ok_or_else(|| HostError::Unexpected {
        what: format!("{name} {}", arguments.join(" ")),
        message: printable(said.trim()),
    })
}

/// A build's suffix such as `-rc.1` or `+distribution.2` is no part of the version.
fn parse_version(program: KubernetesProgram, said: &str) -> Option<KubernetesVersion> {
    let version = match program {
        KubernetesProgram::Kubeadm => said.trim().to_owned(),
        KubernetesProgram::Kubelet => said.trim().strip_prefix("Kubernetes ")?.to_owned(),
        KubernetesProgram::Kubectl => {
            let said: serde_json::Value = serde_json::from_str(said).ok()?;
            said["clientVersion"]["gitVersion"].as_str()?.to_owned()
        }
    };
    version.split(['-', '+']).next()?.parse().ok()
}

/// The packet filter's rules; none when the program that prints them is not installed.
pub(super) async fn packet_filter(family: Family) -> Result<Option<String>, HostError> {
    let name = match family {
        Family::Ipv4 => "iptables-save",
        Family::Ipv6 => "ip6tables-save",
    };
    let Some(path) = find(name) else { return Ok(None) };
    // Reading the rules takes a right that the agent does not have.
    let answer = match errand::possible() {
        true => Errand { path, arguments: Vec::new(), user: None, limit: LIMIT }.run(name, None).await?,
        false => run(name, &[], LIMIT).await?,
    };
    answer.success(name).map(Some)
}

/// The images that kubeadm wants for a version. The version is given, so that kubeadm asks nobody on the internet.
pub(super) async fn kubeadm_images(
    answers: &Answers,
    version: KubernetesVersion,
    repository: Option<&str>,
) -> Result<Vec<ImageReference>, HostError> {
    let version = version.to_string();
    let mut arguments = vec!["config", "images", "list", "--kubernetes-version", &version];
    if let Some(repository) = repository {
        arguments.extend(["--image-repository", repository]);
    }
    let said = answers.ask("kubeadm", &arguments, LIMIT).await?.ok_or_else(|| not_found("kubeadm"))?;
    let images =
        said.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::parse::<ImageReference>);
    images.collect::<Result<_, _>>().map_err(|error| HostError::Unexpected {
        what: "kubeadm config images list".to_owned(),
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_each_program_prints() {
        let expected = "v1.20.2".parse().ok();
        assert_eq!(parse_version(KubernetesProgram::Kubeadm, "v1.20.2\n"), expected);
        assert_eq!(parse_version(KubernetesProgram::Kubelet, "Kubernetes v1.20.2\n"), expected);
        let json = r#"{
  "clientVersion": {
    "major": "1",
    "minor": "20",
    "gitVersion": "v1.20.2",
    "gitCommit": "faecb196815e248d3ecfb03c680a4507229c2a56"
  }
}"#;
        assert_eq!(parse_version(KubernetesProgram::Kubectl, json), expected);
        let newer =
            r#"{"clientVersion": {"gitVersion": "v1.36.2+distribution.1"}, "kustomizeVersion": "v5.8.1"}"#;
        assert_eq!(parse_version(KubernetesProgram::Kubectl, newer), "v1.36.2".parse().ok());
        assert_eq!(parse_version(KubernetesProgram::Kubelet, "v1.20.2"), None);
    }
}
