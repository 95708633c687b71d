//! Afterwards: the modules are in the kernel and the sysctls have their values, now and after a reboot: systemd reads
//! /etc/modules-load.d and the folders of sysctl.d at boot. A later file there that is in effect and sets one of our keys otherwise
//! would win after the next reboot: that is told, not overwritten.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::kubernetes::kernel::{MODULES, ON, SYSCTLS};

use crate::host::HostError;
use crate::host::change::{Change, Program, ProgramName};
use crate::host::query::Observe;
use crate::steps::{BadStep, Finding, Input};

mod at_boot;

pub const SETTLE: Duration = Duration::from_secs(5);

const MODULES_FILE: &str = "/etc/modules-load.d/muster.conf";
/// Sorts after the 99-sysctl.conf of Debian and Ubuntu; the last file wins.
const SYSCTL_FILE: &str = "/etc/sysctl.d/99-zz-muster.conf";
/// The administrator's own; a file of a package is not for editing, a mask of its name here takes it out of effect.
const OWN_FOLDER: &str = "/etc/sysctl.d";
const HEADER: &str = "# Written by Muster.\n";
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Kernel {
    modules: Vec<String>,
    sysctls: Vec<(String, String)>,
}

impl Kernel {
    pub fn parse(message: &agent::Kernel) -> Result<Self, BadStep> {
        let bad = |field, value: &String, wanted| BadStep::Value {
            field,
            problem: format!("{:?} is not {wanted}", value.chars().take(80).collect::<String>()),
        };
        if let Some(module) = message.modules.iter().find(|module| !MODULES.contains(&module.as_str())) {
            return Err(bad("kernel.modules", module, "a kernel module that Kubernetes needs"));
        }
        for sysctl in &message.sysctls {
            if !SYSCTLS.contains(&sysctl.key.as_str()) {
                return Err(bad("kernel.sysctls.key", &sysctl.key, "a setting that Kubernetes needs"));
            }
            if sysctl.value != ON {
                return Err(bad("kernel.sysctls.value", &sysctl.value, "the value that Kubernetes needs"));
            }
        }
        let sysctls = message.sysctls.iter().map(|sysctl| (sysctl.key.clone(), sysctl.value.clone()));
        Ok(Self { modules: message.modules.clone(), sysctls: sysctls.collect() })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let mut changes = Vec::new();
        for module in &self.modules {
            if !host.kernel_has(module).await? {
                changes.push(Change::Run(Program::new(ProgramName::Modprobe, ["--", module], LIMIT)));
            }
        }
        let loading = !changes.is_empty();
        let lines = |all: Vec<String>| HEADER.to_owned() + &all.concat();
        let modules = lines(self.modules.iter().map(|module| format!("{module}\n")).collect());
        let sysctls = lines(self.sysctls.iter().map(|(key, value)| format!("{key} = {value}\n")).collect());
        for (path, content) in [(MODULES_FILE, modules), (SYSCTL_FILE, sysctls)] {
            if host.read_file(Path::new(path)).await?.as_deref() != Some(&content) {
                changes.push(Change::write(path, content));
            }
        }
        for (key, value) in &self.sysctls {
            match host.sysctl(key).await? {
                Some(live) if live.split_whitespace().eq(value.split_whitespace()) => {}
                // The key may come with a module that is loaded just before.
                None if !loading => {
                    return Ok(Finding::blocked(
                        format!("this kernel has no setting {key}"),
                        format!("there is no such key below /proc/sys; modules: {}", self.modules.join(", ")),
                        "name the kernel module that brings the key, or install the kernel's extra modules",
                    ));
                }
                _ => changes.push(Change::SetSysctl { key: key.clone(), value: value.clone() }),
            }
        }
        if let Some(line) = self.overruled(host).await? {
            let path = line.path.display();
            let remedy = match line.path.starts_with(OWN_FOLDER) {
                true => format!(
                    "on this node: take that line out of {path}, or rename the file so that it sorts before 99-zz-muster.conf"
                ),
                false => format!(
                    "on this node: `sudo ln -s /dev/null {OWN_FOLDER}/{}`, which takes the package's file out of effect; then run the same \
                     command again",
                    line.path.file_name().unwrap_or_default().to_string_lossy()
                ),
            };
            return Ok(Finding::blocked(
                "a file that is read later sets one of our kernel settings otherwise at every boot",
                format!("{path}: {}", line.text),
                remedy,
            ));
        }
        Ok(Finding::from_changes(changes))
    }

    /// The line that would win over ours after a reboot.
    async fn overruled<H: Observe>(&self, host: &H) -> Result<Option<at_boot::Line>, HostError> {
        let mut files = at_boot::files(host).await?;
        // Our own file, as it will be.
        let later = files.split_off(
            files.partition_point(|(path, _)| path.file_name() <= Path::new(SYSCTL_FILE).file_name()),
        );
        let deciding = self.sysctls.iter().filter_map(|(key, wanted)| {
            let line = at_boot::deciding(&later, key)?;
            (line.value.as_ref() != Some(wanted)).then_some(line)
        });
        Ok(deciding.into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::steps::rehearsal::cause_of;

    fn parse(module: &str, key: &str, value: &str) -> Result<Kernel, BadStep> {
        let sysctls = vec![agent::Sysctl { key: key.into(), value: value.into() }];
        Kernel::parse(&agent::Kernel { modules: vec![module.into()], sysctls })
    }

    #[test]
    fn modules_keys_and_values_that_kubernetes_does_not_need_are_refused_whatever_they_look_like() {
        assert!(parse("br_netfilter", "net.ipv4.ip_forward", "1").is_ok());
        for (module, key, value) in [
            ("--remove", "net.ipv4.ip_forward", "1"),
            ("a\nb", "net.ipv4.ip_forward", "1"),
            ("overlay", "net.ipv4/../../x", "1"),
            ("overlay", "net..ipv4", "1"),
            ("overlay", "hostname", "1"),
            ("overlay", "kernel.core_pattern", "|/bin/sh"),
            ("overlay", "net.ipv4.ip_forward", "1\nkernel.panic = 1"),
            // Well formed, and nothing that Kubernetes needs.
            ("dccp", "net.ipv4.ip_forward", "1"),
            ("overlay", "kernel.randomize_va_space", "1"),
            ("overlay", "net.ipv4.ip_forward", "0"),
        ] {
            assert!(parse(module, key, value).is_err(), "{module} {key} {value}");
        }
    }

    async fn evidence(host: &FakeHost) -> Option<(String, String)> {
        host.with(|state| state.modules.insert("overlay".into()));
        let kernel = parse("overlay", "net.ipv4.ip_forward", "1").unwrap();
        match kernel.check(host, &Input::default()).await.unwrap() {
            Finding::Blocked(complaint) => Some((complaint.evidence, complaint.remedy)),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_packages_file_counts_unless_one_of_its_name_masks_or_replaces_it_and_the_remedy_is_such_a_mask()
     {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file("/usr/lib/sysctl.d/zz-bridge.conf", "# a package's\nnet.ipv4.ip_forward = 0\n");
        let (told, remedy) = evidence(&host).await.unwrap();
        assert_eq!(told, "/usr/lib/sysctl.d/zz-bridge.conf: net.ipv4.ip_forward = 0");
        assert!(remedy.contains("`sudo ln -s /dev/null /etc/sysctl.d/zz-bridge.conf`"), "{remedy}");
        host.with(|state| state.links.insert("/etc/sysctl.d/zz-bridge.conf".into(), "/dev/null".into()));
        assert_eq!(evidence(&host).await, None, "the remedy is one");
        host.with(|state| state.links.clear());
        for content in ["", "net.ipv4.ip_forward = 1\n"] {
            host.put_file("/etc/sysctl.d/zz-bridge.conf", content);
            assert_eq!(evidence(&host).await, None, "{content:?}");
        }
    }

    #[tokio::test]
    async fn a_link_to_a_file_is_read_through() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file("/etc/site/sysctl.conf", "vm.swappiness = 10\n");
        host.with(|state| {
            state.links.insert("/etc/sysctl.d/zz-site.conf".into(), "/etc/site/sysctl.conf".into())
        });
        assert_eq!(evidence(&host).await, None);
        host.put_file("/etc/site/sysctl.conf", "net.ipv4.ip_forward = 0\n");
        assert!(evidence(&host).await.unwrap().0.starts_with("/etc/sysctl.d/zz-site.conf: "));
    }

    #[tokio::test]
    async fn what_would_undo_a_setting_after_a_reboot_is_told_and_so_is_a_key_that_the_kernel_lacks() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.with(|state| state.modules.insert("overlay".into()));
        let kernel = parse("overlay", "net.ipv4.ip_forward", "1").unwrap();
        host.put_file("/etc/sysctl.d/99-sysctl.conf", "net.ipv4.ip_forward=0\n");
        assert!(matches!(kernel.check(&host, &Input::default()).await, Ok(Finding::Todo(_))));
        host.put_file("/etc/sysctl.d/99-zzz.conf", "net.ipv4.ip_forward=0\n");
        let cause = cause_of(kernel.check(&host, &Input::default()).await.unwrap());
        assert!(cause.contains("at every boot"), "{cause}");
        let unknown = parse("overlay", SYSCTLS[0], "1").unwrap();
        let cause = cause_of(unknown.check(&host, &Input::default()).await.unwrap());
        assert!(cause.contains(SYSCTLS[0]), "{cause}");
    }
}
