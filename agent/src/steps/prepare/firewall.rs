//! Afterwards: where the spec wants ufw off, it is off now and stays off after a reboot (`ENABLED=no` in its own
//! configuration, which its service reads at boot). Where ufw is not installed, or the spec leaves it alone, nothing.

use std::time::Duration;

use muster_proto::agent;

use crate::host::HostError;
use crate::host::change::{Change, Program, ProgramName};
use crate::host::query::Observe;
use crate::host::ufw;
use crate::steps::{BadStep, Finding, Input};

pub const SETTLE: Duration = Duration::from_secs(5);

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Firewall {
    disable_ufw: bool,
}

impl Firewall {
    pub fn parse(message: &agent::Firewall) -> Result<Self, BadStep> {
        Ok(Self { disable_ufw: message.disable_ufw })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        if !self.disable_ufw || !ufw::files(host).await?.is_some_and(|files| files.say_on()) {
            return Ok(Finding::DONE);
        }
        let disable = Program::new(ProgramName::Ufw, ["--force", "disable"], LIMIT);
        Ok(Finding::Todo(vec![Change::Run(disable)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::steps::rehearsal::{carry_out, step};
    use muster_proto::agent::step::Kind;

    #[tokio::test]
    async fn ufw_goes_off_only_where_it_is_installed_and_unwanted() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        let kept = step(Kind::Firewall(agent::Firewall { disable_ufw: false }));
        assert!(matches!(kept.check(&host, &Input::default()).await, Ok(Finding::Done(_))));
        let unwanted = step(Kind::Firewall(agent::Firewall { disable_ufw: true }));
        host.with(|state| state.missing_programs.insert("ufw".into()));
        assert!(matches!(unwanted.check(&host, &Input::default()).await, Ok(Finding::Done(_))));
        host.with(|state| state.missing_programs.clear());
        let finding = carry_out(&host, &unwanted, &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        assert!(host.file(muster_proto::ufw::CONFIGURATION).unwrap().contains("\nENABLED=no\n"));
    }
}
