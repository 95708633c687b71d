//! `coordinator init`: this machine becomes the master. Run again it changes nothing.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_proto::coordinator::admin_client::AdminClient;
use muster_proto::coordinator::{CreateTokenRequest, ListNodesRequest};
use muster_proto::names::NodeName;
use muster_proto::private_file;
use muster_proto::settings_file::SettingsFile;
use muster_proto::version::DEFAULT_PORT;
use nix::sys::stat::{Mode, umask};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::{ClientError, Failure, address, admin, firewall, service};
use crate::settings::{File, Paths};

/// The token that `init` hands to the master's own agent is used at once.
const OWN_TOKEN_LIFETIME: Duration = Duration::from_secs(120);

/// So long an agent that runs may be away: it dials again every few seconds.
const OWN_CONNECTION: Duration = Duration::from_secs(10);

/// Where the package puts it.
const EXAMPLE: &str = "/usr/share/doc/muster-coordinator/examples/cluster.yaml";

const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The address of this machine that the nodes dial; may be left out when there is only one
    #[arg(long)]
    address: Option<IpAddr>,
    /// The TCP port that the nodes dial [default: 7443]
    #[arg(long)]
    port: Option<u16>,
    /// Enrol this machine's own agent too, under this name
    #[arg(long)]
    node: Option<NodeName>,
    /// Where ufw guards this machine, add the one rule that lets the nodes dial in
    #[arg(long)]
    allow_firewall: bool,
}

/// This machine cannot be made the master.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("this sets up a system service: run it with sudo")]
    NotRoot,
    #[error(
        "this coordinator was set up with {known}, not with {wanted}: the agents dial {known}. To move it, write the new address into \
         {path} and into /etc/muster/agent.toml of every node, then restart muster-coordinator here and muster-agent there"
    )]
    OtherAddress { known: File, wanted: File, path: PathBuf },
    #[error("{program} cannot be run: is the package muster-agent installed on this machine?")]
    NoAgent { program: PathBuf, source: std::io::Error },
    #[error(
        "{node} is another machine, which is connected from {address}: give this one the name that its control plane has in the cluster \
         file (`sudo coordinator nodes list` shows the names that are taken)"
    )]
    OtherMachine { node: NodeName, address: String },
    #[error("the agent of this machine could not be enrolled: it says why above")]
    AgentFailed,
}

/// Sets this machine up as the master.
pub async fn run(root: &Path, arguments: Arguments) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(InitError::NotRoot.into());
    }
    // Of whoever calls sudo: a folder that only root may enter would shut the daemon out.
    umask(Mode::from_bits_truncate(0o022));
    let paths = Paths::under(root);
    let known = File::read(&paths.configuration)?;
    let chosen = match (known, arguments.address) {
        (Some(known), None) => known.address,
        (_, wanted) => address::choose(wanted, address::candidates(false)?, address::candidates(true)?)?,
    };
    let port = arguments.port.or(known.map(|known| known.port)).unwrap_or(DEFAULT_PORT);
    let file = File { address: chosen, port };
    match known {
        Some(known) if known != file => {
            return Err(InitError::OtherAddress { known, wanted: file, path: paths.configuration }.into());
        }
        Some(_) => anstream::println!("This machine is set up as the master already; agents dial {file}."),
        None => {
            if let Some(folder) = paths.configuration.parent() {
                private_file::make_public_folder(folder)?;
            }
            file.write(&paths.configuration)?;
            anstream::println!("Agents dial {file}.");
        }
    }
    service::enable_and_start().await?;
    service::wait_for_answer(&paths).await?;
    anstream::println!("{} runs, also after a reboot.", service::UNIT);
    if let Some(node) = &arguments.node {
        enrol_own_agent(&paths, node, &file).await?;
    }
    firewall::offer(root, &paths, &file, arguments.allow_firewall).await?;
    say_what_comes_next(&arguments.node);
    Ok(())
}

/// The master's own agent enrols like every other, at the same address: its address is known in the same way.
#[allow(clippy::disallowed_methods, reason = "root starts the agent's own enrolment, with fixed arguments")]
async fn enrol_own_agent(paths: &Paths, node: &NodeName, file: &File) -> Result<(), Failure> {
    let mut client = admin(paths).await?;
    match standing(&mut client, node, OWN_CONNECTION).await? {
        Standing::Connected(address) if address != file.address.to_string() => {
            return Err(InitError::OtherMachine { node: node.clone(), address }.into());
        }
        Standing::Connected(_) => {
            anstream::println!("{node} is enrolled already.");
            return Ok(());
        }
        Standing::Away => {
            anstream::println!(
                "{node} is enrolled, but its agent is not connected: it is enrolled once more."
            );
        }
        Standing::NotEnrolled => {}
    }
    let request = CreateTokenRequest {
        node: node.to_string(),
        lifetime_seconds: OWN_TOKEN_LIFETIME.as_secs().try_into()?,
    };
    let reply = client.create_token(request).await.map_err(ClientError::from)?.into_inner();
    let token = Zeroizing::new(reply.token);
    let program = agent_program();
    let failed = |source| InitError::NoAgent { program: program.clone(), source };
    // The token goes through a pipe: arguments and environment can be read by every user.
    let mut child = Command::new(&program)
        .args(enrolment(file))
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(token.as_bytes()).await.map_err(failed)?;
    }
    let ended = timeout(OWN_TOKEN_LIFETIME, child.wait()).await.map_err(|_| InitError::AgentFailed)?;
    if ended.map_err(failed)?.success() { Ok(()) } else { Err(InitError::AgentFailed.into()) }
}

/// How a node stands with the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    NotEnrolled,
    /// On the list, and its agent did not come. The list has it before the agent keeps its certificate and its settings and
    /// has its unit started: an enrolment that was cut off looks like this.
    Away,
    /// Its agent is here, from this address of its machine.
    Connected(String),
}

/// How the node stands, once its agent had this long to come.
pub async fn standing(
    client: &mut AdminClient<Channel>,
    node: &NodeName,
    patience: Duration,
) -> Result<Standing, ClientError> {
    let deadline = Instant::now() + patience;
    loop {
        let nodes = client.list_nodes(ListNodesRequest {}).await?.into_inner().nodes;
        match nodes.iter().find(|row| row.name == node.as_str()) {
            None => return Ok(Standing::NotEnrolled),
            Some(row) if row.connected => return Ok(Standing::Connected(row.address.clone())),
            Some(_) if Instant::now() >= deadline => return Ok(Standing::Away),
            Some(_) => sleep(LOOK_AGAIN).await,
        }
    }
}

/// It dials the address that was chosen, not loopback, and reads its token from the pipe.
fn enrolment(file: &File) -> [String; 5] {
    let address = file.to_string();
    ["enroll", "--coordinator", &address, "--token-file", "/dev/stdin"].map(str::to_owned)
}

/// The agent lies beside this program.
fn agent_program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("agent"));
    beside.filter(|program| program.exists()).unwrap_or_else(|| PathBuf::from("/usr/bin/agent"))
}

fn say_what_comes_next(enrolled: &Option<NodeName>) {
    anstream::println!("\nNext:\n");
    if enrolled.is_none() {
        anstream::println!(
            "    sudo coordinator init --node NAME           # enrol this machine's own agent"
        );
    }
    anstream::println!("    sudo coordinator token create --node NAME   # for every other machine");
    anstream::println!("    cp {EXAMPLE} .   # and make it yours");
    anstream::println!("    sudo coordinator preflight -f cluster.yaml  # see what stands in the way");
    anstream::println!("    sudo coordinator plan -f cluster.yaml       # see what would be changed");
    anstream::println!("    sudo coordinator bootstrap -f cluster.yaml");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_own_agent_dials_the_chosen_address_and_its_token_is_no_argument() {
        let file = File { address: "10.88.0.11".parse().unwrap(), port: 8443 };
        assert_eq!(
            enrolment(&file),
            ["enroll", "--coordinator", "10.88.0.11:8443", "--token-file", "/dev/stdin"]
        );
    }
}
