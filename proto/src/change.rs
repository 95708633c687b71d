//! Everything that is ever done to a host: a closed list. The agent's steps return changes as data, its engine makes them, and
//! the journals of both sides hold them as what they are.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::kubernetes::files::ETCD_MEMBER;
use crate::names::{HostName, NodeName, UserName};

/// One primitive act. All but `Run` may be done twice with the same result, so that a crash in the middle only means
/// doing it again; `Run` is exactly once, because its unit's name is its identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Replaces a plain file, or makes it: temporary file beside it, owner, mode, fsync, rename, fsync of the folder.
    /// Folders on the way are made (0755).
    WriteFile {
        path: PathBuf,
        content: String,
        mode: FileMode,
        /// The content goes into no journal, plan or log; by its digest it is known again.
        #[serde(default)]
        secret: bool,
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
    /// What it is told by its environment, beside what every program is: a search path, a home and the language C.
    #[serde(default)]
    pub environment: Vec<Variable>,
    /// What the program reads on its standard input; may hold a secret, so it is never written anywhere.
    #[serde(skip)]
    pub input: Option<SecretString>,
    /// The unit is ended after this.
    pub limit: Duration,
    /// The standard output holds a join ticket that the engine keeps in memory.
    pub yields_ticket: bool,
}

/// The input counts too: two programs are the same when they read the same.
impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        let Self { program, arguments, environment, input, limit, yields_ticket } = self;
        let read = |input: &Option<SecretString>| input.as_ref().map(|text| text.expose_secret().to_owned());
        (program, arguments, environment) == (&other.program, &other.arguments, &other.environment)
            && (limit, yields_ticket) == (&other.limit, &other.yields_ticket)
            && read(input) == read(&other.input)
    }
}

/// A variable with its value. A closed list without free text, so that no secret can be in an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variable {
    /// No kubeconfig is taken from the machine's environment: the one that counts is named by an argument.
    NoKubeconfig,
}

impl Variable {
    /// As systemd and `env` take it: `NAME=VALUE`.
    pub fn assignment(self) -> &'static str {
        match self {
            Self::NoKubeconfig => "KUBECONFIG=",
        }
    }
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
        let environment = match program {
            ProgramName::Kubeadm | ProgramName::Kubectl => vec![Variable::NoKubeconfig],
            _ => Vec::new(),
        };
        Self { program, arguments, environment, input: None, limit, yields_ticket: false }
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
    /// Writes a file that everybody may read; one that stands there keeps its mode.
    pub fn write(path: impl Into<PathBuf>, content: impl Into<String>) -> Self {
        let (path, content) = (path.into(), content.into());
        Self::WriteFile { path, content, mode: FileMode::IfNew(0o644), secret: false }
    }

    /// The change as a journal holds it: of a secret content its digest, of a program's input nothing.
    pub fn record(&self) -> Recorded {
        let mut change = self.clone();
        match &mut change {
            Self::WriteFile { content, secret: true, .. }
            | Self::WriteUserFile { content, secret: true, .. } => *content = digest_of(content),
            Self::Run(program) => program.input = None,
            _ => {}
        }
        Recorded(change)
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

/// A change in an event. It can only be made by `Change::record`, or read from a journal: no secret is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recorded(Change);

impl Recorded {
    /// What of it leaves the node that made it: of every file's content the digest. A new kind of change does not compile
    /// until it is said here what of it may go.
    pub fn without_contents(mut self) -> Self {
        match &mut self.0 {
            Change::WriteFile { content, secret: false, .. }
            | Change::WriteUserFile { content, secret: false, .. } => *content = digest_of(content),
            // Its content is a digest already.
            Change::WriteFile { secret: true, .. } | Change::WriteUserFile { secret: true, .. } => {}
            Change::RemoveFile { .. }
            | Change::RemoveEtcdData
            | Change::SetHostname { .. }
            | Change::SwapOff { .. }
            | Change::SetSysctl { .. }
            | Change::Unit { .. }
            | Change::ReloadUnits
            | Change::RemoveUserFile { .. }
            | Change::RemoveTaints { .. }
            | Change::DeleteObject { .. }
            | Change::Run(_) => {}
        }
        self
    }
}

impl Deref for Recorded {
    type Target = Change;

    fn deref(&self) -> &Change {
        &self.0
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

/// The kinds of Kubernetes objects that Muster reads or deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    Node,
    Pod,
    ConfigMap,
    Secret,
    Deployment,
    DaemonSet,
    /// By which a kubelet tells every few seconds that it lives; from 1.14 on.
    Lease,
}

impl ObjectKind {
    /// The kind as it stands in manifests.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::Deployment => "Deployment",
            Self::DaemonSet => "DaemonSet",
            Self::Lease => "Lease",
        }
    }
}

#[cfg(test)]
mod tests;
