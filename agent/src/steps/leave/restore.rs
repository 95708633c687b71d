//! Afterwards: what Muster itself changed on this host stands as it stood before: files, host name, units, sysctls, swap,
//! users' files, the firewall last. What somebody else changed after us is kept and named; so is swap on what is not there
//! any more, which keeps nobody. The account of it comes from the agent's own journal (`ledger`). Not undone: the rule of ufw
//! by which nodes that stay dial this machine; loaded kernel modules stay until the next reboot.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::kubernetes::files::KUBELET_CONF;

use crate::host::HostError;
use crate::host::change::{Change, Program, ProgramName, UnitAction};
use crate::host::query::Observe;
use crate::host::ufw;
use crate::steps::{BadStep, Finding, Input, Yield};
use crate::undo::ledger::{Entry, Target};

mod host_name;
mod plain_file;
mod secret_file;

pub const SETTLE: Duration = Duration::from_secs(30);

const LIMIT: Duration = Duration::from_secs(60);
/// What the agent's own unit hides from it (ProtectHome=, PrivateTmp=).
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

#[derive(Debug, Clone)]
pub struct Restore {
    nodes_stay: bool,
}

/// What is to be done for one target.
#[derive(Debug, Default)]
struct Undoing {
    changes: Vec<Change>,
    /// Why it stays as it is, when somebody else changed it.
    kept: Option<String>,
    /// Why it cannot be put back by anybody.
    gone: Option<String>,
}

impl Undoing {
    fn change(change: Change) -> Self {
        Self { changes: vec![change], ..Self::default() }
    }

    fn kept(why: String) -> Self {
        Self { kept: Some(why), ..Self::default() }
    }

    fn gone(why: String) -> Self {
        Self { gone: Some(why), ..Self::default() }
    }
}

impl Restore {
    pub fn parse(message: &agent::Restore) -> Result<Self, BadStep> {
        Ok(Self { nodes_stay: message.nodes_stay })
    }

    pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
        let (mut changes, mut last, mut kept, mut gone) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut starts = Vec::new();
        let mut follow_up = input.ledger.pending.clone();
        for Entry { target, follow_up: asked } in &input.ledger.entries {
            if self.nodes_stay && matches!(target, Target::FirewallRule { .. }) {
                continue;
            }
            let undoing = undo(host, target).await?;
            kept.extend(undoing.kept);
            gone.extend(undoing.gone);
            if undoing.changes.is_empty() {
                continue;
            }
            follow_up.extend(asked.iter().cloned());
            match target {
                Target::Swap { .. } => last.splice(0..0, undoing.changes).for_each(drop),
                Target::Firewall | Target::FirewallRule { .. } => last.extend(undoing.changes),
                // Once the files that it reads are put back.
                Target::Unit { .. } => {
                    let (start, other): (Vec<_>, Vec<_>) = undoing.changes.into_iter().partition(is_start);
                    changes.extend(other);
                    starts.extend(start);
                }
                _ => changes.extend(undoing.changes),
            }
        }
        for change in follow_up {
            if !changes.contains(&change) {
                changes.push(change);
            }
        }
        starts.retain(|start| !changes.iter().any(|change| restarts_the_same(change, start)));
        changes.extend(starts);
        changes.extend(last);
        // A rule of ufw may go while there is a cluster. Anything else waits until kubeadm's part is undone: a coordinator that
        // lost its record would turn swap on under a kubelet.
        let is_rule = |entry: &Entry| matches!(entry.target, Target::FirewallRule { .. });
        if !changes.is_empty() && !input.ledger.entries.iter().all(is_rule) && is_member(host).await? {
            return Ok(Finding::blocked(
                "this node is a member of a cluster, and what Muster changed here is put back only after `kubeadm reset`",
                format!("{KUBELET_CONF} is there"),
                "this coordinator does not know the cluster: give it the same cluster file once more (`sudo coordinator bootstrap -f cluster.yaml`), then `sudo coordinator reset` with --confirm",
            ));
        }
        if changes.is_empty() && !kept.is_empty() {
            return Ok(Finding::blocked(
                "somebody changed what Muster had written; that is kept, everything else stands as before",
                kept.join("\n"),
                "take these lines out by hand (`sudo agent journal` holds what stood there before), then run the same command again",
            ));
        }
        if changes.is_empty() && !gone.is_empty() {
            return Ok(Finding::Done(Yield::Left(gone)));
        }
        Ok(Finding::from_changes(changes))
    }
}

fn is_start(change: &Change) -> bool {
    matches!(change, Change::Unit { action: UnitAction::Start, .. })
}

fn restarts_the_same(change: &Change, start: &Change) -> bool {
    match (change, start) {
        (Change::Unit { unit, action: UnitAction::Restart }, Change::Unit { unit: same, .. }) => unit == same,
        _ => false,
    }
}

/// An empty kubelet.conf is what a loss of power left, and no membership.
async fn is_member<H: Observe>(host: &H) -> Result<bool, HostError> {
    Ok(host.read_file(Path::new(KUBELET_CONF)).await?.is_some_and(|text| !text.trim().is_empty()))
}

async fn undo<H: Observe>(host: &H, target: &Target) -> Result<Undoing, HostError> {
    Ok(match target {
        Target::File { place, mode, writes } => plain_file::put_back(host, place, *mode, writes).await?,
        Target::Secret(file) => secret_file::put_back(host, file).await?,
        Target::Hostname { kernel, file, ours } => {
            host_name::put_back(host, kernel, file.as_deref(), ours).await?
        }
        Target::Sysctl { key, before, ours } => {
            let live = host.sysctl(key).await?;
            let is_ours = live.is_some_and(|live| live.split_whitespace().eq(ours.split_whitespace()));
            if is_ours && before != ours {
                Undoing::change(Change::SetSysctl { key: key.clone(), value: before.clone() })
            } else {
                Undoing::default()
            }
        }
        Target::Unit { unit, active, file_state, actions } => {
            let now = host.unit(unit).await?;
            let mut changes = Vec::new();
            let mut change = |action| changes.push(Change::Unit { unit: unit.clone(), action });
            let did = |action| actions.contains(&action);
            // `masked-runtime` is another mask, which lasts until the next reboot and stays below ours.
            if did(UnitAction::Mask) && now.file_state == "masked" && file_state != "masked" {
                change(UnitAction::Unmask);
            }
            if did(UnitAction::Disable) && now.file_state == "disabled" && file_state == "enabled" {
                change(UnitAction::Enable);
            }
            if did(UnitAction::Enable) && now.file_state == "enabled" && file_state == "disabled" {
                change(UnitAction::Disable);
            }
            // Also where a start or restart of ours failed: what ran before runs afterwards.
            let touched = [UnitAction::Stop, UnitAction::Start, UnitAction::Restart].into_iter().any(did);
            if touched && *active && now.exists && !now.active {
                change(UnitAction::Start);
            }
            if did(UnitAction::Start) && !*active && now.active {
                change(UnitAction::Stop);
            }
            Undoing { changes, ..Undoing::default() }
        }
        Target::FirewallRule { rule } => crate::steps::prepare::coordinator_port::undo(host, rule)
            .await?
            .map_or_else(Undoing::default, Undoing::change),
        Target::Swap { device } if host.swaps().await?.contains(device) => Undoing::default(),
        Target::Swap { device } if is_gone(host, device).await? => Undoing::gone(format!(
            "the swap on {} stays off, because nothing of this name is there any more; what makes it when the machine starts, \
             if anything does, will make it again",
            device.display()
        )),
        Target::Swap { device } => Undoing::change(Change::Run(Program::new(
            ProgramName::Swapon,
            ["--", &device.to_string_lossy()],
            LIMIT,
        ))),
        Target::Firewall => {
            if ufw::files(host).await?.is_none_or(|files| files.say_on()) {
                return Ok(Undoing::default());
            }
            Undoing::change(Change::Run(Program::new(ProgramName::Ufw, ["--force", "enable"], LIMIT)))
        }
    })
}

/// Whether there is no such device or file, as of compressed swap after a reboot without its unit. False where the agent
/// cannot tell: then swapon does. It has a /dev of its own, so that the kernel's table counts; other names than that table's
/// stand for the same devices only in folders below /dev.
async fn is_gone<H: Observe>(host: &H, device: &Path) -> Result<bool, HostError> {
    if HIDDEN.iter().any(|place| device.starts_with(place)) {
        return Ok(false);
    }
    let (Some(folder), Some(name)) = (device.parent(), device.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(false);
    };
    if folder == Path::new("/dev") {
        let table = host.read_file(Path::new("/proc/partitions")).await?;
        let holds = |table: &str| table.lines().any(|line| line.split_whitespace().next_back() == Some(name));
        return Ok(table.is_some_and(|table| !holds(&table)));
    }
    // A folder that only its owner may read is closed to the agent too.
    let Ok(names) = host.list_folder(folder).await else { return Ok(false) };
    Ok(!device.starts_with("/dev") && !names.iter().any(|there| there == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::change::digest_of;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::steps::rehearsal::{carry_out, step};
    use crate::undo::ledger::{Place, SecretFile, Writes};
    use muster_proto::agent::step::Kind;

    #[tokio::test]
    async fn a_unit_that_ran_before_a_restart_of_ours_failed_runs_once_the_files_that_it_reads_are_put_back()
    {
        let (unit, path) = ("docker.service".to_owned(), "/etc/docker/daemon.json");
        let restart = Change::Unit { unit: unit.clone(), action: UnitAction::Restart };
        let actions = [UnitAction::Restart, UnitAction::Start].into();
        let entries = |follow_up: &[Change]| {
            let writes = Writes::of(None, Some("ours".into()));
            let file = Target::File { place: Place::Host(path.into()), mode: None, writes };
            let target =
                Target::Unit { unit: unit.clone(), active: true, file_state: "enabled".into(), actions };
            vec![
                Entry { target, follow_up: Vec::new() },
                Entry { target: file, follow_up: follow_up.to_vec() },
            ]
        };
        let wanted = step(Kind::Restore(agent::Restore::default()));
        let mut input = Input::default();
        input.ledger.entries = entries(std::slice::from_ref(&restart));
        for (file, expected) in [
            (true, &["remove /etc/docker/daemon.json", "restart docker.service"][..]),
            (false, &["start docker.service"]),
        ] {
            let host = FakeHost::debian("m1", FakeCluster::default());
            host.with(|state| state.units.get_mut(&unit).unwrap().active = false);
            if file {
                host.put_file(path, "ours");
            }
            let Finding::Todo(changes) = wanted.check(&host, &input).await.unwrap() else { panic!() };
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            assert_eq!(changes, expected);
            let finding = carry_out(&host, &wanted, &mut input).await;
            assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
            assert!(host.with(|state| state.units[&unit].active), "what ran before runs afterwards");
        }
    }

    #[tokio::test]
    async fn a_secret_file_goes_when_it_is_ours_alone_and_is_named_when_others_wrote_it_too() {
        const PATH: &str = "/etc/credentials";
        let wanted = step(Kind::Restore(agent::Restore::default()));
        for (stood, now, stays) in
            [(None, "ours", false), (None, "theirs", true), (Some("theirs"), "ours", true)]
        {
            let host = FakeHost::debian("m1", FakeCluster::default());
            host.put_file(PATH, now);
            let before = stood.map(|_| serde_json::json!({ "secret": true, "bytes": 6, "mode": 0o600 }));
            let file = SecretFile::of(Place::Host(PATH.into()), &digest_of("ours"), before.as_ref());
            let mut input = Input::default();
            input.ledger.entries = vec![Entry { target: Target::Secret(file), follow_up: Vec::new() }];
            if stays {
                let finding = wanted.check(&host, &input).await.unwrap();
                let Finding::Done(Yield::Left(named)) = finding else { panic!("{finding:?}") };
                assert!(named[0].contains(PATH), "{named:?}");
            } else {
                let finding = carry_out(&host, &wanted, &mut input).await;
                assert!(matches!(finding, Finding::Done(Yield::Nothing)), "{finding:?}");
                assert!(host.file(PATH).is_none());
            }
        }
    }

    #[tokio::test]
    async fn swap_is_gone_only_where_its_device_or_file_would_be_seen() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file("/var/swap/file", "");
        for (device, gone) in [
            ("/dev/sda5", false),
            ("/dev/zram0", true),
            ("/dev/sda", true),
            ("/dev/mapper/vg-swap", false),
            ("/var/swap/file", false),
            ("/swapfile", true),
            ("/home/swapfile", false),
            ("/tmp/swapfile", false),
        ] {
            assert_eq!(is_gone(&host, Path::new(device)).await.unwrap(), gone, "{device}");
        }
        host.with(|state| state.files.remove(Path::new("/proc/partitions")));
        assert!(!is_gone(&host, Path::new("/dev/zram0")).await.unwrap(), "nobody can tell");
    }
}
