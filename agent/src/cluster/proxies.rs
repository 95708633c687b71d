//! The proxy that systemd gives the kubelet in its environment, and kubeadm, whose static pods inherit it: from there nobody
//! reaches the cluster's own addresses unless NO_PROXY names them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_proto::agent::Proxy;

use crate::cluster::kubelet::UNIT;
use crate::cluster::kubelet_flags::{environment_files, quoted};
use crate::host::HostError;
use crate::host::query::Observe;

/// systemd's own settings; the last line of a key counts.
const SETTINGS: &str = "/etc/systemd/system.conf";
const SETTINGS_FOLDERS: [&str; 3] =
    ["/usr/lib/systemd/system.conf.d", "/run/systemd/system.conf.d", "/etc/systemd/system.conf.d"];

/// Without the values of proxies, which may hold a password. None where the kubelet has no proxy.
pub(crate) async fn of_kubelet<H: Observe>(host: &H) -> Result<Option<Proxy>, HostError> {
    // By name, in small letters: the value, and where it stands.
    let mut variables: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut take = |line: &str, place: &str| {
        if let Some((name, value)) = line.split_once('=') {
            let name = name.trim().to_ascii_lowercase();
            if ["http_proxy", "https_proxy", "no_proxy"].contains(&name.as_str()) {
                let value = value.trim().trim_matches(['"', '\'']).to_owned();
                variables.insert(name, (value, place.to_owned()));
            }
        }
    };
    let place = place_of_defaults(host).await?;
    for line in host.manager_environment().await? {
        take(&line, &place);
    }
    let mut files = Vec::new();
    for path in host.unit_files(UNIT).await? {
        files.extend(host.read_through(&path).await?.map(|text| (path, text)));
    }
    for (path, text) in &files {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("Environment="));
        lines.flat_map(quoted).for_each(|line| take(&line, &path.display().to_string()));
    }
    for path in environment_files(&files) {
        let text = host.read_through(&path).await?.unwrap_or_default();
        text.lines().for_each(|line| take(line.trim(), &path.display().to_string()));
    }
    let set = |name: &str| variables.get(name).filter(|(value, _)| !value.is_empty());
    let proxies: Vec<&str> =
        ["https_proxy", "http_proxy"].into_iter().filter(|name| set(name).is_some()).collect();
    let Some((_, place)) = proxies.first().and_then(|name| set(name)) else { return Ok(None) };
    Ok(Some(Proxy {
        variables: proxies.iter().map(|name| name.to_ascii_uppercase()).collect(),
        no_proxy: set("no_proxy").map(|(value, _)| value.clone()).unwrap_or_default(),
        place: place.clone(),
    }))
}

/// The file that gives every service a proxy, or whose environment it is.
async fn place_of_defaults<H: Observe>(host: &H) -> Result<String, HostError> {
    let mut paths = vec![PathBuf::from(SETTINGS)];
    for folder in SETTINGS_FOLDERS {
        paths.extend(
            host.list_folder(Path::new(folder)).await?.into_iter().map(|name| Path::new(folder).join(name)),
        );
    }
    let mut place = "systemd's own environment (`systemctl show-environment`)".to_owned();
    for path in paths {
        let text = host.read_through(&path).await?.unwrap_or_default();
        let sets = |line: &str| {
            line.trim().starts_with("DefaultEnvironment=") && line.to_ascii_lowercase().contains("_proxy")
        };
        if text.lines().any(sets) {
            place = path.display().to_string();
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};

    #[tokio::test]
    async fn a_proxy_of_every_service_or_of_the_kubelet_is_told_with_its_place_and_without_its_password() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        assert_eq!(of_kubelet(&host).await.unwrap(), None);
        host.put_file(
            "/etc/systemd/system/docker.service.d/proxy.conf",
            "[Service]\nEnvironment=HTTPS_PROXY=http://p:3128\n",
        );
        assert_eq!(of_kubelet(&host).await.unwrap(), None, "Docker may have one of its own");
        host.with(|state| {
            state.manager_environment =
                ["PATH=/usr/bin", "https_proxy=http://me:secret@p:3128", "NO_PROXY=localhost"]
                    .map(str::to_owned)
                    .into();
        });
        let line = "[Manager]\nDefaultEnvironment=https_proxy=http://me:secret@p:3128 NO_PROXY=localhost\n";
        host.put_file("/etc/systemd/system.conf.d/90-proxy.conf", line);
        let found = of_kubelet(&host).await.unwrap().unwrap();
        assert!(!format!("{found:?}").contains("secret"));
        let place = "/etc/systemd/system.conf.d/90-proxy.conf".to_owned();
        assert_eq!(
            found,
            Proxy { variables: vec!["HTTPS_PROXY".into()], no_proxy: "localhost".into(), place }
        );
        let drop_in = "/etc/systemd/system/kubelet.service.d/20-proxy.conf";
        host.put_file(drop_in, "[Service]\nEnvironment=\"HTTP_PROXY=http://q:3128\" \"HTTPS_PROXY=\"\n");
        let found = of_kubelet(&host).await.unwrap().unwrap();
        assert_eq!(
            (found.variables, found.place),
            (vec!["HTTP_PROXY".to_owned()], drop_in.to_owned()),
            "the unit's own wins"
        );
    }
}
