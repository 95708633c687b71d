//! Afterwards: what Muster itself changed on this host stands as it stood before: files, host name, units, sysctls, swap,
//! users' files, the firewall last. What somebody else changed after us is kept and named; so is swap on what is not there
//! any more, which keeps nobody. The account of it comes from the agent's own journal (`ledger`). Not undone: the rule of ufw
//! by which nodes that stay dial this machine; loaded kernel modules stay until the next reboot.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;

use super::{BadStep, Finding, Input, Yield};
use crate::host::HostError;
use crate::host::change::{Change, FileMode, Program, ProgramName, UnitAction};
use crate::host::query::Observe;
use crate::ledger::{Entry, Place, Target};
use crate::line_changes::{added, without};
use crate::membership::KUBELET_CONF;
use crate::ufw;

mod host_name;
mod secret_file;

pub const NAME: &str = "restore";
pub const SETTLE: Duration = Duration::from_secs(30);

const LIMIT: Duration = Duration::from_secs(60);
/// What the agent's own unit hides from it (ProtectHome=, PrivateTmp=).
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

#[derive(Debug, Clone)]
pub struct Restore {
    nodes_stay: bool,
}

/// What is to be done for one target.
#[derive(Default)]
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
                _ => changes.extend(undoing.changes),
            }
        }
        for change in follow_up {
            if !changes.iter().any(|known: &Change| known.to_string() == change.to_string()) {
                changes.push(change);
            }
        }
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

/// An empty kubelet.conf is what a loss of power left, and no membership.
async fn is_member<H: Observe>(host: &H) -> Result<bool, HostError> {
    Ok(host.read_file(Path::new(KUBELET_CONF)).await?.is_some_and(|text| !text.trim().is_empty()))
}

async fn undo<H: Observe>(host: &H, target: &Target) -> Result<Undoing, HostError> {
    Ok(match target {
        Target::File { place, before, mode, ours, mixed } => {
            let now = match place {
                Place::Host(path) => host.read_file(path).await?,
                Place::Home(user, path) => host.user_file(user, path).await?,
            };
            match content(now.as_deref(), before.as_deref(), ours, *mixed) {
                Content::Stays => Undoing::default(),
                Content::Becomes(content) => {
                    // One that somebody else changed too keeps the mode that it has now.
                    let mode = mode.filter(|_| content == *before);
                    Undoing::change(put(place, content, mode))
                }
                Content::Kept(lines) => Undoing::kept(format!("{}: {}", shown(place), lines.join(" | "))),
            }
        }
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
            let (did, masked) =
                (|action| actions.contains(&action), |state: &str| state.starts_with("masked"));
            if did(UnitAction::Mask) && masked(&now.file_state) && !masked(file_state) {
                change(UnitAction::Unmask);
            }
            if did(UnitAction::Disable) && now.file_state == "disabled" && file_state == "enabled" {
                change(UnitAction::Enable);
            }
            if did(UnitAction::Enable) && now.file_state == "enabled" && file_state == "disabled" {
                change(UnitAction::Disable);
            }
            if did(UnitAction::Stop) && *active && now.exists && !now.active {
                change(UnitAction::Start);
            }
            if did(UnitAction::Start) && !*active && now.active {
                change(UnitAction::Stop);
            }
            Undoing { changes, ..Undoing::default() }
        }
        Target::FirewallRule { rule } => {
            super::coordinator_port::undo(host, rule).await?.map_or_else(Undoing::default, Undoing::change)
        }
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

/// What becomes of a file.
#[derive(Debug, PartialEq)]
enum Content {
    Stays,
    /// None: it is removed.
    Becomes(Option<String>),
    /// Somebody changed it after us; these lines of ours are still in it.
    Kept(Vec<String>),
}

fn content(now: Option<&str>, before: Option<&str>, ours: &[String], mixed: bool) -> Content {
    let Some(now) = now else { return Content::Stays };
    if Some(now) == before {
        return Content::Stays;
    }
    if !mixed && ours.iter().any(|ours| ours == now) {
        return Content::Becomes(before.map(str::to_owned));
    }
    // What we wrote over somebody's change holds that change too; the first of ours is ours alone.
    let written = if mixed { ours.first() } else { ours.last() };
    let (before, written) = (before.unwrap_or_default(), written.map(String::as_str).unwrap_or_default());
    let lines = added(before, written);
    let still: Vec<String> =
        lines.iter().filter(|line| now.lines().any(|other| other == **line)).cloned().collect();
    if still.is_empty() {
        return Content::Stays;
    }
    // Where we only added lines, taking them out again keeps all that somebody else wrote.
    let only_added = added(written, before).is_empty() && !before.is_empty();
    match without(now, &lines).filter(|_| only_added) {
        Some(rest) => Content::Becomes(Some(rest)),
        None => Content::Kept(still),
    }
}

/// Without a mode a file keeps its own.
fn put(place: &Place, content: Option<String>, mode: Option<u32>) -> Change {
    let mode = mode.map_or(FileMode::IfNew(0o644), FileMode::exactly);
    match (place.clone(), content) {
        (Place::Host(path), Some(content)) => Change::WriteFile { path, content, mode },
        (Place::Host(path), None) => Change::RemoveFile { path },
        (Place::Home(user, path), Some(content)) => {
            Change::WriteUserFile { user, path, content, mode, secret: false }
        }
        (Place::Home(user, path), None) => Change::RemoveUserFile { user, path },
    }
}

fn shown(place: &Place) -> String {
    match place {
        Place::Host(path) => path.display().to_string(),
        Place::Home(user, path) => format!("~{user}/{}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost, File};
    use crate::steps::rehearsal::{carry_out, step};

    fn of(now: Option<&str>, before: Option<&str>, ours: &str) -> Content {
        content(now, before, &[ours.to_owned()], false)
    }

    #[test]
    fn a_file_of_ours_becomes_what_it_was_and_one_that_we_made_goes() {
        assert_eq!(of(Some("b\n"), Some("a\n"), "b\n"), Content::Becomes(Some("a\n".into())));
        assert_eq!(of(Some("b\n"), None, "b\n"), Content::Becomes(None));
        assert_eq!(of(Some("a\n"), Some("a\n"), "b\n"), Content::Stays);
        assert_eq!(of(None, Some("a\n"), "b\n"), Content::Stays, "somebody removed it");
    }

    #[test]
    fn what_somebody_wrote_after_us_is_kept_and_our_lines_are_named() {
        let kept = of(Some("# x none swap\nmine\n"), Some("x none swap\n"), "# x none swap\n");
        assert_eq!(kept, Content::Kept(vec!["# x none swap".into()]));
        assert_eq!(of(Some("mine\n"), Some("x\n"), "# x\n"), Content::Stays, "nothing of ours is left in it");
        assert_eq!(of(Some("b\nmine\n"), None, "b\n"), Content::Kept(vec!["b".into()]));
    }

    #[test]
    fn lines_that_we_only_added_are_taken_out_of_a_file_that_somebody_changed_since() {
        assert_eq!(
            of(Some("a\nours\nmine\n"), Some("a\n"), "a\nours\n"),
            Content::Becomes(Some("a\nmine\n".into()))
        );
    }

    #[tokio::test]
    async fn a_file_gets_the_mode_that_it_had_unless_that_is_not_known_or_somebody_changed_the_file_too() {
        let fstab = || std::path::PathBuf::from("/etc/fstab");
        for (mode, now, after) in [
            (Some(0o600), "a\nours\n", ("a\n", 0o600)),
            (None, "a\nours\n", ("a\n", 0o640)),
            (Some(0o600), "a\nours\nmine\n", ("a\nmine\n", 0o640)),
        ] {
            let host = FakeHost::debian("m1", FakeCluster::default());
            host.with(|state| state.files.insert(fstab(), File { content: now.into(), mode: 0o640 }));
            let (before, ours) = (Some("a\n".to_owned()), vec!["a\nours\n".to_owned()]);
            let target = Target::File { place: Place::Host(fstab()), before, mode, ours, mixed: false };
            let mut input = Input::default();
            input.ledger.entries.push(Entry { target, follow_up: Vec::new() });
            carry_out(&host, &step(Kind::Restore(agent::Restore::default())), &mut input).await;
            let stands = host.with(|state| state.files[&fstab()].clone());
            assert_eq!((stands.content.as_str(), stands.mode), after, "{mode:?} {now:?}");
        }
    }

    #[test]
    fn a_file_that_somebody_changed_between_two_of_our_changes_does_not_lose_that() {
        let both = ["b\n".to_owned(), "mine\nb\n".to_owned()];
        assert_eq!(content(Some("mine\nb\n"), Some("a\n"), &both, true), Content::Kept(vec!["b".into()]));
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
