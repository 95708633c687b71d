//! Afterwards: `kubectl` of the named user speaks to this cluster: ~/.kube/config is admin.conf, or holds its entries
//! beside those of other clusters, whose current context stays. With completion, ~/.bashrc loads kubectl's; where that file
//! cannot be written (a link into a folder of dotfiles), it is left as it is and told. Both files are written as that user and
//! survive everything but a new cluster, whose entries replace the old ones.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::kubernetes::files::ADMIN_CONF;
use muster_proto::names::UserName;

use crate::cluster::kubeconfig_form::parse;
use crate::cluster::kubeconfig_merge::{merged, other_context};
use crate::host::change::{Change, FileMode};
use crate::host::query::Observe;
use crate::host::{HostError, foreseen};
use crate::steps::{BadStep, Finding, Input, Yield};

/// kubeadm may just be writing admin.conf.
pub const SETTLE: Duration = Duration::from_secs(10);

const FILE: &str = ".kube/config";
const SHELL_FILE: &str = ".bashrc";
const COMPLETION: &str = "source <(kubectl completion bash)";

#[derive(Debug, Clone)]
pub struct Kubeconfig {
    user: UserName,
    completion: bool,
}

impl Kubeconfig {
    pub fn parse(message: &agent::Kubeconfig) -> Result<Self, BadStep> {
        let user = message.user.parse().map_err(BadStep::field("kubeconfig.user"))?;
        Ok(Self { user, completion: message.completion })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let user = &self.user;
        if host.user(user).await?.is_none() {
            return Ok(Finding::blocked(
                format!("there is no user {user} on this host"),
                format!("passwd has no entry {user}"),
                format!(
                    "make the user (adduser {user}), or name another one in kubectlUsers of the cluster file"
                ),
            ));
        }
        // Before there is a cluster too: then the checks before a bootstrap tell it.
        if let Some(complaint) = foreseen::of_user_file(host, user, Path::new(FILE)).await? {
            return Ok(Finding::Blocked(complaint));
        }
        let existing = host.user_file(user, Path::new(FILE)).await?;
        let unreadable = |problem: String| {
            Finding::blocked(
                format!("the kubeconfig of {user} cannot be read, and is not overwritten"),
                format!("~{user}/{FILE}: {problem}"),
                format!("correct ~{user}/{FILE} or move it away, then run again"),
            )
        };
        if let Some(Err(problem)) = existing.as_deref().map(parse) {
            return Ok(unreadable(problem));
        }
        let Some(admin) = host.read_file(Path::new(ADMIN_CONF)).await? else {
            return Ok(Finding::Wait(format!("for kubeadm to write {ADMIN_CONF}")));
        };
        let (mut changes, mut left) = (Vec::new(), Vec::new());
        let write = |path: &str, content, mode, secret| {
            let (user, path) = (user.clone(), path.into());
            Change::WriteUserFile { user, path, content, mode, secret }
        };
        if let Some((current, own)) = existing.as_deref().and_then(|existing| other_context(existing, &admin))
        {
            left.push(format!(
                "kubectl of {user} speaks to another cluster ({current} is the current context of ~{user}/{FILE}); `kubectl config \
                 use-context {own}` as {user} makes it speak to this one"
            ));
        }
        let wanted = match existing {
            None => Some(admin),
            Some(existing) if existing == admin => None,
            Some(existing) => match merged(&existing, &admin) {
                Ok(wanted) => wanted,
                Err(problem) => return Ok(unreadable(problem)),
            },
        };
        changes.extend(wanted.map(|content| write(FILE, content, FileMode::exactly(0o600), true)));
        if self.completion
            && let Some(complaint) = foreseen::of_user_file(host, user, Path::new(SHELL_FILE)).await?
        {
            left.push(format!(
                "no completion for kubectl was set up: {}; add the line `{COMPLETION}` where the shell of {user} reads it",
                complaint.cause
            ));
        } else if self.completion {
            let before = host.user_file(user, Path::new(SHELL_FILE)).await?.unwrap_or_default();
            let mode = FileMode::IfNew(0o644);
            changes.extend(with_completion(&before).map(|content| write(SHELL_FILE, content, mode, false)));
        }
        Ok(match (changes.is_empty(), left.is_empty()) {
            (true, false) => Finding::Done(Yield::Left(left)),
            _ => Finding::from_changes(changes),
        })
    }
}

/// .bashrc with the line at its end; none when a line does it already.
fn with_completion(file: &str) -> Option<String> {
    let loads =
        |line: &str| line.split('#').next().is_some_and(|code| code.contains("kubectl completion bash"));
    if file.lines().any(loads) {
        return None;
    }
    let end = if file.is_empty() || file.ends_with('\n') { "" } else { "\n" };
    Some(format!("{file}{end}{COMPLETION}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost, File};
    use crate::host::obstacle::Obstacle;
    use crate::steps::rehearsal::{carry_out, cause_of, master, step, waits_for};
    use muster_proto::agent::step::Kind;

    #[test]
    fn completion_is_one_line_at_the_end_and_once() {
        let line = format!("{COMPLETION}\n");
        for (before, after) in [
            ("", Some(line.clone())),
            ("alias k=kubectl", Some(format!("alias k=kubectl\n{line}"))),
            ("# kubectl completion bash\n", Some(format!("# kubectl completion bash\n{line}"))),
            ("  . <(kubectl completion bash) # mine\nx\n", None),
            ("eval \"$(kubectl completion bash)\"\n", None),
        ] {
            assert_eq!(with_completion(before), after, "{before:?}");
            assert_eq!(after.as_deref().and_then(with_completion), None, "twice");
        }
    }

    fn of(user: &str) -> crate::steps::Step {
        step(Kind::Kubeconfig(agent::Kubeconfig { user: user.into(), completion: true }))
    }

    #[tokio::test]
    async fn the_user_gets_admin_conf_that_nobody_else_can_read() {
        let (host, mut input) = master().await;
        let finding = carry_out(&host, &of("student"), &mut input).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        let student: UserName = "student".parse().unwrap();
        let written = host.with(|state| state.user_files[&(student, FILE.into())].clone());
        assert_eq!((Some(written.content), written.mode), (host.file(ADMIN_CONF), 0o600));
    }

    #[tokio::test]
    async fn an_unknown_user_an_unreadable_file_and_a_cluster_to_come_are_told_apart() {
        let fresh = FakeHost::debian("m1", FakeCluster::default());
        waits_for(of("student").check(&fresh, &Input::default()).await.unwrap());
        let (host, input) = master().await;
        let cause = cause_of(of("nobody-here").check(&host, &input).await.unwrap());
        assert!(cause.contains("no user nobody-here"), "{cause}");
        host.with(|state| {
            let file = state.files[Path::new("/etc/hosts")].clone();
            state.user_files.insert(("student".parse().unwrap(), FILE.into()), file);
        });
        let cause = cause_of(of("student").check(&host, &input).await.unwrap());
        assert!(cause.contains("not overwritten"), "{cause}");
        // Also before there is a cluster, so that the checks before a bootstrap tell it.
        fresh.with(|state| {
            let users_file = File { content: "contexts:\n- name: a\n  context: b\n".into(), mode: 0o600 };
            state.user_files.insert(("student".parse().unwrap(), FILE.into()), users_file);
        });
        match of("student").check(&fresh, &Input::default()).await.unwrap() {
            Finding::Blocked(complaint) => assert_eq!(
                complaint.evidence,
                "~student/.kube/config: line 2: no kubeconfig: contexts[0].context must be a mapping, and is a text"
            ),
            other => panic!("{other:?}"),
        }
    }

    fn student() -> UserName {
        "student".parse().unwrap()
    }

    fn link(path: &str) -> Obstacle {
        Obstacle::NotPlain { path: path.into(), what: "a symbolic link".into() }
    }

    fn left(finding: Finding) -> String {
        match finding {
            Finding::Done(Yield::Left(left)) => left.join("\n"),
            other => panic!("nothing was left: {other:?}"),
        }
    }

    #[tokio::test]
    async fn completion_that_cannot_be_set_up_costs_nobody_the_kubeconfig() {
        let (host, mut input) = master().await;
        host.with(|state| {
            let place = (student(), SHELL_FILE.into());
            state.user_obstacles.insert(place, link("/home/student/.bashrc"));
        });
        let told = left(carry_out(&host, &of("student"), &mut input).await);
        assert!(told.contains("/home/student/.bashrc is a symbolic link"), "{told}");
        assert!(told.contains("source <(kubectl completion bash)"), "{told}");
        host.with(|state| {
            assert!(state.user_files.contains_key(&(student(), FILE.into())));
            assert!(!state.user_files.contains_key(&(student(), SHELL_FILE.into())));
        });
    }

    #[tokio::test]
    async fn a_kubeconfig_that_its_user_cannot_write_is_told_before_there_is_a_cluster() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        let not_ours =
            Obstacle::NotOurs { path: "/home/student/.kube".into(), owner: "root".into(), mode: 0o700 };
        for (obstacle, cause, remedy) in [
            (
                not_ours,
                "student cannot write /home/student/.kube: it belongs to root (0700)",
                "chown -R student: /home/student/.kube",
            ),
            (
                link("/home/student/.kube"),
                "/home/student/.kube is a symbolic link",
                "mv /home/student/.kube /home/student/.kube.old",
            ),
            (
                Obstacle::NoHome { path: "/home/ci".into() },
                "the home /home/ci of user student does not exist",
                "mkhomedir_helper student",
            ),
        ] {
            host.with(|state| state.user_obstacles.insert((student(), FILE.into()), obstacle));
            let Finding::Blocked(complaint) = of("student").check(&host, &Input::default()).await.unwrap()
            else {
                panic!("{cause}")
            };
            assert!(complaint.cause.starts_with(cause), "{complaint}");
            assert!(complaint.remedy.contains(remedy), "{complaint}");
        }
    }

    #[tokio::test]
    async fn who_has_another_current_context_keeps_it_and_is_told_how_to_change_it() {
        let (host, mut input) = master().await;
        let content = "clusters:\n- name: minikube\n  cluster: {server: \"https://192.168.49.2:8443\"}\ncontexts:\n- name: minikube\n  context: {cluster: minikube, user: minikube}\ncurrent-context: minikube\n";
        host.with(|state| {
            let file = File { content: content.into(), mode: 0o600 };
            state.user_files.insert((student(), FILE.into()), file);
        });
        let told = left(carry_out(&host, &of("student"), &mut input).await);
        assert!(told.contains("minikube is the current context"), "{told}");
        assert!(told.contains("`kubectl config use-context kubernetes-10.88.0.11`"), "{told}");
        let written = host.with(|state| state.user_files[&(student(), FILE.into())].content.clone());
        let chosen = written.replace("current-context: minikube", "current-context: kubernetes-10.88.0.11");
        host.with(|state| {
            let file = File { content: chosen, mode: 0o600 };
            state.user_files.insert((student(), FILE.into()), file);
        });
        assert!(matches!(of("student").check(&host, &input).await.unwrap(), Finding::Done(Yield::Nothing)));
    }
}
