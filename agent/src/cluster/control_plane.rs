//! The control plane that is wanted, and the configuration file from which `kubeadm init` makes it.

mod existing;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use muster_proto::agent;
use muster_proto::kubernetes::release::{CgroupV1, Release};
use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::names::{ImageReference, KubernetesVersion, Malformed, NodeName};
use serde_json::json;

use crate::bad_step::BadStep;
use crate::cluster::kubeadm::{Dialect, Registration, TICKET_DESCRIPTION, TICKET_LIFE, file_of};

/// What the spec says of the control plane, every field parsed.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    pub node: NodeName,
    /// Address and port at which the API server is known.
    pub endpoint: SocketAddr,
    pub skip_phases: Vec<String>,
    pub runtime: RuntimeName,
    version: KubernetesVersion,
    /// What is known of that version.
    release: &'static Release,
    pod_subnet: IpNet,
    service_subnet: IpNet,
    image_repository: Option<ImageReference>,
    cgroup_driver: Option<String>,
    /// The cluster's machines may have cgroups v1.
    cgroup_v1: bool,
}

impl ControlPlane {
    pub fn parse(message: &agent::KubeadmInit) -> Result<Self, BadStep> {
        let address: IpAddr =
            BadStep::parsed("advertise_address", &message.advertise_address, "an IP address")?;
        let port: u16 = BadStep::parsed("bind_port", &message.bind_port.to_string(), "a port")?;
        if port == 0 {
            return Err(BadStep::Value { field: "bind_port", problem: "0 is not a port".into() });
        }
        let driver = Some(message.cgroup_driver.clone()).filter(|text| !text.is_empty());
        if let Some(driver) = driver.as_deref().filter(|text| !["systemd", "cgroupfs"].contains(text)) {
            return Err(BadStep::field("cgroup_driver")(Malformed::new(driver, "systemd or cgroupfs")));
        }
        if let Some(phase) = message.skip_phases.iter().find(|text| !is_phase(text)) {
            return Err(BadStep::field("skip_phases")(Malformed::new(
                phase,
                "a phase such as addon/kube-proxy",
            )));
        }
        let runtime: RuntimeName = message.runtime.parse().map_err(BadStep::field("kubeadm_init.runtime"))?;
        let version: KubernetesVersion =
            message.kubernetes_version.parse().map_err(BadStep::field("kubernetes_version"))?;
        let release = Release::of(version).ok_or_else(|| BadStep::Value {
            field: "kubernetes_version",
            problem: format!("Muster does not know Kubernetes {version}"),
        })?;
        let repository = Some(&message.image_repository).filter(|text| !text.is_empty());
        Ok(Self {
            node: message.node.parse().map_err(BadStep::field("kubeadm_init.node"))?,
            endpoint: SocketAddr::new(address, port),
            skip_phases: message.skip_phases.clone(),
            runtime,
            version,
            release,
            pod_subnet: BadStep::parsed("pod_subnet", &message.pod_subnet, "a subnet such as 10.244.0.0/16")?,
            service_subnet: BadStep::parsed(
                "service_subnet",
                &message.service_subnet,
                "a subnet such as 10.96.0.0/12",
            )?,
            image_repository: repository
                .map(|text| text.parse().map_err(BadStep::field("image_repository")))
                .transpose()?,
            cgroup_driver: driver,
            cgroup_v1: message.cgroup_v1,
        })
    }

    /// The configuration file, for a machine with cgroups v1 or without. The token is kubeadm's to make; it gets a short life
    /// and a description by which Muster knows it again, since kubeadm gives its own description only when there is no file.
    pub fn render(&self, kubeadm: Dialect, on_cgroup_v1: bool) -> String {
        let registration = Registration {
            name: &self.node,
            address: self.endpoint.ip(),
            runtime: self.runtime,
            cgroup_v1: self.cgroup_v1 && on_cgroup_v1,
        };
        let mut init = json!({
            "bootstrapTokens": [{"description": TICKET_DESCRIPTION, "ttl": TICKET_LIFE}],
            "localAPIEndpoint": {"advertiseAddress": self.endpoint.ip(), "bindPort": self.endpoint.port()},
            "nodeRegistration": kubeadm.node_registration(&registration),
        });
        if kubeadm.release().config_api.has_timeouts() {
            init["timeouts"] = json!({"kubernetesAPICall": FIRST_CALL});
        }
        let mut cluster = json!({
            "kubernetesVersion": self.version,
            "networking": {"podSubnet": self.pod_subnet, "serviceSubnet": self.service_subnet},
        });
        if let Some(repository) = &self.image_repository {
            cluster["imageRepository"] = json!(repository);
        }
        let mut documents = vec![
            kubeadm.document("InitConfiguration", init),
            kubeadm.document("ClusterConfiguration", cluster),
        ];
        let mut kubelet = json!({});
        if let Some(driver) = &self.cgroup_driver {
            kubelet["cgroupDriver"] = json!(driver);
        }
        if self.cgroup_v1 && self.release.cgroup_v1 == CgroupV1::Refused {
            kubelet["failCgroupV1"] = json!(false);
        }
        if kubelet != json!({}) {
            kubelet["apiVersion"] = json!("kubelet.config.k8s.io/v1beta1");
            kubelet["kind"] = json!("KubeletConfiguration");
            documents.push(kubelet);
        }
        file_of(&documents)
    }
}

/// The first call to a new API server waits until it listens. kubeadm gives it one minute (1.31 to 1.36; with its misleading
/// end `could not bootstrap the admin user`), where the waits before it have four; a slow disk takes more than one.
const FIRST_CALL: &str = "4m0s";

/// A phase of kubeadm init, for instance `addon/kube-proxy`; never something that reads as a flag.
fn is_phase(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.len() <= 63
        && text
            .split('/')
            .all(|part| part.starts_with(|c: char| c.is_ascii_lowercase()) && part.chars().all(plain))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn message() -> agent::KubeadmInit {
        agent::KubeadmInit {
            node: "m1".into(),
            kubernetes_version: "v1.20.2".into(),
            advertise_address: "10.88.0.11".into(),
            bind_port: 6443,
            pod_subnet: "10.244.0.0/16".into(),
            service_subnet: "10.96.0.0/12".into(),
            image_repository: String::new(),
            skip_phases: Vec::new(),
            cgroup_driver: "cgroupfs".into(),
            redo_half_done: false,
            cgroup_v1: false,
            runtime: "docker".into(),
        }
    }

    fn kubeadm(version: &str) -> Dialect {
        Dialect::of(version.parse().unwrap()).unwrap()
    }

    fn of_1_36(cgroup_v1: bool, on_cgroup_v1: bool) -> Vec<serde_json::Value> {
        let message = agent::KubeadmInit {
            kubernetes_version: "v1.36.3".into(),
            cgroup_driver: "systemd".into(),
            runtime: "containerd".into(),
            cgroup_v1,
            ..message()
        };
        let file = ControlPlane::parse(&message).unwrap().render(kubeadm("v1.36.3"), on_cgroup_v1);
        serde_saphyr::from_multiple(&file).unwrap()
    }

    #[test]
    fn cgroups_v1_are_used_only_when_the_person_wants_them() {
        let parts = |cgroup_v1, on_cgroup_v1| {
            let documents = of_1_36(cgroup_v1, on_cgroup_v1);
            let ignored = documents[0]["nodeRegistration"].get("ignorePreflightErrors").is_some();
            (ignored, documents[2].get("failCgroupV1") == Some(&json!(false)))
        };
        assert_eq!(parts(false, true), (false, false));
        assert_eq!(parts(true, true), (true, true));
        // The kubelets' configuration is the whole cluster's: a worker may be the one with cgroups v1.
        assert_eq!(parts(true, false), (false, true));
    }

    #[test]
    fn a_slow_machine_has_as_long_for_its_first_call_as_for_the_waits_before_it() {
        let [init, cluster, kubelet] = &of_1_36(false, false)[..] else { panic!() };
        assert_eq!(init["timeouts"], json!({"kubernetesAPICall": "4m0s"}));
        assert_eq!(
            (&cluster["apiVersion"], &kubelet["cgroupDriver"]),
            (&json!("kubeadm.k8s.io/v1beta4"), &json!("systemd"))
        );
    }

    #[test]
    fn the_file_is_the_one_that_kubeadm_1_20_2_was_seen_to_read() {
        // Given to `kubeadm config migrate` of 1.20.2, which read every field.
        let expected = r#"{
  "apiVersion": "kubeadm.k8s.io/v1beta2",
  "bootstrapTokens": [
    {
      "description": "muster join ticket",
      "ttl": "30m0s"
    }
  ],
  "kind": "InitConfiguration",
  "localAPIEndpoint": {
    "advertiseAddress": "10.88.0.11",
    "bindPort": 6443
  },
  "nodeRegistration": {
    "criSocket": "/var/run/dockershim.sock",
    "kubeletExtraArgs": {
      "hostname-override": "m1",
      "node-ip": "10.88.0.11"
    },
    "name": "m1"
  }
}
---
{
  "apiVersion": "kubeadm.k8s.io/v1beta2",
  "kind": "ClusterConfiguration",
  "kubernetesVersion": "v1.20.2",
  "networking": {
    "podSubnet": "10.244.0.0/16",
    "serviceSubnet": "10.96.0.0/12"
  }
}
---
{
  "apiVersion": "kubelet.config.k8s.io/v1beta1",
  "cgroupDriver": "cgroupfs",
  "kind": "KubeletConfiguration"
}
"#;
        assert_eq!(ControlPlane::parse(&message()).unwrap().render(kubeadm("v1.20.2"), true), expected);
    }

    #[test]
    fn what_is_not_given_is_left_to_kubeadm() {
        let without_driver = agent::KubeadmInit { cgroup_driver: String::new(), ..message() };
        let file = ControlPlane::parse(&without_driver).unwrap().render(kubeadm("v1.20.2"), true);
        assert!(!file.contains("KubeletConfiguration") && !file.contains("imageRepository"), "{file}");
    }

    #[test]
    fn fields_that_are_not_what_they_must_be_are_refused() {
        let changed: [fn(&mut agent::KubeadmInit); 8] = [
            |message| message.node = "M1".into(),
            |message| message.kubernetes_version = "1.20".into(),
            |message| message.advertise_address = "m1".into(),
            |message| message.bind_port = 0,
            |message| message.bind_port = 66_000,
            |message| message.pod_subnet = "10.244.0.0".into(),
            |message| message.cgroup_driver = "docker".into(),
            |message| message.skip_phases = vec!["addon --v=9".into()],
        ];
        for (number, change) in changed.iter().enumerate() {
            let mut wrong = message();
            change(&mut wrong);
            assert!(ControlPlane::parse(&wrong).is_err(), "change {number}");
        }
    }
}
