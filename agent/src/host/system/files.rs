//! Files of the host by their path. The folder part of a path is the administrator's own and may hold links; the file
//! itself is never one.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::obstacles;
use super::plain_file::{FileProblem, Folder};
use crate::host::HostError;
use crate::host::change::FileMode;
use crate::host::obstacle::Obstacle;
use crate::host::query::Disk;
use crate::host::text;

/// The content of a plain file, whatever its bytes are (`text`); none when there is no such file.
pub(super) async fn read(path: PathBuf) -> Result<Option<String>, HostError> {
    blocking(path, |path| {
        let (folder, name) = split(path)?;
        let Some(folder) = Folder::open(folder)? else { return Ok(None) };
        folder.read(name)
    })
    .await
    .map(|(_, content)| content.map(text::of_bytes))
}

/// The content of the file that a path leads to, links followed; empty where it leads to a device or to nothing, none where
/// nothing has the name.
pub(super) async fn read_through(path: PathBuf) -> Result<Option<String>, HostError> {
    blocking(path, |path| {
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let Some(real) = path.canonicalize().ok().filter(|real| real.is_file()) else {
            return Ok(Some(Vec::new()));
        };
        let (folder, name) = split(&real)?;
        Folder::open(folder)?.map_or(Ok(None), |folder| folder.read(name))
    })
    .await
    .map(|(_, content)| content.map(text::of_bytes))
}

/// The names in a folder; empty when there is no such folder.
pub(super) async fn list(path: PathBuf) -> Result<Vec<String>, HostError> {
    let listed = blocking(path, |path| Folder::open(path)?.map_or(Ok(Vec::new()), |folder| folder.names()));
    listed.await.map(|(_, names)| names)
}

/// The permission bits of a plain file, none when there is no such file.
pub(super) async fn mode(path: PathBuf) -> Result<Option<u32>, HostError> {
    let looked = blocking(path, |path| {
        let (folder, name) = split(path)?;
        Folder::open(folder)?.map_or(Ok(None), |folder| folder.mode(name))
    });
    looked.await.map(|(_, mode)| mode)
}

/// What is in a plain file, whatever its bytes are; empty when there is no such file.
pub(super) async fn read_lossy(path: PathBuf) -> Result<String, HostError> {
    let read = blocking(path, |path| {
        let (folder, name) = split(path)?;
        Folder::open(folder)?.map_or(Ok(None), |folder| folder.read(name))
    });
    let content = read.await?.1.unwrap_or_default();
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// When a plain file was written last, none when there is no such file.
pub(super) async fn written(path: PathBuf) -> Result<Option<Timestamp>, HostError> {
    let looked = blocking(path, |path| {
        let (folder, name) = split(path)?;
        Folder::open(folder)?.map_or(Ok(None), |folder| folder.written(name))
    });
    looked.await.map(|(_, time)| time)
}

/// Replaces a plain file, or makes it with the folders on the way.
pub(super) async fn write(path: PathBuf, content: String, mode: FileMode) -> Result<(), HostError> {
    let written = blocking(path, move |path| {
        let (folder, name) = split(path)?;
        make_folders(folder, 0o755)?.write(name, &text::to_bytes(&content), mode)
    });
    written.await.map(|_| ())
}

/// Removes a plain file; gone already is fine.
pub(super) async fn remove(path: PathBuf) -> Result<(), HostError> {
    let removed = blocking(path, |path| {
        let (folder, name) = split(path)?;
        Folder::open(folder)?.map_or(Ok(()), |folder| folder.remove(name))
    });
    removed.await.map(|_| ())
}

/// What would keep the file from being written.
pub(super) async fn obstacle(path: PathBuf) -> Result<Option<Obstacle>, HostError> {
    blocking(path, |path| Ok(obstacles::of_file(path))).await.map(|(_, obstacle)| obstacle)
}

/// The file system of the path, or of its nearest folder that exists.
pub(super) async fn disk(path: PathBuf) -> Result<Disk, HostError> {
    let looked = blocking(path, |path| {
        let there = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        let source = |error: rustix::io::Errno| FileProblem::System {
            action: "looking at the file system",
            source: error.into(),
        };
        let found = rustix::fs::statvfs(there).map_err(source)?;
        Ok(Disk { total: found.f_blocks * found.f_frsize, available: found.f_bavail * found.f_frsize })
    });
    looked.await.map(|(_, disk)| disk)
}

/// The folder, made with its parents when it is missing.
pub(super) fn make_folders(path: &Path, mode: u32) -> Result<Folder, FileProblem> {
    let mut existing = path;
    loop {
        if let Some(folder) = Folder::open(existing)? {
            let missing = path.strip_prefix(existing).unwrap_or(Path::new(""));
            let made = folder.below(missing, Some(mode))?;
            return made.ok_or(FileProblem::System { action: "making the folder", source: not_found() });
        }
        existing = existing
            .parent()
            .ok_or(FileProblem::System { action: "making the folder", source: not_found() })?;
    }
}

fn not_found() -> std::io::Error {
    std::io::ErrorKind::NotFound.into()
}

/// Folder and name of an absolute path.
fn split(path: &Path) -> Result<(&Path, &Path), FileProblem> {
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if path.is_absolute() => Ok((folder, Path::new(name))),
        _ => {
            Err(FileProblem::System { action: "finding it", source: std::io::ErrorKind::InvalidInput.into() })
        }
    }
}

/// Runs file work on a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> Result<T, FileProblem> + Send + 'static,
) -> Result<(PathBuf, T), HostError> {
    let named = path.clone();
    let done = tokio::task::spawn_blocking(move || work(&path).map(|value| (path.clone(), value))).await;
    match done {
        Ok(outcome) => outcome.map_err(|problem| with_path(problem, named)),
        Err(error) => {
            Err(HostError::Unexpected { what: named.display().to_string(), message: error.to_string() })
        }
    }
}

/// The problem with the path that it happened at.
pub(super) fn with_path(problem: FileProblem, path: PathBuf) -> HostError {
    match problem {
        FileProblem::System { action, source } => HostError::File { action, path, source },
        FileProblem::NotPlain { what } => HostError::NotPlain { path, what },
        FileProblem::TooLarge => {
            HostError::Unexpected { what: path.display().to_string(), message: problem.to_string() }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[tokio::test]
    async fn folders_on_the_way_are_made_and_an_absent_file_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("etc/modules-load.d/muster.conf");
        assert!(read(path.clone()).await.unwrap().is_none());
        assert!(mode(path.clone()).await.unwrap().is_none());
        remove(path.clone()).await.unwrap();
        write(path.clone(), "overlay\n".into(), FileMode::IfNew(0o644)).await.unwrap();
        assert_eq!(read(path.clone()).await.unwrap().as_deref(), Some("overlay\n"));
        assert_eq!(mode(path.clone()).await.unwrap(), Some(0o644));
        let folder = std::fs::metadata(place.path().join("etc")).unwrap();
        assert_eq!(folder.permissions().mode() & 0o7777, 0o755);
        assert_eq!(list(place.path().join("etc")).await.unwrap(), ["modules-load.d"]);
        assert!(list(place.path().join("nowhere")).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_refusal_names_the_path_and_what_stands_there() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("hosts");
        symlink("/etc/hosts", &path).unwrap();
        let error = write(path.clone(), String::new(), FileMode::IfNew(0o644)).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{} is a symbolic link, not a plain file", path.display())),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_setting_is_read_through_its_link_and_a_mask_is_empty() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("real"), "a = 1\n").unwrap();
        symlink("real", at("link")).unwrap();
        symlink("/dev/null", at("mask")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        for (name, content) in [
            ("real", Some("a = 1\n")),
            ("link", Some("a = 1\n")),
            ("mask", Some("")),
            ("dangling", Some("")),
            ("none", None),
        ] {
            assert_eq!(read_through(at(name)).await.unwrap().as_deref(), content, "{name}");
        }
    }

    #[tokio::test]
    async fn a_line_is_added_to_a_file_in_another_encoding_and_its_other_bytes_stay() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("hosts");
        std::fs::write(&path, b"# Drucker im B\xfcro\r\n10.88.0.60\tprinter").unwrap();
        let text = read(path.clone()).await.unwrap().unwrap();
        write(path.clone(), format!("{text}\nours\n"), FileMode::IfNew(0o644)).await.unwrap();
        let written = std::fs::read(&path).unwrap();
        assert_eq!(written, b"# Drucker im B\xfcro\r\n10.88.0.60\tprinter\nours\n");
    }
}
