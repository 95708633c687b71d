//! Docker, asked through its own program, which knows the daemon's version and socket.

use std::time::Duration;

use muster_proto::kubernetes::runtime::CgroupDriver;
use muster_proto::redaction::{printable, redact};

use super::{LAST_LINES, MOST_CONTAINERS};
use crate::host::HostError;
use crate::host::query::{ContainerState, Cri, ExitedContainer, PodContainer, RuntimeFacts};
use crate::host::system::child::{find, run};

/// A question is answered in a second; a machine that swaps or a Docker that starts takes longer.
const LIMIT: Duration = Duration::from_secs(30);
const CONTAINER_LIMIT: Duration = Duration::from_secs(10);

const PROGRAM: &str = "docker";

/// What Docker says of itself; none when it is not there or does not answer.
pub(super) async fn facts() -> Result<Option<RuntimeFacts>, HostError> {
    if find(PROGRAM).is_none() {
        return Ok(None);
    }
    let format = "{{.ServerVersion}}|{{.CgroupDriver}}|{{.DockerRootDir}}";
    let answer = run(PROGRAM, &["info", "--format", format], LIMIT).await?;
    if !answer.status.success() {
        return Ok(None);
    }
    Ok(parse_facts(&String::from_utf8_lossy(&answer.output)))
}

/// Without its daemon, docker may print the format with nothing in it.
fn parse_facts(said: &str) -> Option<RuntimeFacts> {
    let mut fields = said.trim().splitn(3, '|');
    let (version, driver, root) = (fields.next()?, fields.next()?, fields.next().unwrap_or_default());
    let answered = !version.is_empty() && !driver.is_empty();
    answered.then(|| RuntimeFacts {
        version: version.to_owned(),
        // `none` where the daemon may make no cgroups.
        cgroup_driver: driver.parse::<CgroupDriver>().ok(),
        // The kubelet tells it (--pod-infra-container-image).
        sandbox_image: None,
        cri: Cri::On,
        root: if root.starts_with('/') { root.into() } else { "/var/lib/docker".into() },
        settings_in_effect: true,
    })
}

/// The images that Docker holds.
pub(super) async fn images() -> Result<Vec<String>, HostError> {
    let arguments = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
    let said = run(PROGRAM, &arguments, LIMIT).await?.success("docker images")?;
    Ok(parse_images(&said))
}

fn parse_images(said: &str) -> Vec<String> {
    said.lines().filter(|line| !line.contains("<none>") && !line.is_empty()).map(str::to_owned).collect()
}

/// Kubernetes' containers that ended, the newest first.
pub(super) async fn exited_containers() -> Result<Vec<ExitedContainer>, HostError> {
    let said = list("exited", "{{.ID}}|{{.Names}}|{{.Status}}").await?;
    let mut containers = Vec::new();
    for (id, name, exit_code) in parse_exited(&said) {
        let logs = run(PROGRAM, &["logs", "--tail", &LAST_LINES.to_string(), &id], CONTAINER_LIMIT).await?;
        let said = format!("{}{}", String::from_utf8_lossy(&logs.output), logs.error);
        let last_lines = redact(&printable(&said)).lines().map(str::to_owned).collect();
        containers.push(ExitedContainer { name, exit_code, last_lines });
    }
    Ok(containers)
}

/// Kubernetes' containers, whether they run or not.
pub(super) async fn pod_containers() -> Result<Vec<PodContainer>, HostError> {
    if find(PROGRAM).is_none() {
        return Ok(Vec::new());
    }
    let format = "{{.ID}}|{{.Names}}|{{.Status}}";
    let arguments = ["ps", "-a", "--no-trunc", "--filter", "name=k8s_", "--format", format];
    let answer = run(PROGRAM, &arguments, LIMIT).await?;
    Ok(if answer.status.success() { parse_all(&String::from_utf8_lossy(&answer.output)) } else { Vec::new() })
}

/// Docker's words for a container are `Up 3 minutes`, `Restarting`, `Removal In Progress`; and of one that has no process
/// `Exited (0) 2 minutes ago`, `Created`, `Dead` (moby, container/state.go).
fn parse_all(said: &str) -> Vec<PodContainer> {
    let parse = |line: &str| {
        let mut fields = line.splitn(3, '|');
        let (id, name, status) = (fields.next()?, fields.next()?, fields.next()?);
        let ended = ["Exited", "Created", "Dead"].iter().any(|word| status.starts_with(word));
        let state = if ended { ContainerState::Ended } else { ContainerState::Running };
        let is_one = !id.is_empty() && name.starts_with("k8s_");
        is_one.then(|| PodContainer { id: id.to_owned(), name: printable(name), state })
    };
    said.lines().filter_map(parse).collect()
}

/// Kubernetes' containers in this state, a line each; nothing where Docker does not answer.
async fn list(state: &str, format: &str) -> Result<String, HostError> {
    if find(PROGRAM).is_none() {
        return Ok(String::new());
    }
    let filter = format!("status={state}");
    let arguments =
        ["ps", "-a", "--no-trunc", "--filter", &filter, "--filter", "name=k8s_", "--format", format];
    let answer = run(PROGRAM, &arguments, CONTAINER_LIMIT).await?;
    Ok(if answer.status.success() {
        String::from_utf8_lossy(&answer.output).into_owned()
    } else {
        String::new()
    })
}

/// Id, name in the pod and exit code; sandboxes (`k8s_POD_`) say nothing and are left out.
fn parse_exited(said: &str) -> Vec<(String, String, i64)> {
    let parse = |line: &str| {
        let mut fields = line.splitn(3, '|');
        let (id, name, status) = (fields.next()?, fields.next()?, fields.next()?);
        let plain =
            !id.is_empty() && id.chars().all(|c| c.is_ascii_hexdigit()) && !name.starts_with("k8s_POD_");
        let exit_code = status.strip_prefix("Exited (")?.split(')').next()?.parse().ok()?;
        plain.then(|| (id.to_owned(), component(name).to_owned(), exit_code))
    };
    said.lines().filter_map(parse).take(MOST_CONTAINERS).collect()
}

/// `kube-apiserver` of dockershim's `k8s_kube-apiserver_kube-apiserver-m1_kube-system_UID_ATTEMPT`.
fn component(name: &str) -> &str {
    name.strip_prefix("k8s_").and_then(|rest| rest.split('_').next()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_without_its_daemon_is_no_docker() {
        let docker = parse_facts("20.10.24+dfsg1|cgroupfs|/srv/docker\n").unwrap();
        assert_eq!(docker.version, "20.10.24+dfsg1");
        assert_eq!(docker.cgroup_driver, Some(CgroupDriver::Cgroupfs));
        assert_eq!(docker.root.to_str(), Some("/srv/docker"));
        assert_eq!((parse_facts("||\n"), parse_facts("")), (None, None));
    }

    #[test]
    fn images_without_a_name_are_left_out() {
        let said = "k8s.gcr.io/kube-proxy:v1.20.2\n<none>:<none>\nnginx:1.22\nk8s.gcr.io/pause:<none>\n";
        assert_eq!(parse_images(said), ["k8s.gcr.io/kube-proxy:v1.20.2", "nginx:1.22"]);
    }

    #[test]
    fn containers_of_pods_are_read_with_whether_they_run() {
        let said = "0a|k8s_etcd_etcd-m1_kube-system_1_0|Up 3 minutes\n0b|k8s_POD_x_y_1_0|Exited (0) 1 hour ago\n\
                    0c|k8s_a_b_c_1_0|Removal In Progress\n0d|my-k8s_x|Up 2 days\n0e|k8s_a_b_c_1_1|Created\n\n";
        let read = parse_all(said);
        let states: Vec<(&str, ContainerState)> =
            read.iter().map(|one| (one.id.as_str(), one.state)).collect();
        use ContainerState::{Ended, Running};
        assert_eq!(states, [("0a", Running), ("0b", Ended), ("0c", Running), ("0e", Ended)]);
        assert_eq!(read[0].name, "k8s_etcd_etcd-m1_kube-system_1_0");
    }

    #[test]
    fn ended_containers_are_read_without_their_sandboxes() {
        let said = "0a1b|k8s_kube-apiserver_kube-apiserver-m1_kube-system_1_4|Exited (1) 3 seconds ago\n\
                    0c|k8s_POD_etcd-m1_kube-system_1_0|Exited (0) 2 minutes ago\nno container\n";
        assert_eq!(parse_exited(said), [("0a1b".to_owned(), "kube-apiserver".to_owned(), 1)]);
    }
}
