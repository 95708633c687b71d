//! Everything the agent may do to a host: a closed list. Steps return changes as data; the engine makes them.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest;
use muster_proto::event::Outcome;
use muster_proto::kubernetes::files::ETCD_MEMBER;
use muster_proto::names::{HostName, NodeName, StepId, UserName};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::HostError;
use super::query::{ObjectKind, Observe};

/// One primitive act. All but `Run` may be done twice with the same result, so that a crash in the middle only means
/// doing it again; `Run` is exactly once, because its unit's name is its identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Replaces a plain file, or makes it: temporary file beside it, owner, mode, fsync, rename, fsync of the folder.
    /// Folders on the way are made (0755).
    WriteFile {
        path: PathBuf,
        content: String,
        mode: FileMode,
    },
    RemoveFile {
        path: PathBuf,
    },
    /// Removes `ETCD_MEMBER` with all that is in it, and no other folder. Gone already is fine.
    RemoveEtcdData,
    /// The kernel's name now and /etc/hostname.
    SetHostname {
        name: HostName,
    },
    SwapOff {
        device: PathBuf,
    },
    SetSysctl {
        key: String,
        value: String,
    },
    Unit {
        unit: String,
        action: UnitAction,
    },
    /// systemd reads its unit files again.
    ReloadUnits,
    /// A file below a user's home, written as that user, no link followed.
    WriteUserFile {
        user: UserName,
        path: PathBuf,
        content: String,
        mode: FileMode,
        secret: bool,
    },
    /// Removes a plain file below a user's home, as that user. Gone already is fine.
    RemoveUserFile {
        user: UserName,
        path: PathBuf,
    },
    /// A merge patch that takes the taints with these keys from a node.
    RemoveTaints {
        node: NodeName,
        keys: Vec<String>,
    },
    DeleteObject {
        kind: ObjectKind,
        namespace: String,
        name: String,
    },
    Run(Program),
}

/// Who may read and write a file that is written. Whom it belongs to is never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FileMode {
    /// For a new file. One that stands there keeps its own: who may read it is its owner's decision.
    IfNew(u32),
    /// Whatever stands there: a secret of ours, or a file that is put back.
    Exactly { exactly: u32 },
}

impl FileMode {
    pub const fn exactly(mode: u32) -> Self {
        Self::Exactly { exactly: mode }
    }

    /// The permission bits of the file once it is written, over one that has these.
    pub fn over(self, existing: Option<u32>) -> u32 {
        match self {
            Self::IfNew(mode) => existing.unwrap_or(mode),
            Self::Exactly { exactly } => exactly,
        }
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IfNew(mode) => write!(f, "mode {mode:04o} if new"),
            Self::Exactly { exactly } => write!(f, "mode {exactly:04o}"),
        }
    }
}

/// What is done to a systemd unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitAction {
    Start,
    Stop,
    Restart,
    Enable,
    Disable,
    Mask,
    Unmask,
}

impl UnitAction {
    /// The word of systemctl for it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Mask => "mask",
            Self::Unmask => "unmask",
        }
    }
}

/// A program run as a systemd transient unit: it survives the agent, cannot run twice, and its end can be read later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Program {
    pub program: ProgramName,
    pub arguments: Vec<String>,
    /// What the program reads on its standard input; may hold a secret, so it is never written anywhere.
    #[serde(skip)]
    pub input: Option<SecretString>,
    /// The unit is ended after this.
    pub limit: Duration,
    /// The standard output holds a join ticket that the engine keeps in memory.
    pub yields_ticket: bool,
}

/// The programs that Muster runs to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramName {
    Kubeadm,
    Kubectl,
    Modprobe,
    Ufw,
    Swapon,
    Ip,
    IptablesRestore,
    Ip6tablesRestore,
    Ipvsadm,
}

impl ProgramName {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubeadm => "kubeadm",
            Self::Kubectl => "kubectl",
            Self::Modprobe => "modprobe",
            Self::Ufw => "ufw",
            Self::Swapon => "swapon",
            Self::Ip => "ip",
            Self::IptablesRestore => "iptables-restore",
            Self::Ip6tablesRestore => "ip6tables-restore",
            Self::Ipvsadm => "ipvsadm",
        }
    }
}

impl Program {
    pub fn new<A: Into<String>>(
        program: ProgramName,
        arguments: impl IntoIterator<Item = A>,
        limit: Duration,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { program, arguments, input: None, limit, yields_ticket: false }
    }

    pub fn with_input(mut self, input: impl Into<String>) -> Self {
        self.input = Some(SecretString::from(input.into()));
        self
    }

    pub fn yielding_ticket(mut self) -> Self {
        self.yields_ticket = true;
        self
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program.name())?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
    }
}

impl Change {
    /// The change as the journal holds it: of a secret content only its digest.
    pub fn record(&self) -> Value {
        let mut record = serde_json::to_value(self).unwrap_or_default();
        if let Self::WriteUserFile { content, secret: true, .. } = self {
            record["content"] = digest_of(content).into();
        }
        record
    }

    /// What it runs of kubeadm: init, join, reset, token; none where it runs something else.
    pub fn kubeadm_verb(&self) -> Option<&str> {
        match self {
            Self::Run(program) if program.program == ProgramName::Kubeadm => {
                program.arguments.first().map(String::as_str)
            }
            _ => None,
        }
    }

    /// Whether it takes everything of kubeadm's off the node.
    pub fn resets(&self) -> bool {
        self.kubeadm_verb() == Some("reset")
    }
}

/// By this a secret file is known again without its content: `sha256:HEX`.
pub fn digest_of(content: &str) -> String {
    let hash = digest::digest(&digest::SHA256, content.as_bytes());
    hash.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The change as a person reads it.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteFile { path, mode, .. } => write!(f, "write {} ({mode})", path.display()),
            Self::RemoveFile { path } => write!(f, "remove {}", path.display()),
            Self::RemoveEtcdData => write!(f, "remove {} with all that is in it", ETCD_MEMBER),
            Self::SetHostname { name } => write!(f, "set the host name to {name}"),
            Self::SwapOff { device } => write!(f, "turn off swap on {}", device.display()),
            Self::SetSysctl { key, value } => write!(f, "set {key} = {value}"),
            Self::Unit { unit, action } => write!(f, "{} {unit}", action.verb()),
            Self::ReloadUnits => f.write_str("let systemd read its unit files again"),
            Self::WriteUserFile { user, path, mode, .. } => {
                write!(f, "write ~{user}/{} ({mode})", path.display())
            }
            Self::RemoveUserFile { user, path } => write!(f, "remove ~{user}/{}", path.display()),
            Self::RemoveTaints { node, keys } => {
                write!(f, "remove the taints {} from node {node}", keys.join(", "))
            }
            Self::DeleteObject { kind, namespace, name } => write!(f, "delete {kind:?} {namespace}/{name}"),
            Self::Run(program) => write!(f, "run {program}"),
        }
    }
}

/// The identity of one change of one step: names the transient unit, so that the same change never runs twice at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChangeId {
    pub step: StepId,
    pub index: u32,
}

impl ChangeId {
    /// `muster-STEP-INDEX.service`; the node is not in it, since a host has one node name at a time.
    pub fn unit(&self) -> String {
        format!("muster-{}-{}.service", self.step.step().replace('.', "-"), self.index)
    }
}

/// How a change ended, and what the program wrote on its standard output (unredacted: only for capture).
#[derive(Debug, Default)]
pub struct Applied {
    pub made: bool,
    pub outcome: Outcome,
    pub standard_output: SecretString,
}

/// The host as the engine sees it: all that a step may ask, and the doing.
pub trait Host: Observe {
    /// What stands there now and would be lost: the old file, the unit's state, the old host name.
    fn before(&self, change: &Change) -> impl Future<Output = Result<Option<Value>, HostError>> + Send;
    /// Makes the change and waits for its end. A program that ends with another code than 0 is no error: `made` is false.
    fn apply(
        &self,
        change: &Change,
        id: &ChangeId,
    ) -> impl Future<Output = Result<Applied, HostError>> + Send;
    /// Finds the program that an earlier life of the agent started under this id, waits for its end and takes its
    /// result; none when there is no such unit.
    fn attach(&self, id: &ChangeId) -> impl Future<Output = Result<Option<Applied>, HostError>> + Send;
    /// Returns when no change that an earlier life of the agent began, and that is no program with an id, goes on any more.
    fn earlier_ended(&self) -> impl Future<Output = ()> + Send;
    /// Once the result is in the journal: removes the unit and its output files, so that the id can be used again.
    fn forget(&self, id: &ChangeId) -> impl Future<Output = Result<(), HostError>> + Send;
}
