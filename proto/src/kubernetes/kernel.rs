//! What every version of Kubernetes needs of the kernel: overlay for the images, bridged traffic seen by iptables, forwarding
//! (kubernetes.io, container runtimes). A closed list: the coordinator asks for these, and an agent sets no others.

/// Modules that are loaded.
pub const MODULES: [&str; 2] = ["overlay", "br_netfilter"];

/// Settings, each of which is to be `ON`.
pub const SYSCTLS: [&str; 3] =
    ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables", "net.ipv4.ip_forward"];

/// The value of all of them.
pub const ON: &str = "1";
