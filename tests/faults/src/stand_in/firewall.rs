//! ufw and the packet filter: ufw's own files below /etc, as its rules stand in them, and a list of this machine's rules
//! below /run, since the kernel's is empty after every boot as well.

use std::io::Read;
use std::path::Path;

use super::memory::{Work, moment, own_node};
use super::{Said, said};

const CONFIGURATION: &str = "/etc/ufw/ufw.conf";
const RULES: &str = "/etc/ufw/user.rules";
const END_OF_RULES: &str = "### END RULES ###\n";
/// This machine's rules.
pub const FILTER: &str = "/run/packet-filter";

pub(super) fn ufw(arguments: &[&str]) -> Said<()> {
    let (verb, rule) = match arguments {
        ["--force", verb @ ("disable" | "enable")] => (*verb, None),
        ["allow", rule @ ..] => ("allow", Some(lines(rule)?)),
        ["delete", "allow", rule @ ..] => ("delete", Some(lines(rule)?)),
        other => return Err(format!("the stand-in knows no ufw {}", other.join(" "))),
    };
    let work = Work::begin(&format!("ufw-{verb}"), own_node())?;
    let work = work.misbehave("ufw", verb)?;
    let path = if rule.is_some() { RULES } else { CONFIGURATION };
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    std::thread::sleep(moment() / 2);
    let text = match (verb, rule) {
        ("disable", _) => text.replace("ENABLED=yes", "ENABLED=no"),
        ("enable", _) => text.replace("ENABLED=no", "ENABLED=yes"),
        ("allow", Some(rule)) if text.contains(&rule) => text,
        ("allow", Some(rule)) => text.replace(END_OF_RULES, &format!("{rule}{END_OF_RULES}")),
        (_, Some(rule)) => text.replace(&rule, ""),
        (_, None) => text,
    };
    replace(path, &text)?;
    work.done("ERROR: it worked and fails, as the test wants")
}

/// What ufw writes for `in proto tcp to ADDRESS port PORT`.
fn lines(rule: &[&str]) -> Said<String> {
    match rule {
        ["in", "proto", "tcp", "to", address, "port", port] => Ok(format!(
            "### tuple ### allow tcp {port} {address} any 0.0.0.0/0 in\n\
             -A ufw-user-input -p tcp -d {address} --dport {port} -j ACCEPT\n\n"
        )),
        other => Err(format!("the stand-in knows no rule {}", other.join(" "))),
    }
}

/// As ufw does it: written beside it, then renamed.
fn replace(path: &str, text: &str) -> Said<()> {
    let fresh = format!("{path}.fresh");
    std::fs::write(&fresh, text).map_err(said)?;
    std::fs::rename(fresh, path).map_err(said)
}

/// iptables-save: all rules of this machine.
pub(super) fn save() -> Said<()> {
    print!("{}", std::fs::read_to_string(FILTER).unwrap_or_default());
    Ok(())
}

/// iptables-restore: these rules and no others.
pub(super) fn restore() -> Said<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(said)?;
    let work = Work::begin("iptables-restore", own_node())?;
    let work = work.misbehave("iptables-restore", "")?;
    std::thread::sleep(moment() / 4);
    replace(FILTER, &text)?;
    work.done("it worked and fails, as the test wants")
}

/// What kube-proxy adds to the rules that stand there.
pub(super) fn with_kube_chains() -> Said<()> {
    let held = std::fs::read_to_string(FILTER).unwrap_or_default();
    if held.contains("KUBE-") && Path::new(FILTER).exists() {
        return Ok(());
    }
    replace(
        FILTER,
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:DOCKER - [0:0]\n:KUBE-FORWARD - [0:0]\n\
         -A FORWARD -j KUBE-FORWARD\n-A FORWARD -o docker0 -j DOCKER\nCOMMIT\n",
    )
}
