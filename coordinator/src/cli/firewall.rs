//! ufw on the master: whether it keeps the nodes from dialling in, and the one rule that lets them. Nothing of it is
//! changed unless a person says so.

use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::settings::File;

/// ufw waits for its own lock; a rule is added in a second.
const LIMIT: Duration = Duration::from_secs(60);

/// The rule could not be added.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    #[error("ufw cannot be run: add the rule by hand: `sudo {rule}`")]
    NotRun { rule: Rule, source: io::Error },
    #[error("ufw did not add the rule, it says why above: `sudo {0}`")]
    Refused(Rule),
    #[error("ufw did not end within {LIMIT:?}: is another ufw running? Then: `sudo {0}`")]
    Slow(Rule),
}

/// The rule that lets the nodes dial this address and port, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    address: IpAddr,
    port: u16,
}

impl From<&File> for Rule {
    fn from(file: &File) -> Self {
        Self { address: file.address, port: file.port }
    }
}

impl Rule {
    /// The arguments of ufw. Every word is a constant, an address or a number.
    fn words(&self) -> [String; 8] {
        let (address, port) = (self.address.to_string(), self.port.to_string());
        ["allow", "in", "proto", "tcp", "to", &address, "port", &port].map(str::to_owned)
    }

    /// Whether ufw's own list of rules (user.rules) lets somebody in here already.
    fn is_among(&self, rules: &str) -> bool {
        let (address, port) = (self.address.to_string(), self.port.to_string());
        rules.lines().filter_map(|line| line.strip_prefix("### tuple ### ")).any(|tuple| {
            let words: Vec<&str> = tuple.split_whitespace().collect();
            let [action, protocol, to_port, to, _, _, direction, ..] = words[..] else { return false };
            matches!(action, "allow" | "limit")
                && matches!(protocol, "tcp" | "any")
                && (to_port == port || to_port == "any")
                && (to == address || to == "0.0.0.0/0" || to == "::/0")
                && direction.starts_with("in")
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ufw {}", self.words().join(" "))
    }
}

/// The rule that is missing; none when ufw is off, lets everything in, or has such a rule.
pub fn missing_rule(root: &Path, file: &File) -> Option<Rule> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let setting = |text: &str, key: &str| {
        let value = text.lines().rev().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        value.map(|value| value.trim_matches(['"', '\'', ' ']).to_ascii_lowercase())
    };
    let enabled = setting(&read("etc/ufw/ufw.conf"), "ENABLED").as_deref() == Some("yes");
    let policy = setting(&read("etc/default/ufw"), "DEFAULT_INPUT_POLICY");
    let rule = Rule::from(file);
    let lists = ["etc/ufw/user.rules", "etc/ufw/user6.rules"];
    let known = lists.iter().any(|list| rule.is_among(&read(list)));
    (enabled && policy.as_deref() != Some("accept") && !known).then_some(rule)
}

/// Says the missing rule, and adds it when the person said so beforehand or says so now on a terminal.
pub async fn offer(root: &Path, file: &File, allowed: bool) -> Result<(), FirewallError> {
    let Some(rule) = missing_rule(root, file) else { return Ok(()) };
    anstream::println!("\nufw guards this machine and drops what the nodes dial. This rule lets them in:\n");
    anstream::println!("    sudo {rule}\n");
    if !allowed && !said_yes() {
        anstream::println!("Run it before a node enrols, or `sudo coordinator init --allow-firewall`.");
        return Ok(());
    }
    apply(rule).await?;
    anstream::println!(
        "The rule is set. To undo it: sudo {}",
        rule.to_string().replacen("ufw", "ufw delete", 1)
    );
    Ok(())
}

/// Asks, where there is somebody to ask.
fn said_yes() -> bool {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return false;
    }
    anstream::print!("Run it now? [y/N] ");
    let mut answer = String::new();
    let asked = io::stdout().flush().and_then(|()| io::stdin().lock().read_line(&mut answer));
    asked.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

#[allow(
    clippy::disallowed_methods,
    reason = "root asked for this rule; its words are an address and a number"
)]
async fn apply(rule: Rule) -> Result<(), FirewallError> {
    let not_run = |source| FirewallError::NotRun { rule, source };
    let mut child = Command::new("ufw")
        .args(rule.words())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(not_run)?;
    let ended = timeout(LIMIT, child.wait()).await.map_err(|_| FirewallError::Slow(rule))?;
    if ended.map_err(not_run)?.success() { Ok(()) } else { Err(FirewallError::Refused(rule)) }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares its own folder")]
mod tests {
    use super::*;

    fn missing(enabled: &str, policy: &str, rules: &str) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        for folder in ["etc/ufw", "etc/default"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let write = |path: &str, text: String| std::fs::write(root.path().join(path), text).unwrap();
        write("etc/ufw/ufw.conf", format!("# ENABLED=yes\nENABLED={enabled}\nLOGLEVEL=low\n"));
        write("etc/default/ufw", format!("IPV6=yes\nDEFAULT_INPUT_POLICY=\"{policy}\"\n"));
        write("etc/ufw/user.rules", rules.to_owned());
        let file = File { address: "10.88.0.11".parse().unwrap(), port: 7443 };
        missing_rule(root.path(), &file).map(|rule| rule.to_string())
    }

    #[test]
    fn the_rule_is_missing_only_where_ufw_is_on_drops_and_does_not_have_it() {
        let rule = "ufw allow in proto tcp to 10.88.0.11 port 7443";
        assert_eq!(missing("yes", "DROP", "").as_deref(), Some(rule));
        assert_eq!(missing("yes", "REJECT", "").as_deref(), Some(rule));
        assert_eq!(missing("no", "DROP", ""), None);
        assert_eq!(missing("yes", "ACCEPT", ""), None);
        let root = tempfile::tempdir().unwrap();
        let file = File { address: "10.88.0.11".parse().unwrap(), port: 7443 };
        assert_eq!(missing_rule(root.path(), &file), None, "no ufw at all");
    }

    #[test]
    fn a_rule_that_stands_in_ufws_own_list_is_not_offered_again() {
        for (there, known) in [
            ("allow tcp 7443 10.88.0.11 any 0.0.0.0/0 in", true),
            ("allow tcp 7443 0.0.0.0/0 any 10.88.0.0/24 in", true),
            ("allow any any 0.0.0.0/0 any 10.88.0.0/24 in_eth0", true),
            ("deny tcp 7443 10.88.0.11 any 0.0.0.0/0 in", false),
            ("allow udp 7443 10.88.0.11 any 0.0.0.0/0 in", false),
            ("allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in", false),
            ("allow tcp 7443 10.88.0.11 any 0.0.0.0/0 out", false),
            ("allow tcp", false),
        ] {
            let rules = format!("*filter\n### RULES ###\n\n### tuple ### {there}\n-A ufw-user-input\n");
            assert_eq!(missing("yes", "DROP", &rules).is_none(), known, "{there}");
        }
    }
}
