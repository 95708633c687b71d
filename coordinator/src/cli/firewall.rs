//! ufw on the master: whether it keeps the nodes from dialling in, and the one rule that lets them. Nothing of it is
//! changed unless a person says so, and then by this machine's own agent.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use muster_proto::coordinator::LetNodesInRequest;
use muster_proto::ufw::{self, Files, Rule};

use super::{ClientError, admin};
use crate::settings::{File, Paths};

/// The rule could not be set.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    #[error("the rule was not set; by hand: `sudo {rule}`")]
    NotSet { rule: Rule, source: ClientError },
    /// The agent sets it all the same. One that were set by hand besides would go with a reset.
    #[error("whether the rule was set is not known; run the same command again, which tells")]
    Unknown { source: ClientError },
}

/// The rule that is missing; none when ufw is off, lets everything in, or has such a rule.
pub fn missing_rule(root: &Path, file: &File) -> Option<Rule> {
    let read =
        |path: &str| std::fs::read_to_string(root.join(path.trim_start_matches('/'))).unwrap_or_default();
    let rule = Rule { address: file.address, port: file.port };
    let files = Files {
        configuration: read(ufw::CONFIGURATION),
        defaults: read(ufw::DEFAULTS),
        rules: ufw::RULES.map(read).concat(),
    };
    files.keep_out(&rule).then_some(rule)
}

/// Says the missing rule, and has it set when the person said so beforehand or says so now on a terminal: by this
/// machine's own agent, whose journal then has it, so that a reset takes it back.
pub async fn offer(root: &Path, paths: &Paths, file: &File, allowed: bool) -> Result<(), FirewallError> {
    let Some(rule) = missing_rule(root, file) else { return Ok(()) };
    anstream::println!("\nufw guards this machine and drops what the nodes dial. This rule lets them in:\n");
    anstream::println!("    sudo {rule}\n");
    if !allowed && !said_yes() {
        anstream::println!(
            "Run it before a node enrols (then it stays yours), or `sudo coordinator init --allow-firewall` (a reset takes it back)."
        );
        return Ok(());
    }
    let refused = |source| match source {
        ClientError::Lost(_) => FirewallError::Unknown { source },
        _ => FirewallError::NotSet { rule, source },
    };
    let mut client = admin(paths).await.map_err(refused)?;
    let answer = client.let_nodes_in(LetNodesInRequest {}).await;
    let node = answer.map_err(|status| refused(status.into()))?.into_inner().node;
    anstream::println!(
        "The rule is set, and stands in the journal of {node}: `coordinator reset --all` takes it back."
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

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares its own folder")]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_missing_only_where_ufws_own_files_keep_the_nodes_out() {
        let root = tempfile::tempdir().unwrap();
        let file = File { address: "10.88.0.11".parse().unwrap(), port: 7443 };
        let missing = || missing_rule(root.path(), &file).map(|rule| rule.to_string());
        assert_eq!(missing(), None, "no ufw at all");
        for folder in ["etc/ufw", "etc/default"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let write = |path: &str, text: &str| std::fs::write(root.path().join(path), text).unwrap();
        write("etc/ufw/ufw.conf", "ENABLED=yes\n");
        write("etc/default/ufw", "DEFAULT_INPUT_POLICY=\"DROP\"\n");
        assert_eq!(missing().as_deref(), Some("ufw allow in proto tcp to 10.88.0.11 port 7443"));
        for rules in ufw::RULES {
            let path = rules.trim_start_matches('/');
            write(path, "### tuple ### allow tcp 7443 0.0.0.0/0 any 0.0.0.0/0 in\n");
            assert_eq!(missing(), None, "it stands in {rules} already");
            write(path, "");
        }
    }
}
