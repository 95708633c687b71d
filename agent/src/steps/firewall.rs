//! Afterwards: where the spec wants ufw off, it is off now and stays off after a reboot (`ENABLED=no` in its own
//! configuration, which its service reads at boot). Where ufw is not installed, or the spec leaves it alone, nothing.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;

use super::{BadStep, Finding, Input};
use crate::host::HostError;
use crate::host::change::{Change, Program, ProgramName};
use crate::host::query::Observe;

pub const NAME: &str = "firewall";
pub const SETTLE: Duration = Duration::from_secs(5);

pub(crate) const UFW_FILE: &str = "/etc/ufw/ufw.conf";
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
        if !self.disable_ufw || !host.missing_programs(&["ufw"]).await?.is_empty() {
            return Ok(Finding::DONE);
        }
        let file = host.read_file(Path::new(UFW_FILE)).await?.unwrap_or_default();
        if !is_enabled(&file) {
            return Ok(Finding::DONE);
        }
        let disable = Program::new(ProgramName::Ufw, ["--force", "disable"], LIMIT);
        Ok(Finding::Todo(vec![Change::Run(disable)]))
    }
}

/// Whether ufw.conf says that ufw is on; ufw itself takes the last line, and no line as no.
pub(crate) fn is_enabled(file: &str) -> bool {
    let value = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let value = value.split('#').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        (key.trim().eq_ignore_ascii_case("enabled")).then(|| value.eq_ignore_ascii_case("yes"))
    };
    file.lines().filter_map(value).next_back().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::steps::rehearsal::{carry_out, step};
    use muster_proto::agent::step::Kind;

    #[test]
    fn ufw_is_on_only_when_its_file_says_so() {
        let table = [
            ("# comment\nENABLED=yes\nLOGLEVEL=low\n", true),
            ("ENABLED=no\n", false),
            ("#ENABLED=yes\n", false),
            ("enabled = \"Yes\" # on\n", true),
            ("ENABLED=yes\nENABLED=no\n", false),
            ("", false),
        ];
        for (file, on) in table {
            assert_eq!(is_enabled(file), on, "{file:?}");
        }
    }

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
        assert!(host.file(UFW_FILE).unwrap().contains("\nENABLED=no\n"));
    }
}
