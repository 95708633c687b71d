//! containerd, asked through its own API and through the Container Runtime Interface, both on its socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_proto::containerd::introspection::introspection_client::IntrospectionClient;
use muster_proto::containerd::introspection::{Plugin, PluginsRequest};
use muster_proto::containerd::version::version_client::VersionClient;
use muster_proto::cri::image_service_client::ImageServiceClient;
use muster_proto::cri::runtime_service_client::RuntimeServiceClient;
use muster_proto::cri::{
    Container, ContainerFilter, ContainerState, ContainerStateValue, ContainerStatusRequest,
    ListContainersRequest, ListImagesRequest, StatusRequest,
};
use muster_proto::kubernetes::runtime::{CgroupDriver, RuntimeName};
use muster_proto::redaction::{printable, redact};
use serde_json::Value;
use tonic::transport::Channel;

use super::socket::{LARGEST, connect};
use super::{LAST_LINES, MOST_CONTAINERS};
use crate::host::HostError;
use crate::host::query::{self, Cri, ExitedContainer, PodContainer, RuntimeFacts};
use crate::host::system::child::{find, run};
use crate::host::system::{SystemHost, files, units};

const PROGRAM: &str = "containerd";
const LIMIT: Duration = Duration::from_secs(30);

/// The label by which the kubelet marks containers: the name in the pod.
const NAME_LABEL: &str = "io.kubernetes.container.name";

/// A container's log as the kubelet has it written; the end of it is enough.
const LOG_FOLDER: &str = "/var/log/pods/";

fn refused(what: &str, status: &tonic::Status) -> HostError {
    HostError::Unexpected {
        what: format!("containerd, asked {what},"),
        message: redact(&printable(status.message())),
    }
}

async fn channel(host: &SystemHost) -> Option<Channel> {
    connect(&host.path(RuntimeName::Containerd.row().socket)).await
}

/// What containerd says of itself; none when nobody answers on its socket.
pub(super) async fn facts(host: &SystemHost) -> Result<Option<RuntimeFacts>, HostError> {
    let Some(channel) = channel(host).await else { return Ok(None) };
    let Ok(version) = VersionClient::new(channel.clone()).version(()).await else { return Ok(None) };
    let plugins = IntrospectionClient::new(channel.clone()).plugins(PluginsRequest::default()).await;
    let plugins = plugins.map_err(|status| refused("for its plugins", &status))?.into_inner().plugins;
    let cri = cri(&plugins);
    let mut config = Value::Null;
    if cri == Cri::On {
        let asked = RuntimeServiceClient::new(channel).status(StatusRequest { verbose: true }).await;
        let info = asked.map_err(|status| refused("for its status", &status))?.into_inner().info;
        config = info.get("config").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    }
    let row = RuntimeName::Containerd.row();
    let root = root_of(&plugins).or_else(|| config["containerdRootDir"].as_str().map(PathBuf::from));
    Ok(Some(RuntimeFacts {
        version: version.into_inner().version.trim_start_matches('v').to_owned(),
        cgroup_driver: driver_in_effect(&config),
        sandbox_image: config["sandboxImage"].as_str().filter(|name| !name.is_empty()).map(str::to_owned),
        cri,
        root: root.unwrap_or_else(|| row.root.into()),
        settings_in_effect: in_effect(host, row.unit, row.settings).await?,
    }))
}

/// The plugins that serve the interface: one up to containerd 1.7, three from 2.0 on.
fn cri(plugins: &[Plugin]) -> Cri {
    let of_cri = |plugin: &&Plugin| match plugin.r#type.as_str() {
        "io.containerd.grpc.v1" => plugin.id == "cri",
        "io.containerd.cri.v1" => true,
        _ => false,
    };
    let failed = plugins.iter().filter(of_cri).filter_map(|plugin| plugin.init_err.as_ref()).next();
    match failed {
        Some(error) => Cri::Failed(redact(&printable(&error.message))),
        None if plugins.iter().filter(of_cri).any(|plugin| plugin.id == "cri") => Cri::On,
        None => Cri::Off,
    }
}

/// Every plugin with data of its own has a folder below the root, named after it.
fn root_of(plugins: &[Plugin]) -> Option<PathBuf> {
    let folders = plugins.iter().filter_map(|plugin| plugin.exports.get("root"));
    let mut own = folders.filter(|folder| folder.contains("/io.containerd."));
    own.next().and_then(|folder| Path::new(folder).parent()).map(Path::to_owned)
}

/// Of the default runtime's options, as the plugin took them up.
fn driver_in_effect(config: &Value) -> Option<CgroupDriver> {
    let containerd = config.get("containerd")?;
    let default = containerd["defaultRuntimeName"].as_str().unwrap_or("runc");
    let options = &containerd["runtimes"].get(default)?["options"];
    // An absent option is false.
    Some(match options["SystemdCgroup"].as_bool() {
        Some(true) => CgroupDriver::Systemd,
        _ => CgroupDriver::Cgroupfs,
    })
}

/// Whether the file of settings is older than the service's start.
async fn in_effect(host: &SystemHost, unit: &str, settings: &str) -> Result<bool, HostError> {
    let written = files::written(host.path(settings)).await?;
    // Without systemd nobody knows, and no step starts it anew either.
    let started = units::active_since(unit).await.ok().flatten();
    Ok(match (written, started) {
        (Some(written), Some(started)) => written <= started,
        _ => true,
    })
}

/// Its settings, those of imported files and its own defaults in one, as this containerd understands them; or what it
/// complains of.
pub(super) async fn merged_settings(with_file: bool) -> Result<Result<String, String>, HostError> {
    if find(PROGRAM).is_none() {
        return Ok(Ok(String::new()));
    }
    let answer = run(PROGRAM, &["config", "dump"], LIMIT).await?;
    if answer.status.success() {
        return Ok(Ok(String::from_utf8_lossy(&answer.output).into_owned()));
    }
    if !with_file {
        // Up to 1.7 it does not dump what it would do without a file.
        let defaults = run(PROGRAM, &["config", "default"], LIMIT).await?;
        return defaults.success("containerd config default").map(Ok);
    }
    Ok(Err(redact(&printable(answer.error.trim()))))
}

/// The names of all images, by tag.
pub(super) async fn images(host: &SystemHost) -> Result<Vec<String>, HostError> {
    let Some(channel) = channel(host).await else {
        return Err(HostError::Unexpected {
            what: "containerd, asked for its images,".to_owned(),
            message: "nobody answers on its socket".to_owned(),
        });
    };
    let mut client = ImageServiceClient::new(channel).max_decoding_message_size(LARGEST);
    let asked = client.list_images(ListImagesRequest {}).await;
    let images = asked.map_err(|status| refused("for its images", &status))?.into_inner().images;
    Ok(images.into_iter().flat_map(|image| image.repo_tags).collect())
}

/// The containers of the interface in this state, the newest first; nothing where it does not answer.
async fn list(channel: &Channel, state: ContainerState) -> Vec<Container> {
    let filter = ContainerFilter { state: Some(ContainerStateValue { state: state.into() }) };
    let mut client = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST);
    let Ok(answer) = client.list_containers(ListContainersRequest { filter: Some(filter) }).await else {
        return Vec::new();
    };
    let mut containers = answer.into_inner().containers;
    containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
    containers
}

fn name(container: &Container) -> String {
    let of_metadata = || container.metadata.as_ref().map(|metadata| metadata.name.clone());
    container.labels.get(NAME_LABEL).cloned().or_else(of_metadata).unwrap_or_default()
}

/// All containers of the interface; what is not known to have ended or not to have begun may run.
pub(super) async fn pod_containers(host: &SystemHost) -> Result<Vec<PodContainer>, HostError> {
    let Some(channel) = channel(host).await else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for state in [
        ContainerState::ContainerRunning,
        ContainerState::ContainerUnknown,
        ContainerState::ContainerExited,
        ContainerState::ContainerCreated,
    ] {
        let lives = matches!(state, ContainerState::ContainerRunning | ContainerState::ContainerUnknown);
        let shown = if lives { query::ContainerState::Running } else { query::ContainerState::Ended };
        for container in list(&channel, state).await {
            let name = printable(&name(&container));
            all.push(PodContainer { id: container.id, name, state: shown });
        }
    }
    Ok(all)
}

/// Containers that ended, each with the end of its log.
pub(super) async fn exited_containers(host: &SystemHost) -> Result<Vec<ExitedContainer>, HostError> {
    let Some(channel) = channel(host).await else { return Ok(Vec::new()) };
    let mut ended = Vec::new();
    for container in list(&channel, ContainerState::ContainerExited).await.iter().take(MOST_CONTAINERS) {
        let request = ContainerStatusRequest { container_id: container.id.clone() };
        let answer = RuntimeServiceClient::new(channel.clone()).container_status(request).await;
        // It may be gone meanwhile.
        let Some(status) = answer.ok().and_then(|answer| answer.into_inner().status) else { continue };
        let mut last_lines = last_lines(host, &status.log_path).await;
        if last_lines.is_empty() && !status.message.is_empty() {
            last_lines.push(redact(&printable(&status.message)));
        }
        ended.push(ExitedContainer { name: name(container), exit_code: status.exit_code.into(), last_lines });
    }
    Ok(ended)
}

/// `2026-11-30T10:00:00.0Z stderr F message`, a line each.
async fn last_lines(host: &SystemHost, path: &str) -> Vec<String> {
    if !path.starts_with(LOG_FOLDER) || path.contains("/../") {
        return Vec::new();
    }
    let text = files::read_lossy(host.path(path)).await.unwrap_or_default();
    let message = |line: &str| line.splitn(4, ' ').nth(3).map(str::to_owned);
    let lines: Vec<String> = text.lines().filter_map(message).collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    redact(&printable(&last.join("\n"))).lines().map(str::to_owned).collect()
}
