//! The kernel's host name, swaps, sysctls and modules.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_proto::names::HostName;

use super::errand::{self, Errand};
use super::{SystemHost, child, files};
use crate::host::HostError;
use crate::host::change::FileMode;

/// Turning swap off moves its pages back into memory; on a slow disk that takes minutes.
const SWAPOFF_LIMIT: Duration = Duration::from_secs(300);
const SYSCTL_LIMIT: Duration = Duration::from_secs(20);

impl SystemHost {
    pub(super) async fn kernel_hostname(&self) -> Result<String, HostError> {
        let name = files::read(self.path("/proc/sys/kernel/hostname")).await?;
        Ok(name.unwrap_or_default().trim_end().to_owned())
    }

    /// /etc/hostname first: after a crash between the two the step sees the difference and does both again.
    pub(super) async fn set_hostname(&self, name: &HostName) -> Result<(), HostError> {
        files::write(self.path("/etc/hostname"), format!("{name}\n"), FileMode::IfNew(0o644)).await?;
        // Through its file, which asks for root alone; the system call asks for CAP_SYS_ADMIN.
        self.set_sysctl("kernel.hostname", name.as_str()).await
    }

    pub(super) async fn active_swaps(&self) -> Result<Vec<PathBuf>, HostError> {
        Ok(parse_swaps(&files::read(self.path("/proc/swaps")).await?.unwrap_or_default()))
    }

    pub(super) async fn swap_off(&self, device: &Path) -> Result<(), HostError> {
        if !self.active_swaps().await?.iter().any(|active| active == device) {
            return Ok(());
        }
        let device = device.to_string_lossy().into_owned();
        if !errand::possible() {
            return child::run("swapoff", &["--", &device], SWAPOFF_LIMIT)
                .await?
                .success("swapoff")
                .map(|_| ());
        }
        // swapoff wants CAP_SYS_ADMIN and the device, and the agent has neither.
        let path = child::find("swapoff").ok_or_else(|| child::not_found("swapoff"))?;
        let errand =
            Errand { path, arguments: vec!["--".to_owned(), device], user: None, limit: SWAPOFF_LIMIT };
        errand.run("swapoff", None).await?.success("swapoff").map(|_| ())
    }

    pub(super) async fn read_sysctl(&self, key: &str) -> Result<Option<String>, HostError> {
        let value = files::read(self.path(&sysctl_path(key)?)).await?;
        Ok(value.map(|value| value.trim_end().to_owned()))
    }

    /// Written in place: what stands below /proc/sys is no file that could be replaced. Some keys (forwarding) ask the writer
    /// for CAP_NET_ADMIN, which the agent does not have.
    pub(super) async fn set_sysctl(&self, key: &str, value: &str) -> Result<(), HostError> {
        let path = self.path(&sysctl_path(key)?);
        let written = async {
            let mut file = tokio::fs::OpenOptions::new().write(true).open(&path).await?;
            tokio::io::AsyncWriteExt::write_all(&mut file, value.as_bytes()).await?;
            tokio::io::AsyncWriteExt::flush(&mut file).await
        };
        match written.await {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && errand::possible() => {
                let arguments = ["-q", "-w"].map(str::to_owned).into_iter().chain([format!("{key}={value}")]);
                let path = child::find("sysctl").ok_or_else(|| child::not_found("sysctl"))?;
                let errand = Errand { path, arguments: arguments.collect(), user: None, limit: SYSCTL_LIMIT };
                errand.run("sysctl", None).await?.success("sysctl").map(|_| ())
            }
            written => {
                written.map_err(|source| HostError::File { action: "setting the sysctl", path, source })
            }
        }
    }

    /// Whether a module's function is there: loaded, built in and listed, or shown by what it brings along. Kernels with
    /// everything built in may have no /lib/modules at all.
    pub(super) async fn has_module(&self, module: &str) -> Result<bool, HostError> {
        let module = module.replace('-', "_");
        if self.path(format!("/sys/module/{module}")).exists() {
            return Ok(true);
        }
        let brings = match module.as_str() {
            "br_netfilter" => "/proc/sys/net/bridge",
            "nf_conntrack" => "/proc/sys/net/netfilter/nf_conntrack_max",
            "ip_vs" => "/proc/net/ip_vs",
            "vxlan" => "/proc/net/vxlan",
            _ => "",
        };
        if !brings.is_empty() && self.path(brings).exists() {
            return Ok(true);
        }
        let systems = files::read(self.path("/proc/filesystems")).await?.unwrap_or_default();
        if systems.lines().any(|line| line.split_whitespace().last() == Some(&module)) {
            return Ok(true);
        }
        let release = files::read(self.path("/proc/sys/kernel/osrelease")).await?.unwrap_or_default();
        let built_in = format!("/lib/modules/{}/modules.builtin", release.trim_end());
        let built_in = files::read(self.path(&built_in)).await?.unwrap_or_default();
        Ok(lists_module(&built_in, &module))
    }
}

/// `kernel/fs/overlayfs/overlay.ko` a line; file names may have either dash.
fn lists_module(built_in: &str, module: &str) -> bool {
    built_in.lines().any(|line| {
        let file = line.rsplit('/').next().unwrap_or_default();
        file.split(".ko").next().is_some_and(|name| name.replace('-', "_") == module)
    })
}

/// `net.ipv4.ip_forward` stands at /proc/sys/net/ipv4/ip_forward; a key with a slash keeps its dots, as in sysctl(8).
fn sysctl_path(key: &str) -> Result<String, HostError> {
    let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if path.split('/').all(plain) {
        Ok(format!("/proc/sys/{path}"))
    } else {
        Err(HostError::Unexpected { what: "the sysctl's name".to_owned(), message: format!("{key:?}") })
    }
}

/// The first column of /proc/swaps; blanks in it stand there as octal escapes.
fn parse_swaps(text: &str) -> Vec<PathBuf> {
    let first = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    first
        .map(|name| PathBuf::from(name.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::query::ObserveSystem;

    #[test]
    fn swaps_are_read_with_blanks_in_their_names() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/sda5                               partition\t998396\t\t0\t\t-2\n/var/my\\040swap                         file\t\t65532\t\t0\t\t-3\n";
        assert_eq!(parse_swaps(text), [PathBuf::from("/dev/sda5"), PathBuf::from("/var/my swap")]);
        assert!(parse_swaps("Filename\tType\tSize\tUsed\tPriority\n").is_empty());
    }

    #[test]
    fn a_sysctl_stays_below_its_folder() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward").unwrap(), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(
            sysctl_path("net/ipv4/conf/eth0.100/rp_filter").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.100/rp_filter"
        );
        for hostile in ["", "../../etc/passwd", "net..ipv4", "/etc/passwd", "net/../../x", "a b"] {
            assert!(sysctl_path(hostile).is_err(), "{hostile:?}");
        }
    }

    #[tokio::test]
    async fn sysctls_are_read_and_written_in_place() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("proc/sys/net/ipv4");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ip_forward"), "0\n").unwrap();
        let host = SystemHost::below(place.path());
        assert_eq!(host.sysctl("net.ipv4.ip_forward").await.unwrap().as_deref(), Some("0"));
        host.set_sysctl("net.ipv4.ip_forward", "1").await.unwrap();
        assert_eq!(host.sysctl("net.ipv4.ip_forward").await.unwrap().as_deref(), Some("1"));
        assert!(host.sysctl("net.bridge.bridge-nf-call-iptables").await.unwrap().is_none());
        assert!(host.set_sysctl("net.bridge.bridge-nf-call-iptables", "1").await.is_err());
    }

    #[tokio::test]
    async fn a_module_is_seen_loaded_built_in_or_by_what_it_brings() {
        let place = tempfile::tempdir().unwrap();
        let make = |path: &str| std::fs::create_dir_all(place.path().join(path)).unwrap();
        let host = SystemHost::below(place.path());
        for module in ["overlay", "br_netfilter", "nf-conntrack", "ip_vs"] {
            assert!(!host.kernel_has(module).await.unwrap(), "{module}");
        }
        make("sys/module/nf_conntrack");
        make("proc/sys/net/bridge");
        make("proc/sys/kernel");
        make("lib/modules/6.1.0");
        std::fs::write(place.path().join("proc/filesystems"), "nodev\tsysfs\nnodev\toverlay\n\text4\n")
            .unwrap();
        std::fs::write(place.path().join("proc/sys/kernel/osrelease"), "6.1.0\n").unwrap();
        std::fs::write(
            place.path().join("lib/modules/6.1.0/modules.builtin"),
            "kernel/net/netfilter/ipvs/ip_vs.ko\nkernel/net/netfilter/ipvs/ip_vs_rr.ko\n",
        )
        .unwrap();
        for module in ["overlay", "br_netfilter", "nf-conntrack", "ip_vs"] {
            assert!(host.kernel_has(module).await.unwrap(), "{module}");
        }
        assert!(!host.kernel_has("ip_vs_wrr").await.unwrap());
    }
}
