//! Which coordinator this agent obeys, and what it may be asked at all.

use std::path::{Path, PathBuf};

use muster_proto::names::NodeName;
use muster_proto::settings_file::SettingsFile;
use muster_proto::step_kind::StepKind;
use serde::{Deserialize, Serialize};

use crate::connect::dial::Endpoint;

/// What /etc/muster/agent.toml holds. No secret is among it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// HOST:PORT that the agent dials.
    pub coordinator: Endpoint,
    /// The name that this machine enrolled under.
    pub node: NodeName,
    /// The kinds of steps that the coordinator may run here; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_steps: Option<Vec<StepKind>>,
    /// Whether the coordinator may undo this machine's part of the cluster (`coordinator reset`, which a person confirms
    /// with the cluster's name). It may unless this says false.
    #[serde(default = "yes")]
    pub allow_reset: bool,
}

fn yes() -> bool {
    true
}

impl SettingsFile for Settings {
    const MADE_BY: &'static str =
        "enrol this machine (`sudo coordinator token create --node NAME` on the master says how)";
    const COMMENT: &'static str = "`agent enroll` writes coordinator and node; the rest is yours to set.";
}

/// Where the files are; a test puts all of them under a folder of its own.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `/`, or the folder that stands for it.
    pub root: PathBuf,
    pub configuration: PathBuf,
    /// What must outlive a reboot: the identity and the journal.
    pub state: PathBuf,
    /// Output of programs that run now.
    pub runtime: PathBuf,
}

impl Paths {
    /// The paths under this root, which is `/` outside of tests.
    pub fn under(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            configuration: root.join("etc/muster/agent.toml"),
            state: root.join("var/lib/muster-agent"),
            runtime: root.join("run/muster-agent"),
        }
    }

    pub fn identity(&self) -> PathBuf {
        self.state.join("identity")
    }

    pub fn journal(&self) -> PathBuf {
        self.state.join("journal.db")
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares its own folder")]
mod tests {
    use super::*;
    use muster_proto::settings_file::SettingsError;

    #[test]
    fn the_file_is_read_as_it_was_written_and_a_misspelt_setting_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        assert!(Settings::load(&path).unwrap_err().to_string().contains("enrol this machine"));
        let settings = Settings {
            coordinator: "10.88.0.11".parse().unwrap(),
            node: "node-1".parse().unwrap(),
            allow_steps: Some(vec![StepKind::Swap]),
            allow_reset: true,
        };
        settings.write(&path).unwrap();
        assert_eq!(Settings::load(&path).unwrap(), settings);
        std::fs::write(&path, "coordinator = \"10.0.0.1\"\nnode = \"n\"\n").unwrap();
        assert!(Settings::load(&path).unwrap().allow_reset, "unless it is forbidden");
        std::fs::write(&path, "coordinator = \"10.0.0.1\"\nnode = \"n\"\nallow_rest = true\n").unwrap();
        assert!(matches!(Settings::read(&path), Err(SettingsError::Malformed { .. })));
    }
}
