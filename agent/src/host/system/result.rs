//! How a transient unit stands, and what its end means.

use std::time::Duration;

use super::bus::{Bus, Properties, is_unknown_unit, refused};
use crate::host::HostError;

/// CLD_EXITED of waitid(2): the program ended by itself.
const EXITED: i32 = 1;

/// From here on an exit code of systemd's own says that the program could not even be started, 203 that there is no such
/// executable (systemd.exec(5), "Process exit codes").
const SYSTEMD_CODES: std::ops::RangeInclusive<i32> = 200..=245;

/// A unit at one moment.
#[derive(Debug, Default)]
pub(super) struct Progress {
    active_state: String,
    /// A job is queued or under way.
    has_job: bool,
    result: String,
    code: i32,
    status: i32,
    started: u64,
    ended: u64,
    pub(super) limit: Duration,
}

impl Progress {
    /// How the unit stands; none when systemd has no such unit.
    pub(super) async fn look(bus: &Bus, unit: &str) -> Result<Option<Self>, HostError> {
        let asked = async {
            let path = bus.systemd.get_unit(unit.to_owned()).await?;
            Ok(Self::from_properties(&bus.unit(&path).await?, &bus.service(&path).await?))
        };
        match asked.await {
            Ok(progress) => Ok(Some(progress)),
            Err(error) if is_unknown_unit(&error) => Ok(None),
            Err(error) => Err(refused(format!("to tell the state of {unit}"), error)),
        }
    }

    fn from_properties(unit: &Properties, service: &Properties) -> Self {
        Self {
            active_state: unit.text("ActiveState").to_owned(),
            has_job: unit.job() != 0,
            result: service.text("Result").to_owned(),
            code: service.signed("ExecMainCode"),
            status: service.signed("ExecMainStatus"),
            started: service.unsigned("ExecMainStartTimestampMonotonic"),
            ended: service.unsigned("ExecMainExitTimestampMonotonic"),
            limit: Duration::from_micros(service.unsigned("TimeoutStartUSec")),
        }
    }

    /// Whether its end is still to come. `active` is the end of a oneshot that remains after its exit.
    pub(super) fn is_running(&self) -> bool {
        match self.active_state.as_str() {
            "active" | "failed" => false,
            "inactive" => self.has_job,
            _ => true,
        }
    }

    pub(super) fn duration_ms(&self) -> u64 {
        self.ended.saturating_sub(self.started) / 1000
    }

    /// The program's exit code, and why it failed when it was not the program that said so.
    pub(super) fn result(&self) -> (Option<i32>, Option<String>) {
        let exit_code = (self.code == EXITED).then_some(self.status);
        let error = match self.result.as_str() {
            "success" if exit_code.is_some() => None,
            "exit-code" if SYSTEMD_CODES.contains(&self.status) => {
                Some(format!("systemd could not start the program (its code {})", self.status))
            }
            "exit-code" => None,
            "timeout" => Some(format!("it was ended by its time limit of {} s", self.limit.as_secs())),
            "success" if self.code == 0 => Some("it was stopped from outside before it ran".to_owned()),
            "signal" | "core-dump" | "success" => Some(format!("it was ended by signal {}", self.status)),
            "oom-kill" => Some("the kernel ended it because memory ran out".to_owned()),
            other => Some(format!("systemd reports `{other}`")),
        };
        (exit_code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(result: &str, code: i32, status: i32) -> Progress {
        let limit = Duration::from_secs(90);
        Progress { result: result.to_owned(), code, status, limit, ..Progress::default() }
    }

    fn standing(active_state: &str, has_job: bool) -> Progress {
        Progress { active_state: active_state.to_owned(), has_job, ..Progress::default() }
    }

    #[test]
    fn a_oneshot_has_ended_when_it_is_active_or_failed() {
        for (state, has_job, running) in [
            ("activating", true, true),
            ("inactive", true, true),
            ("deactivating", false, true),
            ("active", false, false),
            ("failed", false, false),
            ("inactive", false, false),
        ] {
            assert_eq!(standing(state, has_job).is_running(), running, "{state} {has_job}");
        }
    }

    #[test]
    fn an_exit_code_is_the_programs_own_word() {
        assert_eq!(ended("success", 1, 0).result(), (Some(0), None));
        assert_eq!(ended("exit-code", 1, 3).result(), (Some(3), None));
    }

    #[test]
    fn a_limit_a_signal_and_a_missing_program_are_told_apart() {
        let told = |progress: Progress| progress.result().1.unwrap();
        assert_eq!(told(ended("timeout", 2, 15)), "it was ended by its time limit of 90 s");
        assert_eq!(told(ended("signal", 2, 9)), "it was ended by signal 9");
        assert_eq!(told(ended("success", 2, 15)), "it was ended by signal 15");
        assert_eq!(told(ended("exit-code", 1, 203)), "systemd could not start the program (its code 203)");
        assert_eq!(told(ended("success", 0, 0)), "it was stopped from outside before it ran");
        assert_eq!(ended("timeout", 2, 15).result().0, None);
        assert_eq!(told(ended("resources", 0, 0)), "systemd reports `resources`");
    }
}
