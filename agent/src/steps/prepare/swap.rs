//! Afterwards: no swap is in use, and none comes back after a reboot: the kubelet refuses to start with swap on.
//! Its lines in /etc/fstab are commented out, .swap units that have a file are masked (systemd makes them from fstab,
//! from GPT partition types and from the zram generator), and services that make compressed swap are off.
//! An /etc/systemd/zram-generator.conf of somebody else stays: its .swap unit is masked instead. A swap file that something else turns
//! on at every boot (`origin`) is told: what that is for is its owner's to know.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;

use crate::host::HostError;
use crate::host::change::{Change, UnitAction};
use crate::host::query::Observe;
use crate::steps::{BadStep, Finding, Input};

mod origin;

pub const SETTLE: Duration = Duration::from_secs(10);

const FSTAB: &str = "/etc/fstab";
const MARKER: &str = "# muster: ";
/// Where an administrator's unit files lie; systemd cannot mask these, since the mask would stand in their place.
const OWN_UNITS: &str = "/etc/systemd/system";
const GENERATORS: &str = "/usr/lib/systemd/system-generators";
const ZRAM_FILE: &str = "/etc/systemd/zram-generator.conf";
const ZRAM_CONTENT: &str =
    "# Written by Muster: no compressed swap; the kubelet does not start with swap on.\n";
/// Services that make swap at every boot: Debian's zram-tools, Ubuntu's zram-config, Raspberry Pi OS.
const SERVICES: [&str; 3] = ["zramswap.service", "zram-config.service", "dphys-swapfile.service"];

#[derive(Debug, Clone)]
pub struct Swap;

impl Swap {
    pub fn parse(_: &agent::Swap) -> Result<Self, BadStep> {
        Ok(Self)
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let mut changes = Vec::new();
        let before = host.read_file(Path::new(FSTAB)).await?.unwrap_or_default();
        let active = host.swaps().await?;
        if let Some(complaint) = origin::complaint(host, &active, &before).await? {
            return Ok(Finding::Blocked(complaint));
        }
        let after = without_swap(&before);
        if after != before {
            changes.push(Change::write(FSTAB, after));
        }
        if host.list_folder(Path::new(GENERATORS)).await?.iter().any(|name| name == "zram-generator")
            && host.read_file(Path::new(ZRAM_FILE)).await?.is_none()
        {
            changes.push(Change::write(ZRAM_FILE, ZRAM_CONTENT));
        }
        for service in SERVICES {
            let unit = host.unit(service).await?;
            let change = |action| Change::Unit { unit: service.to_owned(), action };
            if unit.exists && unit.active {
                changes.push(change(UnitAction::Stop));
            }
            if unit.exists && unit.file_state == "enabled" {
                changes.push(change(UnitAction::Disable));
            }
        }
        let own_units = host.list_folder(Path::new(OWN_UNITS)).await?;
        for name in host.swap_units().await? {
            let state = host.unit(&name).await?.file_state;
            if let Some(action) = keep_off(&state, own_units.contains(&name)) {
                changes.push(Change::Unit { unit: name, action });
            }
        }
        // A device that one of the services above has taken away already is no error.
        changes.extend(active.into_iter().map(|device| Change::SwapOff { device }));
        if !changes.is_empty() {
            changes.push(Change::ReloadUnits);
        }
        Ok(Finding::from_changes(changes))
    }
}

/// What keeps a .swap unit with this UnitFileState off after a reboot. An empty state: the unit has no file and goes
/// away together with its entry in /proc/swaps.
fn keep_off(file_state: &str, own_file: bool) -> Option<UnitAction> {
    match file_state {
        "" | "masked" => None,
        "disabled" if own_file => None,
        _ if own_file => Some(UnitAction::Disable),
        _ => Some(UnitAction::Mask),
    }
}

/// fstab with every line of type swap commented out; all other bytes stay.
fn without_swap(fstab: &str) -> String {
    let is_swap = |line: &str| {
        let mut fields = line.split_whitespace();
        fields.next().is_some_and(|device| !device.starts_with('#')) && fields.nth(1) == Some("swap")
    };
    let comment = |line| if is_swap(line) { format!("{MARKER}{line}") } else { line.to_owned() };
    fstab.split_inclusive('\n').map(comment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::steps::rehearsal::{carry_out, step};
    use muster_proto::agent::step::Kind;

    #[test]
    fn only_lines_of_type_swap_are_commented_out_and_every_other_byte_stays() {
        let table = [
            ("", ""),
            ("/dev/sda1 / ext4 defaults 0 1\n", "/dev/sda1 / ext4 defaults 0 1\n"),
            ("UUID=a-b none swap sw 0 0\n", "# muster: UUID=a-b none swap sw 0 0\n"),
            ("/swap.img\tnone\tswap\tsw\t0\t0", "# muster: /swap.img\tnone\tswap\tsw\t0\t0"),
            ("  /dev/sda2 swap swap sw 0 0\r\n", "# muster:   /dev/sda2 swap swap sw 0 0\r\n"),
            ("# /dev/sda2 none swap sw\n#x none swap\n", "# /dev/sda2 none swap sw\n#x none swap\n"),
            (
                "/dev/sdb1 /swap ext4 rw 0 2\nswap /tmp tmpfs\n",
                "/dev/sdb1 /swap ext4 rw 0 2\nswap /tmp tmpfs\n",
            ),
            ("a b ext4\n\n /x none swap\nc d xfs", "a b ext4\n\n# muster:  /x none swap\nc d xfs"),
        ];
        for (before, after) in table {
            assert_eq!(without_swap(before), after);
            assert_eq!(without_swap(after), after, "twice");
        }
    }

    #[test]
    fn a_unit_that_systemd_cannot_mask_is_disabled() {
        let table = [
            ("generated", false, Some(UnitAction::Mask)),
            ("static", false, Some(UnitAction::Mask)),
            ("masked-runtime", false, Some(UnitAction::Mask)),
            ("enabled", true, Some(UnitAction::Disable)),
            ("disabled", true, None),
            ("masked", true, None),
            ("", false, None),
        ];
        for (state, own_file, action) in table {
            assert_eq!(keep_off(state, own_file), action, "{state} {own_file}");
        }
    }

    #[tokio::test]
    async fn swap_of_every_origin_is_off_now_and_after_a_reboot() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.with(|state| {
            state.put(format!("{GENERATORS}/zram-generator"), "");
            state.put(format!("{OWN_UNITS}/mine.swap"), "[Swap]\nWhat=/mine\n");
            state.swaps.insert("/dev/zram0".into());
            let enabled = state.units["docker.service"].clone();
            for name in ["zramswap.service", "mine.swap"] {
                state.units.insert(name.into(), enabled.clone());
            }
        });
        let finding = carry_out(&host, &step(Kind::Swap(agent::Swap {})), &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        host.with(|state| {
            assert!(state.swaps.is_empty());
            let service = &state.units["zramswap.service"];
            assert!(!service.active && service.file_state == "disabled");
            assert_eq!(state.units["dev-sda5.swap"].file_state, "masked");
            assert_eq!(state.units["mine.swap"].file_state, "disabled");
        });
        assert_eq!(host.file(ZRAM_FILE).as_deref(), Some(ZRAM_CONTENT));
        assert!(host.file(FSTAB).unwrap().contains("\n# muster: UUID=5d1f4e9c"));
    }
}
