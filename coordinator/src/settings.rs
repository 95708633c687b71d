//! Where the coordinator listens, and where its files are.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_proto::settings_file::{SettingsError, SettingsFile};
use muster_proto::version::DEFAULT_PORT;
use serde::{Deserialize, Serialize};

/// What /etc/muster/coordinator.toml holds. No secret is among it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The address that agents dial, and the only one that is listened on.
    pub address: IpAddr,
    #[serde(default = "default_port")]
    pub port: u16,
}

fn default_port() -> u16 {
    DEFAULT_PORT
}

impl SettingsFile for File {
    const MADE_BY: &'static str = "run `sudo coordinator init` on this machine";
    const COMMENT: &'static str = "Written by `coordinator init`. Agents dial this address.";
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// Where the files are; a test puts all of them under a folder of its own.
#[derive(Debug, Clone)]
pub struct Paths {
    pub configuration: PathBuf,
    /// What must outlive a reboot: the CA, the enrolled nodes, the journal.
    pub state: PathBuf,
    /// The unix sockets.
    pub runtime: PathBuf,
}

impl Paths {
    /// The paths under this root, which is `/` outside of tests.
    pub fn under(root: &Path) -> Self {
        Self {
            configuration: root.join("etc/muster/coordinator.toml"),
            state: root.join("var/lib/muster-coordinator"),
            runtime: root.join("run/muster-coordinator"),
        }
    }

    /// Every verb; for root and the group `muster`.
    pub fn admin_socket(&self) -> PathBuf {
        self.runtime.join("admin.sock")
    }

    /// Reading only; for everybody.
    pub fn status_socket(&self) -> PathBuf {
        self.runtime.join("status.sock")
    }

    pub fn journal(&self) -> PathBuf {
        self.state.join("journal.db")
    }

    /// The record of runs.
    pub fn runs(&self) -> PathBuf {
        self.state.join("runs.db")
    }
}

/// How much a peer that proved nothing may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// The whole life of an enrolment connection; for an agent, the time to its answer to Hello.
    pub first_answer: Duration,
    /// Connections at once that proved nothing yet.
    pub unproven: usize,
    /// The same, from one address.
    pub unproven_per_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            first_answer: Duration::from_secs(15),
            unproven: 256,
            unproven_per_source: 32,
        }
    }
}

/// All that the daemon needs to start.
#[derive(Debug, Clone)]
pub struct Settings {
    pub address: IpAddr,
    pub port: u16,
    pub paths: Paths,
    pub limits: Limits,
    /// The group that may use the admin socket.
    pub admin_group: String,
}

impl Settings {
    /// Reads the settings of the installation under this root.
    pub fn load(root: &Path) -> Result<Self, SettingsError> {
        let paths = Paths::under(root);
        let file = File::load(&paths.configuration)?;
        Ok(Self {
            address: file.address,
            port: file.port,
            paths,
            limits: Limits::default(),
            admin_group: "muster".to_owned(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares its own folder")]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_it_was_written_and_a_missing_one_names_the_remedy() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let error = Settings::load(root.path()).unwrap_err().to_string();
        assert!(error.contains("coordinator init"), "{error}");
        std::fs::create_dir_all(paths.configuration.parent().unwrap()).unwrap();
        let file = File { address: "10.88.0.11".parse().unwrap(), port: 7443 };
        file.write(&paths.configuration).unwrap();
        assert_eq!(File::read(&paths.configuration).unwrap(), Some(file));
        assert_eq!(file.to_string(), "10.88.0.11:7443");
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("coordinator.toml");
        std::fs::write(&path, "address = \"10.0.0.1\"\nprot = 1\n").unwrap();
        assert!(matches!(File::read(&path), Err(SettingsError::Malformed { .. })));
    }
}
