//! The flags that this host's unit files give the kubelet besides kubeadm's own. They come last on its command line and win over
//! what kubeadm writes: a node would have another address or name than the cluster knows, and nothing else would say so.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use muster_proto::event::Complaint;
use muster_proto::kubernetes::files::KUBELET_FLAGS;
use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::names::NodeName;

use crate::cluster::kubelet::UNIT;
use crate::host::HostError;
use crate::host::query::Observe;

/// What the kubelet of a node has to be.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) node: &'a NodeName,
    pub(crate) address: IpAddr,
    pub(crate) runtime: RuntimeName,
}

/// A flag as the unit gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flag {
    name: String,
    /// `true` where none is given.
    value: String,
    /// The file in which it stands.
    path: PathBuf,
}

/// Every flag that contradicts what is wanted, in one complaint.
pub(crate) async fn complaint<H: Observe>(
    host: &H,
    wanted: &Wanted<'_>,
) -> Result<Option<Complaint>, HostError> {
    let mut files = Vec::new();
    for path in host.unit_files(UNIT).await? {
        files.extend(host.read_through(&path).await?.map(|text| (path, text)));
    }
    let mut environment = Vec::new();
    for path in environment_files(&files) {
        if path != Path::new(KUBELET_FLAGS) {
            environment.extend(host.read_through(&path).await?.map(|text| (path, text)));
        }
    }
    let driver = host.runtime(wanted.runtime).await?.and_then(|facts| facts.cgroup_driver);
    let contradiction = |flag: &Flag| {
        let right = match flag.name.as_str() {
            "node-ip" => {
                let first = flag.value.split(',').next().and_then(|first| first.parse::<IpAddr>().ok());
                (first != Some(wanted.address)).then(|| wanted.address.to_string())
            }
            "hostname-override" => (flag.value != wanted.node.as_str()).then(|| wanted.node.to_string()),
            "cgroup-driver" => driver
                .filter(|driver| driver.word() != flag.value)
                .map(|driver| format!("{driver}, as {}", wanted.runtime)),
            "fail-swap-on" => (flag.value == "false").then(|| "true: swap is turned off".to_owned()),
            "network-plugin" => (flag.value != "cni").then(|| "cni".to_owned()),
            "container-runtime" => {
                let own = if wanted.runtime == RuntimeName::Docker { "docker" } else { "remote" };
                (flag.value != own && flag.value != "remote").then(|| own.to_owned())
            }
            _ => None,
        }?;
        Some(format!(
            "{} gives the kubelet --{}={}; it has to be {right}",
            flag.path.display(),
            flag.name,
            flag.value
        ))
    };
    let flags = flags(&files, &environment);
    let wrong: Vec<(&Flag, String)> =
        flags.iter().filter_map(|flag| Some((flag, contradiction(flag)?))).collect();
    let Some((first, _)) = wrong.first() else { return Ok(None) };
    let mut paths: Vec<String> = wrong.iter().map(|(flag, _)| flag.path.display().to_string()).collect();
    paths.dedup();
    let names: Vec<String> = wrong.iter().map(|(flag, _)| format!("--{}", flag.name)).collect();
    Ok(Some(Complaint::new(
        format!(
            "{} of this machine sets --{}={} for the kubelet, which wins over what the cluster is made with",
            first.path.display(),
            first.name,
            first.value
        ),
        wrong.iter().map(|(_, sentence)| sentence.clone()).collect::<Vec<_>>().join("\n"),
        format!(
            "on this node: take {} out of {} (then `sudo systemctl daemon-reload`), and run the same command again",
            names.join(" and "),
            paths.join(" and ")
        ),
    )))
}

/// The files of variables that these unit files name, in their order.
pub(crate) fn environment_files(files: &[(PathBuf, String)]) -> Vec<PathBuf> {
    let lines = files.iter().flat_map(|(_, text)| text.lines());
    let named = lines.filter_map(|line| line.trim().strip_prefix("EnvironmentFile="));
    named
        .map(|path| PathBuf::from(path.trim().trim_start_matches('-')))
        .filter(|path| path.is_absolute())
        .collect()
}

/// The flags of the command that the unit runs, its variables put in; of those with one name the last one, which wins.
fn flags(files: &[(PathBuf, String)], environment: &[(PathBuf, String)]) -> Vec<Flag> {
    let (mut command, mut variables) = (None, Vec::new());
    for (path, text) in files {
        // A line that ends with a backslash goes on in the next one.
        let text = text.replace("\\\n", " ");
        for line in text.lines().map(str::trim) {
            if let Some(words) = line.strip_prefix("ExecStart=") {
                command = (!words.trim().is_empty()).then(|| (path.clone(), words.to_owned()));
            } else if let Some(words) = line.strip_prefix("Environment=") {
                variables.extend(quoted(words).into_iter().map(|word| (path.clone(), word)));
            }
        }
    }
    // A variable of a file wins over one of the unit.
    let of_files =
        environment.iter().flat_map(|(path, text)| text.lines().map(move |line| (path, line.trim())));
    let of_files = of_files.filter(|(_, line)| !line.starts_with(['#', ';']));
    variables.extend(of_files.map(|(path, line)| (path.clone(), line.to_owned())));
    let Some((path, command)) = command else { return Vec::new() };
    let mut words: Vec<(PathBuf, String)> = Vec::new();
    for word in quoted(&command) {
        match word.strip_prefix('$').map(|name| name.trim_matches(['{', '}'])) {
            None => words.push((path.clone(), word)),
            Some(name) => {
                let of_name = |(_, line): &&(PathBuf, String)| {
                    line.split_once('=').is_some_and(|(own, _)| own.trim() == name)
                };
                if let Some((path, line)) = variables.iter().rev().find(of_name) {
                    let value =
                        line.split_once('=').map_or("", |(_, value)| value).trim().trim_matches(['"', '\'']);
                    words.extend(quoted(value).into_iter().map(|word| (path.clone(), word)));
                }
            }
        }
    }
    let mut found: Vec<Flag> = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some((path, word)) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => {
                let next = words.next_if(|(_, next)| !next.starts_with('-')).map(|(_, next)| next);
                (flag.to_owned(), next.unwrap_or_else(|| "true".to_owned()))
            }
        };
        found.retain(|earlier| earlier.name != name);
        found.push(Flag { name, value, path });
    }
    found
}

/// Words between blanks; quotes hold blanks together and are no part of the word.
pub(crate) fn quoted(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};

    const FILE: &str = "/etc/default/kubelet";
    const DROP_IN: &str = "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf";
    const KUBEADMS: &str = "[Service]\nEnvironment=\"KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf\"\nEnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\nEnvironmentFile=-/etc/default/kubelet\nExecStart=\nExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n";

    fn host() -> FakeHost {
        let host = FakeHost::debian("w1", FakeCluster::default());
        host.put_file("/usr/lib/systemd/system/kubelet.service", "[Service]\nExecStart=/usr/bin/kubelet\n");
        host.put_file(DROP_IN, KUBEADMS);
        host.put_file(
            KUBELET_FLAGS,
            "KUBELET_KUBEADM_ARGS=\"--node-ip=10.9.9.9 --hostname-override=of-kubeadms\"\n",
        );
        host
    }

    async fn told(host: &FakeHost) -> Option<Complaint> {
        let node = "w1".parse().unwrap();
        let wanted =
            Wanted { node: &node, address: "10.88.0.12".parse().unwrap(), runtime: RuntimeName::Docker };
        complaint(host, &wanted).await.unwrap()
    }

    #[tokio::test]
    async fn a_flag_that_wins_over_the_clusters_is_told_with_its_file_wherever_it_stands() {
        for (path, content, flag) in [
            (FILE, "KUBELET_EXTRA_ARGS=\"--node-ip=10.0.2.15\"\n", "--node-ip=10.0.2.15"),
            (FILE, "KUBELET_EXTRA_ARGS=--hostname-override old-name -v=2\n", "--hostname-override=old-name"),
            (
                FILE,
                "# mine\nKUBELET_EXTRA_ARGS='--v=2 --cgroup-driver=systemd'\r\n",
                "--cgroup-driver=systemd",
            ),
            (FILE, "KUBELET_EXTRA_ARGS=--fail-swap-on=false\n", "--fail-swap-on=false"),
            (FILE, "KUBELET_EXTRA_ARGS=--network-plugin=kubenet\n", "--network-plugin=kubenet"),
            (
                "/etc/systemd/system/kubelet.service.d/20-mine.conf",
                "[Service]\nEnvironment='KUBELET_EXTRA_ARGS=--node-ip=10.0.2.15'\n",
                "--node-ip=10.0.2.15",
            ),
            (
                "/etc/systemd/system/kubelet.service.d/20-mine.conf",
                "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS \\\n  --node-ip 10.0.2.15\n",
                "--node-ip=10.0.2.15",
            ),
        ] {
            let host = host();
            host.put_file(path, content);
            let found = told(&host).await.unwrap_or_else(|| panic!("nothing of {content}"));
            assert!(found.cause.starts_with(&format!("{path} of this machine sets {flag} ")), "{found}");
            assert!(found.remedy.contains(&format!("out of {path}")), "{found}");
        }
    }

    #[tokio::test]
    async fn flags_that_agree_or_mean_something_else_and_kubeadms_own_are_left_alone() {
        for content in [
            "KUBELET_EXTRA_ARGS=\n",
            "KUBELET_EXTRA_ARGS=--node-labels=a=b -v=2 --max-pods 200\n",
            "KUBELET_EXTRA_ARGS=--node-ip=10.88.0.12 --hostname-override=w1 --cgroup-driver=cgroupfs\n",
            "#KUBELET_EXTRA_ARGS=--node-ip=10.0.2.15\n",
            "OTHER=--node-ip=10.0.2.15\n",
        ] {
            let host = host();
            host.put_file(FILE, content);
            assert_eq!(told(&host).await, None, "{content}");
        }
    }
}
