//! `coordinator token`: mint, list and revoke enrolment tokens.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Subcommand;
use muster_proto::coordinator::{
    CreateTokenReply, CreateTokenRequest, ListTokensRequest, RevokeTokenRequest,
};
use muster_proto::names::NodeName;

use super::{Failure, admin, print_table};
use crate::settings::Paths;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a one-time token for one node
    Create {
        /// The name that the node will have
        #[arg(long)]
        node: NodeName,
        /// How long the token may be used: 90s, 15m, 2h
        #[arg(long, default_value = "15m", value_parser = lifetime)]
        ttl: Duration,
        /// Print the token alone, for a script
        #[arg(long, visible_alias = "quiet")]
        token_only: bool,
    },
    /// Show the tokens and what became of them
    List,
    /// Make a token useless
    Revoke {
        /// The token's id, as `list` shows it
        id: String,
    },
}

/// Does what the command says.
pub async fn run(paths: &Paths, command: Command) -> Result<(), Failure> {
    let mut client = admin(paths).await?;
    let refused = super::ClientError::from;
    match command {
        Command::Create { node, ttl, token_only } => {
            let lifetime_seconds = u32::try_from(ttl.as_secs())?;
            let request = CreateTokenRequest { node: node.into(), lifetime_seconds };
            let reply = client.create_token(request).await.map_err(refused)?.into_inner();
            if token_only { println!("{}", reply.token) } else { explain(&reply) }
        }
        Command::List => {
            let reply = client.list_tokens(ListTokensRequest {}).await.map_err(refused)?.into_inner();
            let row = |token: muster_proto::coordinator::TokenRow| {
                vec![token.id, token.node, token.expires, token.state]
            };
            print_table(
                &["ID", "NODE", "EXPIRES", "STATE"],
                &reply.tokens.into_iter().map(row).collect::<Vec<_>>(),
            );
        }
        Command::Revoke { id } => {
            client.revoke_token(RevokeTokenRequest { id }).await.map_err(refused)?;
        }
    }
    Ok(())
}

/// The token alone on standard output; what to do with it on standard error, so that both read well on a terminal
/// and a pipe gets the token.
fn explain(reply: &CreateTokenReply) {
    anstream::eprintln!("On the machine that is to be {} run:\n", reply.node);
    anstream::eprintln!("    sudo agent enroll --coordinator {}\n", reply.coordinator_address);
    anstream::eprintln!("and paste this token when it asks (usable once, until {}):\n", reply.expires);
    let indent = if io::stdout().is_terminal() { "    " } else { "" };
    println!("{indent}{}", reply.token);
    anstream::eprintln!();
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let wrong = || "a time such as 90s, 15m or 2h, at most 24h".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let duration = Duration::from_secs(u64::from(number) * seconds);
    let allowed = !duration.is_zero() && duration <= crate::admin::LONGEST_LIFETIME;
    if allowed { Ok(duration) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_a_number_and_a_unit_and_ends_within_a_day() {
        assert_eq!(lifetime("15m"), Ok(Duration::from_secs(900)));
        for wrong in ["", "15", "m", "-1m", "0s", "25h", "1.5h", "15 m", "4294967295h", "é"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
