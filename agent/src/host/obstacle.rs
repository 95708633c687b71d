//! What can keep a file from being written, and what a person does about it.

use std::path::{Path, PathBuf};

use muster_proto::event::Complaint;
use muster_proto::names::UserName;
use serde::{Deserialize, Serialize};

/// What stands in the way of a plain file that is to be made, replaced or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// The home of the user does not exist.
    NoHome { path: PathBuf },
    /// A link, a folder or a device where the file, or a folder on the way to it, should be: in words.
    NotPlain { path: PathBuf, what: String },
    /// Only its owner may write there.
    NotOurs { path: PathBuf, owner: String, mode: u32 },
    /// chattr has set this attribute: `i` (immutable) or `a` (append only). Not even root can replace it.
    Attribute { path: PathBuf, letter: char },
    /// The file system there is mounted read-only.
    ReadOnly { path: PathBuf },
}

impl Obstacle {
    /// As a person reads it. `user`: whose file it is, and where the home is; none for a file of the system.
    pub fn complaint(&self, user: Option<(&UserName, &Path)>) -> Complaint {
        match self {
            Self::NoHome { path } => {
                let user = user.map(|(user, _)| user.to_string()).unwrap_or_default();
                let path = path.display();
                Complaint::new(
                    format!("the home {path} of user {user} does not exist"),
                    format!("passwd names {path} as the home of {user}"),
                    format!(
                        "on this node: `sudo mkhomedir_helper {user}` (or `sudo install -d -o {user} -g $(id -gn {user}) -m 700 \
                         {path}`); or leave {user} out of kubectlUsers in the cluster file"
                    ),
                )
            }
            Self::NotPlain { path, what } => {
                let path = path.display();
                Complaint::new(
                    format!("{path} is {what}, and Muster does not follow or replace it"),
                    format!("`ls -ld {path}` shows it"),
                    format!(
                        "on this node: `sudo mv {path} {path}.old`, put what it should hold there as a plain file or folder, then run \
                         the same command again"
                    ),
                )
            }
            Self::NotOurs { path, owner, mode } => {
                let (name, home) = user
                    .map(|(user, home)| (user.to_string(), home))
                    .unwrap_or(("root".into(), Path::new("/")));
                let below = path.starts_with(home) && home != Path::new("/");
                let remedy = match below {
                    true => format!("on this node: `sudo chown -R {name}: {}`", path.display()),
                    false => format!(
                        "give the user a home of its own (on this node: `sudo usermod -d /home/{name} {name} && sudo mkhomedir_helper \
                         {name}`), or leave {name} out of kubectlUsers in the cluster file"
                    ),
                };
                Complaint::new(
                    format!("{name} cannot write {}: it belongs to {owner} ({mode:04o})", path.display()),
                    format!("`ls -ld {}` shows it", path.display()),
                    remedy,
                )
            }
            Self::Attribute { path, letter } => {
                let path = path.display();
                let word = if *letter == 'a' { "append only" } else { "immutable" };
                Complaint::new(
                    format!("{path} is {word}: not even root can replace it"),
                    format!("`lsattr -d {path}` shows {letter}"),
                    format!(
                        "on this node: `sudo chattr -{letter} {path}`, then run the same command again (`sudo chattr +{letter} {path}` \
                         puts it back afterwards, if it is wanted)"
                    ),
                )
            }
            Self::ReadOnly { path } => {
                let path = path.display();
                Complaint::new(
                    format!("the file system of {path} is mounted read-only"),
                    format!("`findmnt -T {path}` shows it"),
                    format!(
                        "on this node: `sudo mount -o remount,rw $(findmnt -nT {path} -o TARGET)`, and look at `sudo dmesg` why it was \
                         so; then run the same command again"
                    ),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_remedy_gives_away_what_is_not_below_the_users_own_home() {
        let user: UserName = "rooty".parse().unwrap();
        let told = |path: &str, home: &str| {
            let obstacle = Obstacle::NotOurs { path: path.into(), owner: "root".into(), mode: 0o755 };
            obstacle.complaint(Some((&user, Path::new(home)))).remedy
        };
        assert!(
            told("/home/rooty/.kube", "/home/rooty").contains("`sudo chown -R rooty: /home/rooty/.kube`")
        );
        assert!(!told("/", "/").contains("chown"));
        assert!(!told("/srv", "/home/rooty").contains("chown"));
    }
}
