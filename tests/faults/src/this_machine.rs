//! The machine that tests, of which nothing may change: everything that an agent at work could reach by mistake, and whatever
//! of the matrix' own could be left behind on it.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::machine::LEFTOVER;

/// What an agent sets, and one that escaped its machine would set here.
const KERNEL: [&str; 5] = [
    "/proc/sys/kernel/hostname",
    "/proc/swaps",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
];
/// What Muster and kubeadm make on a node.
const OF_A_NODE: [&str; 5] = [
    "/var/lib/muster-agent",
    "/var/lib/muster-coordinator",
    "/run/muster-agent",
    "/etc/kubernetes",
    "/var/lib/kubelet",
];
/// What the mounts of the lab hold, which somebody else may be using meanwhile.
const OF_THE_LAB: [&str; 2] = ["muster-lab", "/run/netns/muster-"];
/// A process that was killed is gone once somebody has asked for its end.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// By name, what is there.
pub type State = BTreeMap<String, String>;

/// Content, mode and owner of everything in /etc, and what the kernel holds.
pub fn state() -> State {
    let mut found = State::new();
    for path in KERNEL {
        found.insert(path.to_owned(), fs::read_to_string(path).unwrap_or_default());
    }
    for place in OF_A_NODE {
        found.insert(place.to_owned(), Path::new(place).exists().to_string());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = mounts.lines().filter(|line| !OF_THE_LAB.iter().any(|lab| line.contains(lab)));
    // Point, kind and source; the numbers before them are the kernel's.
    let mut mounts: Vec<String> =
        mounts.map(|line| line.split_whitespace().skip(3).collect::<Vec<_>>().join(" ")).collect();
    mounts.sort_unstable();
    found.insert("mounts".to_owned(), mounts.join("\n"));
    files(Path::new("/etc"), &mut found);
    found
}

fn files(folder: &Path, found: &mut State) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let mut digest = DefaultHasher::new();
        if metadata.is_dir() {
            files(&path, found);
        } else if metadata.is_symlink() {
            fs::read_link(&path).ok().hash(&mut digest);
        } else if metadata.is_file() {
            fs::read(&path).ok().hash(&mut digest);
        }
        let mode = metadata.permissions().mode();
        let what = format!("{mode:o} {}:{} {:x}", metadata.uid(), metadata.gid(), digest.finish());
        found.insert(path.display().to_string(), what);
    }
}

/// What differs, by name.
pub fn changes(before: &State, after: &State) -> Vec<String> {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let differ = names.filter(|name| before.get(*name) != after.get(*name));
    differ.map(|name| format!("{name}: {:?} became {:?}", before.get(name), after.get(name))).collect()
}

/// What is left of this process's machines once all are off: control groups, processes in them with their namespaces of the
/// network, loop devices, mounts and folders. Other runs of the matrix have their own.
pub fn left_behind(folder: &Path) -> Vec<String> {
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let left = left_now(folder);
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn left_now(folder: &Path) -> Vec<String> {
    let own = format!("{LEFTOVER}{}-", std::process::id());
    let mut left = Vec::new();
    groups(Path::new("/sys/fs/cgroup"), &own, &mut left);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        // A dead one holds nothing any more.
        let is_dead = status.lines().any(|line| line.starts_with("State:\tZ"));
        if groups.contains(&own) && !is_dead {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let network = fs::read_link(entry.path().join("ns/net")).unwrap_or_default();
            left.push(format!("process {} {} in {}", entry.path().display(), name.trim(), network.display()));
        }
    }
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let backing = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if Path::new(backing.trim()).starts_with(folder) {
            left.push(format!("{} holds {}", entry.path().display(), backing.trim()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = folder.display().to_string();
    left.extend(mounts.lines().filter(|line| line.contains(&below)).map(|line| format!("mounted: {line}")));
    left
}

fn groups(place: &Path, own: &str, left: &mut Vec<String>) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().starts_with(own) {
            left.push(format!("control group {}", path.display()));
        }
        groups(&path, own, left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_went_or_changed_is_named_and_nothing_else() {
        let of = |pairs: &[(&str, &str)]| -> State {
            pairs.iter().map(|(name, what)| ((*name).to_owned(), (*what).to_owned())).collect()
        };
        let before = of(&[("/etc/a", "1"), ("/etc/b", "2"), ("/etc/c", "3")]);
        assert_eq!(changes(&before, &before), Vec::<String>::new());
        let told = changes(&before, &of(&[("/etc/a", "1"), ("/etc/b", "x"), ("/etc/d", "4")]));
        assert_eq!(told.len(), 3);
        assert!(told[0].starts_with("/etc/b: Some(\"2\") became Some(\"x\")"), "{told:?}");
    }

    #[test]
    fn this_machine_has_an_etc_and_nothing_of_the_matrix_is_on_it() {
        assert!(state().keys().any(|name| name == "/etc/passwd"));
        assert_eq!(left_behind(Path::new("/dev/shm/muster-faults-none")), Vec::<String>::new());
    }
}
