//! The checks by their words, which a person gives to `--ignore-check`.

use muster_proto::redaction::printable;

/// The kinds of checks; a person can ask that one of them only notes what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The preparing steps themselves: packages, runtime, images, kernel.
    Steps,
    Processors,
    Memory,
    Disk,
    System,
    Cgroups,
    /// Whether this runtime suits this Kubernetes.
    Runtime,
    Ports,
    Leftovers,
    /// machine-id, product UUID and hardware address, which only this node may have.
    Identity,
    Clock,
    Names,
    Routes,
    /// Whether the kubelet's own traffic goes through a proxy.
    Proxy,
    /// The network programs that the pod network calls.
    Programs,
    /// Whether the nodes get through to each other.
    Mesh,
    Swap,
    Firewall,
}

impl Check {
    pub const ALL: [Self; 18] = [
        Self::Steps,
        Self::Processors,
        Self::Memory,
        Self::Disk,
        Self::System,
        Self::Cgroups,
        Self::Runtime,
        Self::Ports,
        Self::Leftovers,
        Self::Identity,
        Self::Clock,
        Self::Names,
        Self::Routes,
        Self::Proxy,
        Self::Programs,
        Self::Mesh,
        Self::Swap,
        Self::Firewall,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Processors => "processors",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::System => "system",
            Self::Cgroups => "cgroups",
            Self::Runtime => "runtime",
            Self::Ports => "ports",
            Self::Leftovers => "leftovers",
            Self::Identity => "identity",
            Self::Clock => "clock",
            Self::Names => "names",
            Self::Routes => "routes",
            Self::Proxy => "proxy",
            Self::Programs => "programs",
            Self::Mesh => "mesh",
            Self::Swap => "swap",
            Self::Firewall => "firewall",
        }
    }
}

impl std::str::FromStr for Check {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|check| check.word() == word).ok_or_else(|| {
            let known = Self::ALL.map(Self::word).join(", ");
            format!(
                "{:?} is no check; there are {known}",
                printable(&word.chars().take(40).collect::<String>())
            )
        })
    }
}
