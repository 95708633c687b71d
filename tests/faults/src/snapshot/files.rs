//! The files of a machine: every name with its kind, mode and owner, and of almost all what stands in them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::Snapshot;
use crate::machine::{Done, Machine, told};

/// Everywhere that Muster or kubeadm writes. A machine has nothing else that lasts but the stand-ins' own (/var/lib/etcd, of
/// which the objects are compared).
const PLACES: [&str; 9] = [
    "/etc",
    "/home/student",
    "/root",
    "/run/muster-agent",
    "/tmp",
    "/var/lib/kubelet",
    "/var/lib/muster-agent",
    "/var/lib/muster-coordinator",
    "/var/tmp",
];

/// Of these no content is compared, only that they are there, whose they are, and whether they are empty; and why.
const DRAWN: [(&str, &str); 9] = [
    ("/etc/kubernetes/pki/", "every cluster draws its own keys"),
    ("/etc/kubernetes/admin.conf", "holds a key and a certificate"),
    ("/etc/kubernetes/controller-manager.conf", "holds a key and a certificate"),
    ("/etc/kubernetes/kubelet.conf", "holds a key and a certificate"),
    ("/etc/kubernetes/scheduler.conf", "holds a key and a certificate"),
    ("/var/lib/kubelet/pki/", "every kubelet is given a certificate of its own"),
    ("/home/student/.kube/config", "is a copy of admin.conf"),
    ("/var/lib/muster-agent/journal.db", "the judgement reads it event by event"),
    (
        "/var/lib/muster-coordinator/",
        "its databases, of which the judgement reads the journal; its keys stand in no step",
    ),
];

/// What a path holds that is passed over, whatever is below it; and why.
const PASSED_OVER: [(&str, &str); 4] = [
    (
        "/tmp/namespace-dev-",
        "PrivateDevices= of a service that is stopped while systemd starts it: systemd leaves it behind",
    ),
    (".db-wal", "SQLite's, comes and goes"),
    (".db-shm", "SQLite's, comes and goes"),
    (
        "/tmp/systemd-private-",
        "PrivateTmp= of a service: drawn at its start, and a loss of power leaves it behind",
    ),
];

/// What is longer is compared by its digest, and so is what is no text.
const LONGEST: usize = 4096;

pub(super) fn of(machine: &Machine, found: &mut Snapshot) -> Done<()> {
    PLACES.iter().try_for_each(|place| entry(machine, place, found))
}

fn entry(machine: &Machine, path: &str, found: &mut Snapshot) -> Done<()> {
    if PASSED_OVER.iter().any(|(part, _)| path.contains(part)) {
        return Ok(());
    }
    let outside = machine.inside(path);
    let metadata = match outside.symlink_metadata() {
        Ok(metadata) => metadata,
        // Removed while we look, or never there.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", outside.display())),
    };
    let owner = format!("{}:{}", metadata.uid(), metadata.gid());
    let mode = metadata.permissions().mode() & 0o7777;
    let name = format!("{}:{path}", machine.name);
    if metadata.is_symlink() {
        let target = std::fs::read_link(&outside).map_err(told)?;
        found.insert(name, format!("{owner} -> {}", target.display()));
        return Ok(());
    }
    if !metadata.is_dir() {
        let drawn = DRAWN.iter().any(|(start, _)| path.starts_with(start));
        found.insert(name, format!("{owner} {mode:o} {}", content(&outside, drawn)));
        return Ok(());
    }
    found.insert(name, format!("{owner} {mode:o} folder"));
    for one in std::fs::read_dir(&outside).into_iter().flatten().flatten() {
        entry(machine, &format!("{path}/{}", one.file_name().to_string_lossy()), found)?;
    }
    Ok(())
}

fn content(path: &Path, drawn: bool) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    match String::from_utf8(bytes) {
        _ if drawn && path.metadata().is_ok_and(|metadata| metadata.len() == 0) => "empty".to_owned(),
        _ if drawn => "something drawn".to_owned(),
        Ok(text) if text.len() <= LONGEST => text,
        Ok(text) => digest(text.as_bytes()),
        Err(other) => digest(other.as_bytes()),
    }
}

fn digest(bytes: &[u8]) -> String {
    let mut digest = DefaultHasher::new();
    bytes.hash(&mut digest);
    format!("{} bytes, digest {:x}", bytes.len(), digest.finish())
}
