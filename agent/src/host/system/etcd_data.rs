//! The one folder tree that the agent removes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::host::HostError;

/// Afterwards the folder is not there, and the disk holds that. Neither it nor the folder around it may be a link; one
/// further down is removed and not followed. Gone already is fine. `path` is `ETCD_MEMBER` on this host.
pub(super) async fn remove(path: PathBuf) -> Result<(), HostError> {
    let named = path.clone();
    let removed = tokio::task::spawn_blocking(move || remove_now(&path)).await;
    removed.map_err(|error| HostError::Unexpected {
        what: named.display().to_string(),
        message: error.to_string(),
    })?
}

fn remove_now(path: &Path) -> Result<(), HostError> {
    let failed = |action| {
        let path = path.to_owned();
        move |source| HostError::File { action, path, source }
    };
    let around = path.parent().unwrap_or(path);
    for folder in [around, path] {
        match fs::symlink_metadata(folder) {
            Ok(found) if found.is_dir() => {}
            Ok(found) => {
                let what = if found.is_symlink() { "a symbolic link" } else { "a file" };
                return Err(HostError::NoFolder { path: folder.to_owned(), what });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("looking at it")(error)),
        }
    }
    fs::remove_dir_all(path).map_err(failed("removing it"))?;
    fs::File::open(around).and_then(|folder| folder.sync_all()).map_err(failed("syncing its folder"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn the_tree_goes_and_nothing_that_a_link_leads_to() {
        let place = tempfile::tempdir().unwrap();
        let (etcd, elsewhere) = (place.path().join("etcd"), place.path().join("elsewhere"));
        fs::create_dir_all(etcd.join("member/snap")).unwrap();
        fs::create_dir_all(elsewhere.join("member")).unwrap();
        fs::write(elsewhere.join("member/db"), "mine").unwrap();
        fs::write(etcd.join("mine"), "mine").unwrap();
        symlink(&elsewhere, etcd.join("member/snap/link")).unwrap();
        for _ in 0..2 {
            remove(etcd.join("member")).await.unwrap();
            assert!(!etcd.join("member").exists() && etcd.join("mine").exists());
        }
        // The folder itself a link, and the one around it.
        symlink(elsewhere.join("member"), etcd.join("member")).unwrap();
        symlink(&elsewhere, place.path().join("linked")).unwrap();
        for path in ["etcd/member", "linked/member"] {
            let error = remove(place.path().join(path)).await.unwrap_err().to_string();
            assert!(error.contains("is a symbolic link"), "{error}");
        }
        assert!(elsewhere.join("member/db").exists());
    }
}
