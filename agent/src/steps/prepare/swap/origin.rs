//! Who turns on a swap file that neither fstab nor a .swap unit names: it would be on again after the next boot, and the kubelet
//! dead. Looked for in what runs at boot: services, the programs that they run, rc.local, and the agent of Azure's machines.

use std::path::{Path, PathBuf};

use muster_proto::event::Complaint;

use crate::host::HostError;
use crate::host::query::Observe;

/// Where an administrator and packages put units, in the order in which they count.
const UNITS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const AZURE: &str = "/etc/waagent.conf";
const RC_LOCAL: &str = "/etc/rc.local";
const WORD: &str = "swapon";

/// Of the kernel: the file was removed while it is in use.
const DELETED: &str = " (deleted)";

/// What turns a swap file on.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    /// The unit, or the file.
    who: String,
    evidence: String,
    remedy: String,
}

/// Of the swap that is on: what turns it on again and is nobody's whom the step can stop; `fstab` as it is now.
pub(super) async fn complaint<H: Observe>(
    host: &H,
    active: &[PathBuf],
    fstab: &str,
) -> Result<Option<Complaint>, HostError> {
    if let Some(gone) = active.iter().find_map(|file| file.to_str()?.strip_suffix(DELETED)) {
        return Ok(Some(Complaint::new(
            format!("the swap file {gone} was removed while it is in use: no command can turn it off"),
            format!("/proc/swaps: {gone}{DELETED}"),
            "on this node: `sudo reboot`, then run the same command again",
        )));
    }
    let mut unexplained = Vec::new();
    for file in active.iter().filter(|file| !file.starts_with("/dev")) {
        let unit = host.unit(&unit_of(file)).await?;
        if !is_in_fstab(file, fstab) && unit.file_state.is_empty() {
            unexplained.push(file.display().to_string());
        }
    }
    if unexplained.is_empty() {
        return Ok(None);
    }
    let Some(origin) = find(host).await? else { return Ok(None) };
    Ok(Some(Complaint::new(
        format!(
            "swap on {} is turned on by {}, which would do so again at the next boot",
            unexplained.join(", "),
            origin.who
        ),
        origin.evidence,
        format!("on this node: {}; then run the same command again", origin.remedy),
    )))
}

async fn find<H: Observe>(host: &H) -> Result<Option<Origin>, HostError> {
    let text = async |path: &str| host.read_through(Path::new(path)).await.ok().flatten().unwrap_or_default();
    if let Some(line) = text(AZURE)
        .await
        .lines()
        .map(str::trim)
        .find(|line| line.eq_ignore_ascii_case("ResourceDisk.EnableSwap=y"))
    {
        return Ok(Some(Origin {
            who: "Azure's agent (walinuxagent.service)".into(),
            evidence: format!("{AZURE}: {line}"),
            remedy: format!("write `ResourceDisk.EnableSwap=n` into {AZURE}"),
        }));
    }
    if let Some(line) = text(RC_LOCAL).await.lines().map(str::trim).find(|line| calls(line)) {
        return Ok(Some(Origin {
            who: RC_LOCAL.into(),
            evidence: format!("{RC_LOCAL}: {line}"),
            remedy: format!("take the line out of {RC_LOCAL}"),
        }));
    }
    let mut seen = std::collections::BTreeSet::new();
    for folder in UNITS {
        for name in host.list_folder(Path::new(folder)).await? {
            if !name.ends_with(".service") || !seen.insert(name.clone()) {
                continue;
            }
            let Some(evidence) = mention(host, &format!("{folder}/{name}")).await? else { continue };
            if host.unit(&name).await?.file_state.starts_with("enabled") {
                let remedy = format!("`sudo systemctl disable --now {name}`");
                return Ok(Some(Origin { who: name, evidence, remedy }));
            }
        }
    }
    Ok(None)
}

/// The line of a unit, or of a program that it runs, that turns swap on, with its file.
async fn mention<H: Observe>(host: &H, unit: &str) -> Result<Option<String>, HostError> {
    let text = host.read_through(Path::new(unit)).await.ok().flatten().unwrap_or_default();
    for line in text.lines().map(str::trim).filter(|line| line.starts_with("ExecStart")) {
        if calls(line) {
            return Ok(Some(format!("{unit}: {line}")));
        }
        let command = line
            .split_once('=')
            .map_or("", |(_, command)| command.trim_start_matches(['-', '@', ':', '+', '!']));
        let program = command.split_whitespace().next().unwrap_or_default();
        // Those of packages are programs of the system; scripts that somebody wrote stand elsewhere.
        if !["/usr/local/", "/opt/", "/etc/", "/root/", "/srv/", "/var/"]
            .iter()
            .any(|place| program.starts_with(place))
        {
            continue;
        }
        let script = host.read_through(Path::new(program)).await.ok().flatten().unwrap_or_default();
        if let Some(line) = script.lines().map(str::trim).find(|line| calls(line)) {
            return Ok(Some(format!("{unit} runs {program}: {line}")));
        }
    }
    Ok(None)
}

fn calls(line: &str) -> bool {
    !line.starts_with('#')
        && line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).any(|word| word == WORD)
}

/// Whether fstab names the file itself; who names swap by its label or number means a partition.
fn is_in_fstab(file: &Path, fstab: &str) -> bool {
    fstab.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.next().map(Path::new) == Some(file) && fields.nth(1) == Some("swap")
    })
}

/// As systemd calls the unit of a path: `/var/my-swap` is `var-my\x2dswap.swap` (systemd.unit(5), systemd-escape --path).
fn unit_of(path: &Path) -> String {
    let text = path.to_string_lossy();
    let escape = |(at, byte): (usize, u8)| match byte {
        b'/' => "-".to_owned(),
        b'.' if at == 0 => "\\x2e".to_owned(),
        _ if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    text.trim_matches('/').bytes().enumerate().map(escape).chain([".swap".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};

    const FILE: &str = "/var/tmp-disk-swap";
    const SCRIPT: &str =
        "#!/bin/sh\n# swapon comes last\n[ -s $file ] || mkswap $file\nswapon $file 2>/dev/null || true\n";

    async fn told(host: &FakeHost, file: &str) -> Option<Complaint> {
        complaint(host, &[file.into()], "/swapfile none swap sw 0 0\n").await.unwrap()
    }

    fn host_with_service(file_state: &str) -> FakeHost {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file(
            "/etc/systemd/system/temp-disk.service",
            "[Service]\nType=oneshot\nExecStart=-/usr/local/sbin/temp-disk --size 1\n",
        );
        host.put_file("/usr/local/sbin/temp-disk", SCRIPT);
        host.with(|state| {
            let mut unit = state.units["docker.service"].clone();
            unit.file_state = file_state.into();
            state.units.insert("temp-disk.service".into(), unit);
        });
        host
    }

    #[tokio::test]
    async fn a_service_that_turns_a_swap_file_on_at_every_boot_is_named_until_it_is_disabled() {
        let found = told(&host_with_service("enabled"), FILE).await.unwrap();
        assert!(found.cause.contains("/var/tmp-disk-swap is turned on by temp-disk.service"), "{found}");
        assert!(found.evidence.contains("/usr/local/sbin/temp-disk: swapon $file"), "{found}");
        assert!(found.remedy.contains("`sudo systemctl disable --now temp-disk.service`"), "{found}");
        assert_eq!(told(&host_with_service("disabled"), FILE).await, None, "the remedy is one");
        let host = host_with_service("enabled");
        assert_eq!(told(&host, "/swapfile").await, None, "fstab's line is commented out by the step");
        assert_eq!(told(&host, "/dev/sda5").await, None, "a partition's unit is masked by the step");
    }

    #[tokio::test]
    async fn a_unit_that_calls_swapon_itself_rc_local_and_azures_agent_are_found_as_well() {
        for (path, content, remedy) in [
            (AZURE, "ResourceDisk.Format=y\nResourceDisk.EnableSwap=y\n", "ResourceDisk.EnableSwap=n"),
            (RC_LOCAL, "#!/bin/sh\n/sbin/swapon /var/tmp-disk-swap\n", "take the line out of /etc/rc.local"),
        ] {
            let host = FakeHost::debian("m1", FakeCluster::default());
            assert_eq!(told(&host, FILE).await, None);
            host.put_file(path, content);
            let found = told(&host, FILE).await.unwrap();
            assert!(found.remedy.contains(remedy), "{found}");
        }
        let host = host_with_service("enabled");
        host.put_file(
            "/etc/systemd/system/temp-disk.service",
            "[Service]\nExecStart=/bin/sh -c 'swapon /x'\n",
        );
        assert!(told(&host, FILE).await.unwrap().evidence.contains("temp-disk.service: ExecStart="));
    }

    #[tokio::test]
    async fn a_swap_file_that_was_removed_wants_a_reboot() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        let found = told(&host, "/swapfile (deleted)").await.unwrap();
        assert!(
            found.cause.contains("/swapfile was removed while it is in use")
                && found.remedy.contains("reboot"),
            "{found}"
        );
    }

    #[test]
    fn the_unit_of_a_path_is_called_as_systemd_calls_it() {
        assert_eq!(unit_of(Path::new("/var/my-swap")), "var-my\\x2dswap.swap");
        assert_eq!(unit_of(Path::new("/dev/sda5")), "dev-sda5.swap");
        assert_eq!(unit_of(Path::new("/.swap")), "\\x2eswap.swap");
    }
}
