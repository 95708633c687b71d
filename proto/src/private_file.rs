//! Files of our own state that must be whole or absent, and readable by their owner alone.

#![allow(clippy::disallowed_methods, reason = "here it is done whole, private and without following links")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file that could not be written, read, or made private.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be {action}: is the disk full, or the folder of another owner?")]
pub struct FileError {
    path: PathBuf,
    action: &'static str,
    source: io::Error,
}

/// Writes the file whole or not at all: temporary file with its mode first, fsync, rename, fsync of the folder.
/// A symlink that stands at the path is replaced, never followed.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source| FileError { path: path.to_owned(), action: "written", source };
    let (temporary, folder) = (temporary_beside(path)?, path.parent().unwrap_or(Path::new("/")));
    // A leftover of a killed process with the same id.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        // The umask may have taken bits away that the caller asked for.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        failed(source)
    })
}

/// Where a file is prepared that is to stand at `path`: beside it, under a name of this process.
pub fn temporary_beside(path: &Path) -> Result<PathBuf, FileError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        let source = io::ErrorKind::InvalidInput.into();
        return Err(FileError { path: path.to_owned(), action: "written", source });
    };
    Ok(folder.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id())))
}

/// Gives a file that was prepared on the same disk its name, durably. One that stands there already stays.
pub fn put_new(prepared: &Path, path: &Path) -> Result<(), FileError> {
    let put = || match fs::hard_link(prepared, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all(),
    };
    put().map_err(|source| FileError { path: path.to_owned(), action: "written", source })
}

/// Writes a file that is not there yet; one that stands there already stays as it is.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let prepared = temporary_beside(path)?;
    let put = write(&prepared, bytes, mode).and_then(|()| put_new(&prepared, path));
    remove(&prepared);
    put
}

/// Removes a file that was only prepared; one that cannot be removed does no harm.
pub fn remove(prepared: &Path) {
    let _ = fs::remove_file(prepared);
}

/// The file's content; none when there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError { path: path.to_owned(), action: "read", source }),
    }
}

/// Makes the folder, with its parents, when it is missing; only its owner may enter a folder made here.
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    make_folder_with(path, 0o700)
}

/// The same for a folder that everybody may read, such as one for settings.
pub fn make_public_folder(path: &Path) -> Result<(), FileError> {
    make_folder_with(path, 0o755)
}

fn make_folder_with(path: &Path, mode: u32) -> Result<(), FileError> {
    let failed = |source| FileError { path: path.to_owned(), action: "made", source };
    let is_new = !path.exists();
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    // The umask of whoever calls took bits off: a folder of settings would shut out the daemon that reads them.
    if is_new { fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_and_replaces_a_planted_link_without_touching_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let (target, path) = (folder.path().join("target"), folder.path().join("key"));
        fs::write(&target, "untouched").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        write(&path, b"secret", 0o600).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"untouched");
        assert_eq!(read(&path).unwrap().unwrap(), b"secret");
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn a_folder_has_its_mode_whatever_the_umask_and_one_that_is_there_keeps_its_own() {
        // The umask belongs to the whole process, so a process of its own has it.
        let folder = tempfile::tempdir().unwrap();
        if let Some(path) = std::env::var_os("MUSTER_UNDER_UMASK") {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            return make_public_folder(Path::new(&path)).unwrap();
        }
        let (fresh, there) = (folder.path().join("fresh"), folder.path().join("there"));
        fs::DirBuilder::new().mode(0o700).create(&there).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for path in [&fresh, &there] {
            let ended = std::process::Command::new(std::env::current_exe().unwrap())
                .arg("whatever_the_umask")
                .env("MUSTER_UNDER_UMASK", path)
                .output()
                .unwrap();
            assert!(ended.status.success(), "{ended:?}");
        }
        assert_eq!((mode(&fresh), mode(&there)), (0o755, 0o700));
    }

    #[test]
    fn of_two_new_files_the_first_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_new(&path, b"first", 0o600).unwrap();
        write_new(&path, b"second", 0o600).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn an_absent_file_is_no_error() {
        assert!(read(Path::new("/nonexistent/muster")).unwrap().is_none());
    }
}
