//! Afterwards: the runtime holds every image that this node will need, so that neither kubeadm nor the kubelet waits
//! for a registry. Nothing is pulled: what is missing is told, all at once. Images survive a restart of the
//! runtime.

use std::time::Duration;

use muster_proto::agent;
use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::names::{ImageReference, KubernetesVersion};

use crate::host::HostError;
use crate::host::query::{Cri, Observe};
use crate::steps::{BadStep, Finding, Input};

/// The runtime may just be starting.
pub const SETTLE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Images {
    version: KubernetesVersion,
    repository: Option<ImageReference>,
    extra: Vec<ImageReference>,
    skip_phases: Vec<String>,
    control_plane: bool,
    runtime: RuntimeName,
}

impl Images {
    pub fn parse(message: &agent::Images) -> Result<Self, BadStep> {
        let image = |field| move |text: &String| text.parse().map_err(BadStep::field(field));
        let repository = Some(&message.image_repository).filter(|text| !text.is_empty());
        let malformed = |text: &&String| {
            let plain = text.chars().all(|c| c.is_ascii_lowercase() || "-/".contains(c));
            !plain || text.len() > 64 || !text.starts_with(|first: char| first.is_ascii_lowercase())
        };
        if let Some(wrong) = message.skip_phases.iter().find(malformed) {
            let shown: String = wrong.chars().take(80).collect();
            let problem = format!("{shown:?} is not a phase of kubeadm such as addon/coredns");
            return Err(BadStep::Value { field: "images.skip_phases", problem });
        }
        Ok(Self {
            version: message
                .kubernetes_version
                .parse()
                .map_err(BadStep::field("images.kubernetes_version"))?,
            repository: repository.map(image("images.image_repository")).transpose()?,
            extra: message.extra.iter().map(image("images.extra")).collect::<Result<_, _>>()?,
            skip_phases: message.skip_phases.clone(),
            control_plane: message.control_plane,
            runtime: message.runtime.parse().map_err(BadStep::field("images.runtime"))?,
        })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let name = self.runtime;
        if !host.runtime(name).await?.is_some_and(|facts| facts.cri == Cri::On) {
            return Ok(Finding::Wait(format!("for {name} to answer, which knows the images")));
        }
        let repository = self.repository.as_ref().map(ImageReference::as_str);
        let wanted = host.kubeadm_images(self.version, repository).await?;
        let present: Vec<String> = host.images(name).await?.iter().map(|image| plain(image)).collect();
        let mut missing: Vec<&str> = wanted
            .iter()
            .filter(|image| self.needs(image.as_str()))
            .chain(&self.extra)
            .map(ImageReference::as_str)
            .filter(|image| !present.contains(&plain(image)))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let cause = match &missing[..] {
            [one] => format!("the image {one} is not on this node"),
            [first, rest @ ..] => format!("the image {first} and {} more are not on this node", rest.len()),
            [] => return Ok(Finding::DONE),
        };
        Ok(Finding::blocked(
            cause,
            missing.join("\n"),
            format!(
                "{} (or load them: {}; or name a registry that holds them as imageRepository)",
                name.row().pull(&missing),
                name.row().load("FILE")
            ),
        ))
    }

    /// Whether this node needs an image of kubeadm's list. On a control plane all of them: kubeadm's own check of the images
    /// asks for the whole list, whatever phases are left out (kubeadm 1.20.2, preflight ImagePull).
    fn needs(&self, image: &str) -> bool {
        let skipped = |phases: &[&str]| self.skip_phases.iter().any(|phase| phases.contains(&phase.as_str()));
        match name_of(image) {
            "pause" => true,
            "kube-proxy" => self.control_plane || !skipped(&["addon", "addon/kube-proxy"]),
            _ => self.control_plane,
        }
    }
}

/// `pause` of `registry.k8s.io/pause:3.10`.
pub(super) fn name_of(image: &str) -> &str {
    let path = image.split_once('@').map_or(image, |(path, _)| path);
    let last = path.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

/// The shortest spelling of an image: Docker Hub's names have several, and no tag means latest.
fn plain(image: &str) -> String {
    let name = image.strip_prefix("docker.io/").unwrap_or(image);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let tagged = name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};

    const KUBEADM: [&str; 7] = [
        "k8s.gcr.io/kube-apiserver:v1.20.2",
        "k8s.gcr.io/kube-controller-manager:v1.20.2",
        "k8s.gcr.io/kube-scheduler:v1.20.2",
        "k8s.gcr.io/kube-proxy:v1.20.2",
        "k8s.gcr.io/pause:3.2",
        "k8s.gcr.io/etcd:3.4.13-0",
        "registry.k8s.io:5000/coredns/coredns:v1.8.0",
    ];

    fn message(runtime: &str) -> agent::Images {
        agent::Images {
            kubernetes_version: "v1.20.2".to_owned(),
            runtime: runtime.to_owned(),
            ..Default::default()
        }
    }

    fn needed(control_plane: bool, skip: &[&str]) -> Vec<&'static str> {
        let skip_phases = skip.iter().map(|phase| (*phase).to_owned()).collect();
        let message = agent::Images { control_plane, skip_phases, ..message("docker") };
        let images = Images::parse(&message).unwrap();
        KUBEADM.into_iter().filter(|image| images.needs(image)).collect()
    }

    #[test]
    fn a_control_plane_needs_all_also_of_skipped_phases_and_a_worker_the_proxy_and_pause() {
        assert_eq!(needed(true, &[]), KUBEADM);
        assert_eq!(needed(true, &["addon", "etcd"]), KUBEADM, "kubeadm's check of the images wants them");
        assert_eq!(needed(false, &[]), KUBEADM[3..5]);
        assert_eq!(needed(false, &["addon/kube-proxy"]), KUBEADM[4..5]);
    }

    #[test]
    fn the_spellings_of_docker_hub_are_the_same_image() {
        for (long, short) in [
            ("docker.io/library/nginx:1.22", "nginx:1.22"),
            ("docker.io/flannel/flannel:v1", "flannel/flannel:v1"),
            ("nginx", "nginx:latest"),
            ("host:5000/nginx", "host:5000/nginx:latest"),
            ("nginx@sha256:aa", "nginx@sha256:aa"),
        ] {
            assert_eq!(plain(long), short);
        }
    }

    #[tokio::test]
    async fn all_missing_images_are_told_at_once_with_the_command_that_gets_them() {
        for (name, pull) in [
            ("docker", "docker pull"),
            ("containerd", "crictl -r unix:///run/containerd/containerd.sock pull"),
        ] {
            let host = FakeHost::debian("w1", FakeCluster::default());
            host.with(|state| {
                state.run_containerd();
                state.images.retain(|image| !image.contains("pause") && !image.contains("etcd"));
            });
            let extra = vec!["nginx:1.22".into(), "flannel:1".into()];
            let images = Images::parse(&agent::Images { extra, ..message(name) }).unwrap();
            let Ok(Finding::Blocked(complaint)) = images.check(&host, &Input::default()).await else {
                panic!()
            };
            assert_eq!(complaint.evidence, "flannel:1\nk8s.gcr.io/pause:3.2");
            assert!(
                complaint.remedy.starts_with(&format!("{pull} flannel:1 && {pull} k8s.gcr.io/pause:3.2 (")),
                "{complaint}"
            );
        }
    }
}
