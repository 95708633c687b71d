//! Files below a user's home. A user may plant links there, so root never touches them: the agent starts its own binary
//! again as that user (`agent user-file`), which can do no more than the user and follows no link.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use muster_proto::names::UserName;
use tokio::process::Command;

use super::SystemHost;
use super::child::{self, Answer};
use super::errand::{self, Errand};
use super::obstacles;
use super::plain_file::{ELSEWHERE, FileProblem, Folder, KINDS, LARGEST};
use crate::host::HostError;
use crate::host::change::FileMode;
use crate::host::obstacle::Obstacle;
use crate::host::query::User;
use crate::host::text;

/// The hidden subcommand of the agent's binary; `main` hands its arguments to `run_child`.
pub const SUBCOMMAND: &str = "user-file";

/// A home may be on a network that hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// The child's exit codes besides 0; from `NOT_PLAIN` on the place in `KINDS`.
const FAILED: u8 = 1;
const ABSENT: u8 = 10;
const NOT_PLAIN: u8 = 20;

/// Stands behind the mode that a file gets whatever mode it has.
const EXACTLY: &str = "exactly";

/// Folders made on the way (`.kube`) hold credentials.
const FOLDER_MODE: u32 = 0o700;

impl SystemHost {
    pub(super) async fn passwd(&self, name: &UserName) -> Result<Option<User>, HostError> {
        let (wanted, name) = (name.to_string(), name.clone());
        let asked = tokio::task::spawn_blocking(move || nix::unistd::User::from_name(&wanted));
        // The name service may ask a directory on the network.
        let what = format!("the passwd entry of {name}");
        let found = tokio::time::timeout(LIMIT, asked)
            .await
            .map_err(|_| HostError::TimedOut { what: what.clone(), limit: LIMIT })?
            .map_err(|error| HostError::Unexpected { what: what.clone(), message: error.to_string() })?
            .map_err(|error| HostError::Unexpected { what, message: error.to_string() })?;
        Ok(found.map(|found| User {
            name,
            uid: found.uid.as_raw(),
            gid: found.gid.as_raw(),
            home: found.dir,
        }))
    }

    pub(super) async fn read_user_file(
        &self,
        name: &UserName,
        path: &Path,
    ) -> Result<Option<String>, HostError> {
        Ok(self.ask_user_file("read", name, path).await?.map(|(_, content)| text::of_bytes(content)))
    }

    /// The permission bits of a user's file, none when there is no such file.
    pub(super) async fn user_file_mode(
        &self,
        name: &UserName,
        path: &Path,
    ) -> Result<Option<u32>, HostError> {
        let Some((full, said)) = self.ask_user_file("mode", name, path).await? else { return Ok(None) };
        let said = String::from_utf8_lossy(&said);
        u32::from_str_radix(&said, 8).map(Some).map_err(|_| HostError::Unexpected {
            what: full.display().to_string(),
            message: format!("its mode is {said:?}"),
        })
    }

    /// What would keep the user from writing a file.
    pub(super) async fn obstacle_of_user_file(
        &self,
        name: &UserName,
        path: &Path,
    ) -> Result<Option<Obstacle>, HostError> {
        let Some((full, said)) = self.ask_user_file("obstacle", name, path).await? else { return Ok(None) };
        serde_json::from_slice(&said).map(Some).map_err(|error| HostError::Unexpected {
            what: format!("what keeps {} from being written", full.display()),
            message: error.to_string(),
        })
    }

    /// What the child says of a file, with the file's whole path; none when there is no such file.
    async fn ask_user_file(
        &self,
        verb: &str,
        name: &UserName,
        path: &Path,
    ) -> Result<Option<(PathBuf, Vec<u8>)>, HostError> {
        let Some(user) = self.passwd(name).await? else { return Ok(None) };
        let answer = self.as_user(&user, &[verb.into(), user.home.clone(), path.into()], None).await?;
        if answer.status.code() == Some(ABSENT.into()) {
            return Ok(None);
        }
        let full = user.home.join(path);
        let said = outcome(answer, &user, &full)?;
        Ok(Some((full, said)))
    }

    pub(super) async fn write_user_file(
        &self,
        name: &UserName,
        path: &Path,
        content: &str,
        mode: FileMode,
    ) -> Result<(), HostError> {
        let Some(user) = self.passwd(name).await? else {
            return Err(HostError::Unexpected {
                what: format!("user {name}"),
                message: "no such user".to_owned(),
            });
        };
        let mut arguments = vec!["write".into(), user.home.clone(), path.into()];
        arguments.extend(words_of(mode).map(PathBuf::from));
        let answer = self.as_user(&user, &arguments, Some(&text::to_bytes(content))).await?;
        outcome(answer, &user, &user.home.join(path)).map(|_| ())
    }

    pub(super) async fn remove_user_file(&self, name: &UserName, path: &Path) -> Result<(), HostError> {
        let Some(user) = self.passwd(name).await? else { return Ok(()) };
        let answer = self.as_user(&user, &["remove".into(), user.home.clone(), path.into()], None).await?;
        outcome(answer, &user, &user.home.join(path)).map(|_| ())
    }

    /// Our own binary as that user. The agent cannot become somebody else itself: systemd starts it so, in the home as
    /// everybody sees it.
    async fn as_user(
        &self,
        user: &User,
        arguments: &[PathBuf],
        input: Option<&[u8]>,
    ) -> Result<Answer, HostError> {
        const NAME: &str = "agent user-file";
        if !errand::possible() {
            let mut command = Command::new(&self.own_binary);
            command.arg(SUBCOMMAND).args(arguments);
            return child::finish(command, NAME, input, LIMIT).await;
        }
        let path = installed_binary()
            .map_err(|source| HostError::NotStarted { program: NAME.to_owned(), source })?;
        let words = arguments.iter().map(|word| word.to_string_lossy().into_owned());
        let arguments = std::iter::once(SUBCOMMAND.to_owned()).chain(words).collect();
        let errand = Errand { path, arguments, user: Some((user.uid, user.gid)), limit: LIMIT };
        errand.run(NAME, input).await
    }
}

/// Where our binary is installed: after an upgrade that is the new one, which speaks to its children as the old one did.
fn installed_binary() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let replaced = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(replaced.unwrap_or(path))
}

/// The child's standard output, or what its exit code says.
fn outcome(answer: Answer, user: &User, path: &Path) -> Result<Vec<u8>, HostError> {
    let code = answer.status.code().and_then(|code| u8::try_from(code).ok());
    match code {
        Some(0) => Ok(answer.output),
        Some(code) if code >= NOT_PLAIN && usize::from(code - NOT_PLAIN) < KINDS.len() => {
            Err(HostError::NotPlain { path: path.to_owned(), what: KINDS[usize::from(code - NOT_PLAIN)] })
        }
        _ => Err(HostError::ProgramFailed {
            program: format!("{} as user {}", path.display(), user.name),
            status: answer.status.to_string(),
            message: answer.error.trim().to_owned(),
        }),
    }
}

/// A mode as the child reads it: `644`, or `600 exactly`.
fn words_of(mode: FileMode) -> impl Iterator<Item = String> {
    let (bits, exactly) = match mode {
        FileMode::IfNew(bits) => (bits, None),
        FileMode::Exactly { exactly } => (exactly & 0o777, Some(EXACTLY.to_owned())),
    };
    std::iter::once(format!("{bits:o}")).chain(exactly)
}

/// The child's side: `read HOME PATH` writes the file to `output`, `mode HOME PATH` its permission bits, `obstacle HOME PATH` what
/// would keep it from being written, `write HOME PATH
/// MODE [exactly]` replaces it with what `input` holds, `remove HOME PATH` removes it. It does what its caller could do anyway, so it need not be hidden from anybody.
pub fn run_child(
    arguments: impl IntoIterator<Item = OsString>,
    input: impl Read,
    output: impl Write,
) -> ExitCode {
    ExitCode::from(child(&arguments.into_iter().collect::<Vec<_>>(), input, output))
}

fn child(arguments: &[OsString], input: impl Read, mut output: impl Write) -> u8 {
    let words: Vec<&Path> = arguments.iter().map(Path::new).collect();
    let done = match words[..] {
        [verb, home, path] if verb == Path::new("read") || verb == Path::new("mode") => {
            let found = match verb == Path::new("read") {
                true => read(home, path),
                false => mode(home, path).map(|mode| mode.map(|mode| format!("{mode:o}").into_bytes())),
            };
            match found {
                Ok(Some(content)) => output.write_all(&content).and_then(|()| output.flush()).map_err(told),
                Ok(None) => return ABSENT,
                Err(problem) => Err(problem),
            }
        }
        [verb, home, path] if verb == Path::new("obstacle") => match obstacles::of_file_below(home, path) {
            None => return ABSENT,
            Some(obstacle) => serde_json::to_vec(&obstacle)
                .map_err(io::Error::from)
                .and_then(|said| output.write_all(&said).and_then(|()| output.flush()))
                .map_err(told),
        },
        [verb, home, path] if verb == Path::new("remove") => remove(home, path),
        [verb, home, path, ref mode @ ..] if verb == Path::new("write") => match mode_of(mode) {
            Some(mode) => write(home, path, mode, input),
            None => Err(told(io::ErrorKind::InvalidInput.into())),
        },
        _ => Err(told(io::ErrorKind::InvalidInput.into())),
    };
    match done {
        Ok(()) => 0,
        Err(FileProblem::NotPlain { what }) => {
            KINDS.iter().position(|kind| *kind == what).map_or(FAILED, |place| NOT_PLAIN + place as u8)
        }
        Err(problem) => {
            let _ = writeln!(io::stderr(), "{problem}");
            FAILED
        }
    }
}

/// The other way round than `words_of`; none when the words make no sense.
fn mode_of(words: &[&Path]) -> Option<FileMode> {
    let bits = |word: &Path| u32::from_str_radix(word.to_str()?, 8).ok().filter(|bits| *bits <= 0o777);
    match words {
        [mode] => bits(mode).map(FileMode::IfNew),
        [mode, exactly] if *exactly == Path::new(EXACTLY) => bits(mode).map(FileMode::exactly),
        _ => None,
    }
}

fn told(source: io::Error) -> FileProblem {
    FileProblem::System { action: "talking to the agent", source }
}

/// Folder part and name of a relative path that does not leave its folder.
fn split(path: &Path) -> Result<(&Path, &Path), FileProblem> {
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if inside => Ok((folder, Path::new(name))),
        _ => Err(FileProblem::NotPlain { what: ELSEWHERE }),
    }
}

fn read(home: &Path, path: &Path) -> Result<Option<Vec<u8>>, FileProblem> {
    let (folder, name) = split(path)?;
    let Some(home) = Folder::open(home)? else { return Ok(None) };
    home.below(folder, None)?.map_or(Ok(None), |folder| folder.read(name))
}

fn mode(home: &Path, path: &Path) -> Result<Option<u32>, FileProblem> {
    let (folder, name) = split(path)?;
    let Some(home) = Folder::open(home)? else { return Ok(None) };
    let found = home.below(folder, None)?.map_or(Ok(None), |folder| folder.mode(name))?;
    // Not the bits that run a file as somebody else: they cannot be put back either.
    Ok(found.map(|mode| mode & 0o777))
}

fn remove(home: &Path, path: &Path) -> Result<(), FileProblem> {
    let (folder, name) = split(path)?;
    let Some(home) = Folder::open(home)? else { return Ok(()) };
    home.below(folder, None)?.map_or(Ok(()), |folder| folder.remove(name))
}

fn write(home: &Path, path: &Path, mode: FileMode, input: impl Read) -> Result<(), FileProblem> {
    let (folder, name) = split(path)?;
    let mut content = Vec::new();
    input.take(LARGEST + 1).read_to_end(&mut content).map_err(told)?;
    if content.len() as u64 > LARGEST {
        return Err(FileProblem::TooLarge);
    }
    let absent =
        || FileProblem::System { action: "opening the home", source: io::ErrorKind::NotFound.into() };
    let home = Folder::open(home)?.ok_or_else(absent)?;
    home.below(folder, Some(FOLDER_MODE))?.ok_or_else(absent)?.write(name, &content, mode)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn call(words: &[&str], input: &str) -> (u8, String) {
        let mut output = Vec::new();
        let arguments: Vec<OsString> = words.iter().map(Into::into).collect();
        let code = child(&arguments, input.as_bytes(), &mut output);
        (code, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_file_below_the_home_is_written_with_its_folder_and_read_back() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().to_str().unwrap();
        assert_eq!(call(&["read", home, ".kube/config"], "").0, ABSENT);
        assert_eq!(call(&["write", home, ".kube/config", "600"], "secret").0, 0);
        assert_eq!(call(&["read", home, ".kube/config"], ""), (0, "secret".to_owned()));
        for (path, mode) in [(".kube", 0o700), (".kube/config", 0o600)] {
            let metadata = std::fs::metadata(place.path().join(path)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{path}");
        }
        assert_eq!(call(&["remove", home, ".kube/config"], "").0, 0);
        assert_eq!(call(&["remove", home, ".kube/config"], "").0, 0);
        assert_eq!(call(&["read", home, ".kube/config"], "").0, ABSENT);
    }

    #[test]
    fn a_users_file_keeps_its_mode_unless_it_is_to_be_exactly_another() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().to_str().unwrap();
        assert_eq!(call(&["mode", home, ".bashrc"], "").0, ABSENT);
        for (written, stands) in [
            (FileMode::IfNew(0o600), "600"),
            (FileMode::IfNew(0o644), "600"),
            (FileMode::exactly(0o640), "640"),
        ] {
            let words: Vec<String> = words_of(written).collect();
            let words = words.iter().map(String::as_str);
            let words: Vec<&str> = ["write", home, ".bashrc"].into_iter().chain(words).collect();
            assert_eq!(call(&words, "alias k=kubectl").0, 0);
            assert_eq!(call(&["mode", home, ".bashrc"], ""), (0, stands.to_owned()), "{words:?}");
        }
    }

    #[test]
    fn a_planted_folder_link_and_a_way_out_of_the_home_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let home = place.path().to_str().unwrap();
        symlink(outside.path(), place.path().join(".kube")).unwrap();
        for path in [".kube/config", "../config", "/etc/passwd", ".", "a/../../b"] {
            assert_eq!(call(&["write", home, path, "600"], "x").0, NOT_PLAIN + 5, "{path}");
            assert_eq!(call(&["read", home, path], "").0, NOT_PLAIN + 5, "{path}");
            assert_eq!(call(&["remove", home, path], "").0, NOT_PLAIN + 5, "{path}");
        }
        assert!(std::fs::read_dir(outside.path()).unwrap().next().is_none());
    }

    #[test]
    fn arguments_that_make_no_sense_change_nothing() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().to_str().unwrap();
        for words in [
            &["write", home, "x", "4755"][..],
            &["write", home, "x"],
            &["write", home, "x", "644", "nearly"],
            &["write", home, "x", "644", "exactly", "644"],
            &["rename", home, "x"],
            &[],
            &["read", home],
        ] {
            assert_eq!(call(words, "x").0, FAILED, "{words:?}");
        }
        assert!(std::fs::read_dir(place.path()).unwrap().next().is_none());
    }

    #[tokio::test]
    async fn a_user_is_found_by_name_and_an_unknown_one_is_none() {
        let host = SystemHost::new();
        let root = host.passwd(&"root".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((root.uid, root.home.as_path()), (0, Path::new("/root")));
        assert!(host.passwd(&"muster-no-such-user".parse().unwrap()).await.unwrap().is_none());
    }
}
