//! Programs that only answer a question: plain children with a time limit and an empty environment. Programs that
//! change something run as transient units instead.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use muster_proto::names::{ImageReference, KubernetesVersion};
use muster_proto::redaction::{printable, redact};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::errand::{self, Errand};
use super::remembered::Remembered;
use crate::host::HostError;
use crate::host::query::{Docker, Family, KubernetesProgram};

/// The search path of root on Debian, whatever the agent's own environment says.
pub(super) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A question is answered in a second; a machine that swaps or a Docker that starts takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// No answer is longer.
pub(super) const LARGEST: u64 = 4 * 1024 * 1024;

/// What a program answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
    pub(super) error: String,
}

impl Answer {
    /// The standard output of a program that ended with 0.
    pub(super) fn success(self, program: &str) -> Result<String, HostError> {
        if self.status.success() {
            return Ok(String::from_utf8_lossy(&self.output).into_owned());
        }
        let said = if self.error.trim().is_empty() {
            String::from_utf8_lossy(&self.output)
        } else {
            self.error.into()
        };
        Err(HostError::ProgramFailed {
            program: program.to_owned(),
            status: self.status.to_string(),
            message: redact(&printable(said.trim())),
        })
    }
}

/// Where a program is on the search path.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let candidates = SEARCH_PATH.split(':').map(|folder| Path::new(folder).join(name));
    let executable = |path: &PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    candidates.into_iter().find(executable)
}

fn not_found(program: &str) -> HostError {
    HostError::NotStarted { program: program.to_owned(), source: std::io::ErrorKind::NotFound.into() }
}

/// Runs a program that is found on the search path.
pub(super) async fn run(name: &str, arguments: &[&str], limit: Duration) -> Result<Answer, HostError> {
    let path = find(name).ok_or_else(|| not_found(name))?;
    let mut command = Command::new(path);
    command.arg0(name).args(arguments);
    finish(command, name, None, limit).await
}

/// Runs the command to its end: nothing of the agent's environment, killed at the limit, its output bounded.
pub(super) async fn finish(
    mut command: Command,
    name: &str,
    input: Option<&[u8]>,
    limit: Duration,
) -> Result<Answer, HostError> {
    let not_started = |source| HostError::NotStarted { program: name.to_owned(), source };
    command
        .env_clear()
        .envs([("PATH", SEARCH_PATH), ("LANG", "C"), ("HOME", "/root")])
        .current_dir("/")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(not_started)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut output, mut error) = (Vec::new(), Vec::new());
    let talk = async {
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that does not read to the end has its own reason, which its exit code tells.
                let _ = stdin.write_all(input).await;
            }
        };
        let listen = async {
            match stdout {
                Some(stdout) => stdout.take(LARGEST).read_to_end(&mut output).await.map(|_| ()),
                None => Ok(()),
            }
        };
        let listen_to_errors = async {
            match stderr {
                Some(stderr) => stderr.take(LARGEST).read_to_end(&mut error).await.map(|_| ()),
                None => Ok(()),
            }
        };
        let (_, output_read, error_read) = tokio::join!(feed, listen, listen_to_errors);
        output_read.and(error_read)?;
        child.wait().await
    };
    let status = tokio::time::timeout(limit, talk)
        .await
        .map_err(|_| HostError::TimedOut { what: name.to_owned(), limit })?
        .map_err(not_started)?;
    Ok(Answer { status, output, error: String::from_utf8_lossy(&error).into_owned() })
}

/// The version that a program says of itself; none when it is not installed.
pub(super) async fn kubernetes_version(
    remembered: &Remembered,
    program: KubernetesProgram,
) -> Result<Option<KubernetesVersion>, HostError> {
    let name = program.name();
    let arguments: &[&str] = match program {
        KubernetesProgram::Kubeadm => &["version", "-o", "short"],
        KubernetesProgram::Kubelet => &["--version"],
        KubernetesProgram::Kubectl => &["version", "--client", "-o", "json"],
    };
    let Some(said) = remembered.ask(name, arguments, LIMIT).await? else { return Ok(None) };
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

/// What Docker says of itself; none when it is not there or does not answer.
pub(super) async fn docker() -> Result<Option<Docker>, HostError> {
    if find("docker").is_none() {
        return Ok(None);
    }
    let answer = run("docker", &["info", "--format", "{{.ServerVersion}}|{{.CgroupDriver}}"], LIMIT).await?;
    if !answer.status.success() {
        return Ok(None);
    }
    Ok(parse_docker(&String::from_utf8_lossy(&answer.output)))
}

/// Without its daemon, docker may print the format with nothing in it.
fn parse_docker(said: &str) -> Option<Docker> {
    let (version, cgroup_driver) = said.trim().split_once('|')?;
    let answered = !version.is_empty() && !cgroup_driver.is_empty();
    answered.then(|| Docker { version: version.to_owned(), cgroup_driver: cgroup_driver.to_owned() })
}

/// The images that Docker holds.
pub(super) async fn images() -> Result<Vec<String>, HostError> {
    let arguments = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
    let said = run("docker", &arguments, LIMIT).await?.success("docker images")?;
    Ok(parse_images(&said))
}

fn parse_images(said: &str) -> Vec<String> {
    said.lines().filter(|line| !line.contains("<none>") && !line.is_empty()).map(str::to_owned).collect()
}

/// The images that kubeadm wants for a version. The version is given, so that kubeadm asks nobody on the internet.
pub(super) async fn kubeadm_images(
    remembered: &Remembered,
    version: KubernetesVersion,
    repository: Option<&str>,
) -> Result<Vec<ImageReference>, HostError> {
    let version = version.to_string();
    let mut arguments = vec!["config", "images", "list", "--kubernetes-version", &version];
    if let Some(repository) = repository {
        arguments.extend(["--image-repository", repository]);
    }
    let said = remembered.ask("kubeadm", &arguments, LIMIT).await?.ok_or_else(|| not_found("kubeadm"))?;
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

    #[test]
    fn docker_without_its_daemon_is_no_docker() {
        let docker = parse_docker("20.10.24+dfsg1|cgroupfs\n").unwrap();
        assert_eq!((docker.version.as_str(), docker.cgroup_driver.as_str()), ("20.10.24+dfsg1", "cgroupfs"));
        assert_eq!((parse_docker("|\n"), parse_docker("")), (None, None));
    }

    #[test]
    fn images_without_a_name_are_left_out() {
        let said = "k8s.gcr.io/kube-proxy:v1.20.2\n<none>:<none>\nnginx:1.22\nk8s.gcr.io/pause:<none>\n";
        assert_eq!(parse_images(said), ["k8s.gcr.io/kube-proxy:v1.20.2", "nginx:1.22"]);
    }

    #[tokio::test]
    async fn a_program_sees_no_environment_of_the_agent() {
        let said = run("env", &[], LIMIT).await.unwrap().success("env").unwrap();
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["HOME=/root", "LANG=C", &format!("PATH={SEARCH_PATH}")]);
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_and_named() {
        let error = run("sleep", &["60"], Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(&error, HostError::TimedOut { what, .. } if what == "sleep"), "{error}");
    }

    #[tokio::test]
    async fn a_failure_tells_status_and_words_and_a_missing_program_its_name() {
        let error = run("ls", &["/nonexistent"], LIMIT).await.unwrap().success("ls").unwrap_err().to_string();
        assert!(error.starts_with("ls ended with exit status: 2: ls: "), "{error}");
        let error = run("muster-no-such-program", &[], LIMIT).await.unwrap_err().to_string();
        assert!(error.starts_with("muster-no-such-program could not be started"), "{error}");
    }
}
