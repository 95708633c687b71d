//! The form of cluster.yaml, as it stands in the file; every value with its place, nothing believed yet.

use serde::Deserialize;
use serde_saphyr::Spanned;

/// A text and where it stands.
pub(super) type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawCluster {
    pub(super) api_version: Text,
    pub(super) kind: Text,
    pub(super) metadata: RawMetadata,
    pub(super) spec: RawSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawMetadata {
    pub(super) name: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSpec {
    pub(super) kubernetes_version: Text,
    pub(super) nodes: Spanned<Vec<RawNode>>,
    #[serde(default)]
    pub(super) control_plane: RawControlPlane,
    pub(super) networking: RawNetworking,
    #[serde(default)]
    pub(super) host: RawHost,
    #[serde(default)]
    pub(super) kubectl_users: Vec<Text>,
    #[serde(default)]
    pub(super) smoke_test: RawSmokeTest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawNode {
    pub(super) name: Text,
    pub(super) role: Text,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawControlPlane {
    #[serde(default)]
    pub(super) runs_pods: bool,
    #[serde(default)]
    pub(super) bind_port: Option<Spanned<u16>>,
    #[serde(default)]
    pub(super) image_repository: Option<Text>,
    #[serde(default)]
    pub(super) skip_phases: Vec<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawNetworking {
    pub(super) pod_subnet: Text,
    #[serde(default)]
    pub(super) service_subnet: Option<Text>,
    pub(super) manifest: Text,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawHost {
    #[serde(default)]
    pub(super) disable_firewall: bool,
    #[serde(default)]
    pub(super) cgroup_driver: Option<Text>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSmokeTest {
    #[serde(default)]
    pub(super) enabled: Option<bool>,
    #[serde(default)]
    pub(super) image: Option<Text>,
    #[serde(default)]
    pub(super) keep: Option<bool>,
}
