//! The programs that stand in for kubeadm, kubectl, the kubelet with an API server, and Docker on a machine of the matrix.
//! One binary, told apart by the name it is called by. They remember: see `memory`.

mod api;
pub mod boot;
mod client;
pub mod firewall;
mod kubeadm;
mod kubelet;
pub mod memory;
mod pki;
pub mod pod_network;
mod small;
mod store;

use std::path::Path;
use std::process::ExitCode;

/// An answer, or the sentence that goes to standard error.
type Said<T> = Result<T, String>;

/// The names under which the binary is put on a machine's search path.
pub const NAMES: [&str; 21] = [
    "kubeadm",
    "kubectl",
    "kubelet",
    "journalctl",
    "docker",
    "dockerd",
    "swapoff",
    "swapon",
    "ufw",
    "iptables-save",
    "ip6tables-save",
    "iptables-restore",
    "ip6tables-restore",
    "ipvsadm",
    "conntrack",
    "ebtables",
    "ethtool",
    "socat",
    "iptables",
    "tc",
    "modprobe",
];

/// Does what the program of this name does.
pub fn run() -> ExitCode {
    let mut arguments = std::env::args();
    let called = arguments.next().unwrap_or_default();
    let name = Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let arguments: Vec<String> = arguments.collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match name.as_str() {
        "kubeadm" => kubeadm::run(&words),
        "kubectl" => small::kubectl(&words),
        "kubelet" => kubelet::run(&words),
        "journalctl" => kubelet::journal(&words),
        "docker" => small::docker(&words),
        "dockerd" => small::dockerd(),
        "swapoff" => small::swapoff(&words),
        "swapon" => small::swapon(&words),
        "ufw" => firewall::ufw(&words),
        "iptables-save" => firewall::save(),
        "iptables-restore" => firewall::restore(),
        other if NAMES.contains(&other) => Ok(()),
        _ => boot::run(&words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
