//! Afterwards: where ufw guards this machine, which is the master, it lets the nodes dial the coordinator's port. Where ufw
//! is off, lets in what no rule names, or has such a rule already, nothing. A reset takes away the rule that was set here.

use std::net::IpAddr;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::ufw::Rule;

use crate::host::HostError;
use crate::host::change::{Change, Program, ProgramName};
use crate::host::query::Observe;
use crate::host::ufw;
use crate::steps::{BadStep, Finding, Input};

pub const SETTLE: Duration = Duration::from_secs(5);

/// ufw waits for its own lock; a rule is added in a second.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct CoordinatorPort {
    rule: Rule,
}

impl CoordinatorPort {
    pub fn parse(message: &agent::CoordinatorPort) -> Result<Self, BadStep> {
        let address: IpAddr = BadStep::parsed("coordinator_port.address", &message.address, "an IP address")?;
        let port = u16::try_from(message.port).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| BadStep::Value {
            field: "coordinator_port.port",
            problem: format!("{} is not a port", message.port),
        })?;
        Ok(Self { rule: Rule { address, port } })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        if !ufw::files(host).await?.is_some_and(|files| files.keep_out(&self.rule)) {
            return Ok(Finding::DONE);
        }
        let allow = Program::new(ProgramName::Ufw, self.rule.words(), LIMIT);
        Ok(Finding::Todo(vec![Change::Run(allow)]))
    }
}

/// What takes the rule away again; none when it does not stand there any more.
pub(crate) async fn undo<H: Observe>(host: &H, rule: &Rule) -> Result<Option<Change>, HostError> {
    let there = ufw::files(host).await?.is_some_and(|files| rule.is_among(&files.rules));
    Ok(there.then(|| Change::Run(Program::new(ProgramName::Ufw, rule.deletion(), LIMIT))))
}

#[cfg(test)]
mod tests {
    use muster_proto::ufw::{CONFIGURATION, DEFAULTS, RULES};

    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::steps::rehearsal::{carry_out, step};
    use muster_proto::agent::step::Kind;

    fn let_in() -> crate::steps::Step {
        step(Kind::CoordinatorPort(agent::CoordinatorPort { address: "10.88.0.11".into(), port: 7443 }))
    }

    #[tokio::test]
    async fn the_rule_is_added_once_and_only_where_ufw_keeps_the_nodes_out() {
        let wide = "### tuple ### allow tcp 7443 0.0.0.0/0 any 0.0.0.0/0 in\n";
        for (path, content) in [
            (CONFIGURATION, "ENABLED=no\n"),
            (DEFAULTS, "DEFAULT_INPUT_POLICY=\"ACCEPT\"\n"),
            (RULES[0], wide),
        ] {
            let host = FakeHost::debian("m1", FakeCluster::default());
            host.put_file(path, content);
            let finding = let_in().check(&host, &Input::default()).await;
            assert!(matches!(finding, Ok(Finding::Done(_))), "{path}: {finding:?}");
        }
        let host = FakeHost::debian("m1", FakeCluster::default());
        let finding = carry_out(&host, &let_in(), &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        assert_eq!(host.run_log(), ["ufw allow in proto tcp to 10.88.0.11 port 7443"]);
    }

    #[test]
    fn a_port_that_is_none_is_refused() {
        for port in [0, 65_536] {
            let message = agent::CoordinatorPort { address: "10.88.0.11".into(), port };
            assert!(CoordinatorPort::parse(&message).is_err(), "{port}");
        }
    }
}
