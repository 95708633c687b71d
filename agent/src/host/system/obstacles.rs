//! Looking for what would keep a file from being written. Nothing is tried: a look must leave no trace.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, IFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::plain_file::{ELSEWHERE, what_is};
use crate::host::obstacle::Obstacle;

/// Of a file of the system; links among its folders are the administrator's own.
pub(super) fn of_file(path: &Path) -> Option<Obstacle> {
    let (folder, name) = (path.parent()?, path.file_name()?);
    match open(folder, OFlags::empty()) {
        Ok(opened) => in_folder(&opened, folder, Path::new(name), false),
        // It will be made: in the nearest folder that there is.
        Err(Errno::NOENT) => folder
            .ancestors()
            .find_map(|above| Some((open(above, OFlags::empty()).ok()?, above)))
            .and_then(|(opened, above)| writable(&opened, above)),
        Err(_) => None,
    }
}

/// Of a file below a home, as its user, who may follow no link on the way.
pub(super) fn of_file_below(home: &Path, path: &Path) -> Option<Obstacle> {
    let mut at: PathBuf = home.to_owned();
    let mut folder = match open(home, OFlags::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT | Errno::NOTDIR) => return Some(Obstacle::NoHome { path: at }),
        Err(_) => return not_ours(CWD, home, &at),
    };
    for part in path.parent()?.components() {
        let Component::Normal(name) = part else {
            return Some(Obstacle::NotPlain { path: at.join(path), what: ELSEWHERE.to_owned() });
        };
        at.push(name);
        let opened = rustix::fs::openat(
            &folder,
            name,
            OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        folder = match opened {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return writable(&folder, at.parent()?),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
                let what = match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => "a file where a folder has to be",
                    kind => what_is(kind).unwrap_or(ELSEWHERE),
                };
                return Some(Obstacle::NotPlain { path: at, what: what.to_owned() });
            }
            Err(_) => return not_ours(&folder, Path::new(name), &at),
        };
    }
    in_folder(&folder, &at, Path::new(path.file_name()?), true)
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// Of the file with this name in an open folder, whose path is `at`. `to_read`: it has to be read before it is written.
fn in_folder(folder: &OwnedFd, at: &Path, name: &Path, to_read: bool) -> Option<Obstacle> {
    let path = at.join(name);
    if let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        if let Some(what) = what_is(FileType::from_raw_mode(stat.st_mode)) {
            return Some(Obstacle::NotPlain { path, what: what.to_owned() });
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(file) => {
                if let Some(letter) = attribute(&file) {
                    return Some(Obstacle::Attribute { path, letter });
                }
            }
            Err(Errno::ACCESS | Errno::PERM) if to_read => return Some(owned(&stat, path)),
            Err(_) => {}
        }
    }
    writable(folder, at)
}

/// Of making a name in an open folder, whose path is `at`.
fn writable(folder: &OwnedFd, at: &Path) -> Option<Obstacle> {
    if let Some(letter) = attribute(folder) {
        return Some(Obstacle::Attribute { path: at.to_owned(), letter });
    }
    match rustix::fs::accessat(folder, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        Err(Errno::ROFS) => Some(Obstacle::ReadOnly { path: at.to_owned() }),
        Err(Errno::ACCESS | Errno::PERM) => not_ours(folder, Path::new("."), at),
        _ => None,
    }
}

fn not_ours(folder: impl AsFd, name: &Path, at: &Path) -> Option<Obstacle> {
    let stat = rustix::fs::statat(folder, name, AtFlags::empty()).ok()?;
    Some(owned(&stat, at.to_owned()))
}

fn owned(stat: &Stat, path: PathBuf) -> Obstacle {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(stat.st_uid)).ok().flatten();
    let owner = user.map_or_else(|| format!("the user with the number {}", stat.st_uid), |user| user.name);
    Obstacle::NotOurs { path, owner, mode: stat.st_mode & 0o7777 }
}

/// What chattr has set that forbids replacing it; none where the file system has no such attributes.
fn attribute(file: &OwnedFd) -> Option<char> {
    let flags = rustix::fs::ioctl_getflags(file).ok()?;
    match () {
        () if flags.contains(IFlags::IMMUTABLE) => Some('i'),
        () if flags.contains(IFlags::APPEND) => Some('a'),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_that_can_be_written_has_no_obstacle_whether_it_is_there_or_not() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("file"), "x").unwrap();
        for path in ["file", "new", "folder/that/is/not/there"] {
            assert_eq!(of_file(&place.path().join(path)), None, "{path}");
            assert_eq!(of_file_below(place.path(), Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn what_stands_in_the_place_of_a_file_or_on_the_way_to_it_is_named_with_its_own_path() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path();
        std::fs::create_dir(home.join(".bashrc")).unwrap();
        std::fs::write(home.join("file"), "x").unwrap();
        symlink("/srv/kube", home.join(".kube")).unwrap();
        symlink("dotfiles/profile", home.join(".profile")).unwrap();
        let found = |path: &str| match of_file_below(home, Path::new(path)) {
            Some(Obstacle::NotPlain { path, what }) => {
                (path.strip_prefix(home).unwrap().display().to_string(), what)
            }
            other => panic!("{other:?}"),
        };
        let told = |path: &str, what: &str| (path.to_owned(), what.to_owned());
        assert_eq!(found(".bashrc"), told(".bashrc", "a folder"));
        assert_eq!(found(".kube/config"), told(".kube", "a symbolic link"));
        assert_eq!(found(".profile"), told(".profile", "a symbolic link"));
        assert_eq!(found("file/config"), told("file", "a file where a folder has to be"));
        assert_eq!(
            of_file_below(&home.join("nobody"), Path::new(".bashrc")),
            Some(Obstacle::NoHome { path: home.join("nobody") })
        );
    }
}
