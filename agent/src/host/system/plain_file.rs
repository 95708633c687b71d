//! Plain files, reached through a handle on their folder: a link is never followed, and a file is replaced whole or not
//! at all. What goes wrong is told without the path; the callers know it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::host::change::FileMode;

/// More than this is no file that Muster reads.
pub(super) const LARGEST: u64 = 16 * 1024 * 1024;

/// What can stand where a plain file should.
pub(super) const KINDS: [&str; 6] =
    ["a symbolic link", "a folder", "a device", "a named pipe", "a socket", ELSEWHERE];

/// What a path leads to that goes over a link, or out of the folder in which it has to stay.
pub(super) const ELSEWHERE: &str = "not below a real folder";

#[derive(Debug, thiserror::Error)]
pub(super) enum FileProblem {
    #[error("{action} failed: {source}")]
    System { action: &'static str, source: io::Error },
    #[error("it is {what}")]
    NotPlain { what: &'static str },
    #[error("it is larger than {} MiB", LARGEST / 1024 / 1024)]
    TooLarge,
}

fn failed(action: &'static str) -> impl Fn(Errno) -> FileProblem {
    move |error| FileProblem::System { action, source: error.into() }
}

fn failed_io(action: &'static str) -> impl Fn(io::Error) -> FileProblem {
    move |source| FileProblem::System { action, source }
}

/// An open folder: its files are reached by name alone, whatever happens to its path meanwhile.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder whose path is trusted: links on the way are followed. None when there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, FileProblem> {
        match rustix::fs::openat(
            CWD,
            path,
            OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(folder) => Ok(Some(Self(folder))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("opening the folder")(error)),
        }
    }

    /// Goes down by one name at a time and follows no link. Missing folders are made with the mode, if one is given.
    pub(super) fn below(self, path: &Path, make: Option<u32>) -> Result<Option<Self>, FileProblem> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder = self;
        for part in path.components() {
            let Component::Normal(name) = part else {
                return Err(FileProblem::NotPlain { what: ELSEWHERE });
            };
            let open = || rustix::fs::openat(&folder.0, name, flags, Mode::empty());
            let opened = match (open(), make) {
                (Err(Errno::NOENT), None) => return Ok(None),
                (Err(Errno::NOENT), Some(mode)) => {
                    let mode = Mode::from_raw_mode(mode);
                    match rustix::fs::mkdirat(&folder.0, name, mode) {
                        Ok(()) => {
                            // The umask may have taken bits away.
                            let made = open().map_err(failed("opening the folder"))?;
                            rustix::fs::fchmod(&made, mode).map_err(failed("setting the mode"))?;
                            folder.sync()?;
                            Ok(made)
                        }
                        // Made by somebody else since it was looked for: what stands there decides.
                        Err(Errno::EXIST) => open(),
                        Err(error) => return Err(failed("making the folder")(error)),
                    }
                }
                (opened, _) => opened,
            };
            folder = match opened {
                Ok(opened) => Self(opened),
                Err(Errno::LOOP | Errno::NOTDIR) => return Err(FileProblem::NotPlain { what: ELSEWHERE }),
                Err(error) => return Err(failed("opening the folder")(error)),
            };
        }
        Ok(Some(folder))
    }

    /// The names in the folder, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>, FileProblem> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0).map_err(failed("listing"))? {
            let entry = entry.map_err(failed("listing"))?;
            let name = entry.file_name().to_string_lossy();
            if name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The content of a plain file, none when there is no such file.
    pub(super) fn read(&self, name: &Path) -> Result<Option<Vec<u8>>, FileProblem> {
        // Looked at before it is opened: opening a device can do something, opening a pipe can wait for ever.
        if self.plain(name)?.is_none() {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.0, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed("opening")(error)),
        };
        // It may have been exchanged since.
        kind_of(&rustix::fs::fstat(&file).map_err(failed("looking at it"))?)?;
        let mut content = Vec::new();
        File::from(file).take(LARGEST + 1).read_to_end(&mut content).map_err(failed_io("reading"))?;
        if content.len() as u64 > LARGEST { Err(FileProblem::TooLarge) } else { Ok(Some(content)) }
    }

    /// The permission bits of a plain file, none when there is no such file.
    pub(super) fn mode(&self, name: &Path) -> Result<Option<u32>, FileProblem> {
        Ok(self.plain(name)?.map(|stat| stat.st_mode & 0o7777))
    }

    /// When a plain file's content changed last, none when there is no such file.
    pub(super) fn written(&self, name: &Path) -> Result<Option<Timestamp>, FileProblem> {
        let time = |stat: Stat| Timestamp::new(stat.st_mtime, i32::try_from(stat.st_mtime_nsec).ok()?).ok();
        Ok(self.plain(name)?.and_then(time))
    }

    /// Replaces a plain file, or makes it. It belongs to whom the old one belonged to. Another name of the old one (a hard link,
    /// as backups make them) keeps the old content.
    pub(super) fn write(&self, name: &Path, content: &[u8], mode: FileMode) -> Result<(), FileProblem> {
        let mut replacement = self.begin(name, mode)?;
        let written = replacement.file.write_all(content).map_err(failed_io("writing"));
        match written.and_then(|()| replacement.commit()) {
            Ok(()) => Ok(()),
            Err(problem) => {
                let _ = rustix::fs::unlinkat(&self.0, &replacement.temporary, AtFlags::empty());
                Err(problem)
            }
        }
    }

    /// An empty file beside the one that it will replace, with the final owner and mode already.
    fn begin<'a>(&'a self, name: &'a Path, mode: FileMode) -> Result<Replacement<'a>, FileProblem> {
        let old = self.plain(name)?;
        // Always the same name, so that no more than one leftover of a killed writer can exist; it is removed here.
        let temporary = format!(".{}.muster-new", name.to_string_lossy());
        match rustix::fs::unlinkat(&self.0, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("removing a leftover")(error)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, &temporary, flags, Mode::from_raw_mode(0o600))
            .map_err(failed("making a temporary file"))?;
        // Not the bits that run a file as somebody else: the agent's unit may not set them.
        let wanted = mode.over(old.map(|old| old.st_mode)) & 0o777;
        let mode = old.map_or(Ok(wanted), |old| keep_owner(&file, &old, wanted))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed("setting the mode"))?;
        Ok(Replacement { folder: self, name, temporary, file: file.into() })
    }

    /// Removes a plain file. Gone already is fine.
    pub(super) fn remove(&self, name: &Path) -> Result<(), FileProblem> {
        if self.plain(name)?.is_none() {
            return Ok(());
        }
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) => self.sync(),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("removing")(error)),
        }
    }

    /// A new file that nobody else can read, open for appending; whatever had the name is removed, never opened.
    pub(super) fn fresh(&self, name: &str) -> Result<OwnedFd, FileProblem> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("removing a leftover")(error)),
        }
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, name, flags, Mode::from_raw_mode(0o600)).map_err(failed("making a file"))
    }

    /// What stands under the name, if it is a plain file; none when nothing does.
    fn plain(&self, name: &Path) -> Result<Option<Stat>, FileProblem> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => kind_of(&stat).map(|()| Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("looking at it")(error)),
        }
    }

    fn sync(&self) -> Result<(), FileProblem> {
        rustix::fs::fsync(&self.0).map_err(failed("writing the folder to disk"))
    }
}

/// Gives a new file to the owner and the group of the one that it will replace, and says which mode it may then have.
/// Without the right to (a user; the agent, which gave its capabilities up) it stays whom it belongs to.
fn keep_owner(file: &OwnedFd, old: &Stat, mode: u32) -> Result<u32, FileProblem> {
    let new = rustix::fs::fstat(file).map_err(failed("looking at it"))?;
    if (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid) {
        return Ok(mode);
    }
    let (user, group) = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
    match rustix::fs::fchown(file, Some(user), Some(group))
        .or_else(|_| rustix::fs::fchown(file, None, Some(group)))
    {
        Ok(()) => Ok(mode),
        Err(Errno::PERM) if new.st_gid == old.st_gid => Ok(mode),
        Err(Errno::PERM) => Ok(for_another_group(mode)),
        Err(error) => Err(failed("setting the owner")(error)),
    }
}

/// What the old group was allowed was not meant for another one, which gets no more than everybody.
fn for_another_group(mode: u32) -> u32 {
    let everybodys = (mode & 0o007) << 3;
    (mode & 0o707) | (mode & everybodys)
}

fn kind_of(stat: &Stat) -> Result<(), FileProblem> {
    what_is(FileType::from_raw_mode(stat.st_mode)).map_or(Ok(()), |what| Err(FileProblem::NotPlain { what }))
}

/// In words; none for a plain file.
pub(super) fn what_is(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::RegularFile => None,
        FileType::Symlink => Some(KINDS[0]),
        FileType::Directory => Some(KINDS[1]),
        FileType::Fifo => Some(KINDS[3]),
        FileType::Socket => Some(KINDS[4]),
        _ => Some(KINDS[2]),
    }
}

/// A file on its way to replace another. Dropped before `commit`, the old file stands untouched.
struct Replacement<'a> {
    folder: &'a Folder,
    name: &'a Path,
    temporary: String,
    file: File,
}

impl Replacement<'_> {
    fn commit(&self) -> Result<(), FileProblem> {
        self.file.sync_all().map_err(failed_io("writing to disk"))?;
        rustix::fs::renameat(&self.folder.0, &self.temporary, &self.folder.0, self.name)
            .map_err(failed("putting the new file in place"))?;
        self.folder.sync()
    }
}

#[cfg(test)]
mod tests;
