//! What a person sees of a fault: what the first command says, and how it ends. docs/reliability.md has the same as a table.

use muster_proto::failpoint::Point;

use crate::cell::{Cell, Harm, Kind, Side, Since};
use crate::machine::{Done, Said};
use crate::pair::{MASTER, WORKER};
use crate::scenario::Scenario;
use crate::stand_in::memory::How;
use crate::strike::is_long;

/// What has to stand in a failure's text: of each line one of these.
type Words = &'static [&'static [&'static str]];

const LOST: Words = &[&["the connection to the coordinator was lost"]];

/// How the first command has to end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Well, as if nothing had been.
    Done,
    /// With a failure that names what a person can act on.
    Fails(Words),
    /// With this code as well.
    FailsWith(i32, Words),
    /// It died with its machine, or went away as it was told.
    Gone,
}

pub fn ends_as_promised(cell: &Cell, said: &Said) -> Done<()> {
    let end = end(cell);
    let names = |words: Words| words.iter().all(|any| any.iter().any(|word| said.text.contains(word)));
    let right = match end {
        End::Done => cell.scenario.is_done(said),
        End::Fails(words) => said.code() != Some(0) && names(words),
        End::FailsWith(code, words) => said.code() == Some(code) && names(words),
        End::Gone => true,
    };
    match right {
        true => Ok(()),
        false => Err(format!(
            "the first command ended with {}, and had to end so: {end:?}; it said: {}",
            said.status, said.text
        )),
    }
}

fn end(cell: &Cell) -> End {
    match cell.kind {
        Kind::Kill(point) if Point::OF_THE_COORDINATOR.contains(&point) => End::FailsWith(lost(cell), LOST),
        // Whoever asks a coordinator that gives no sign of life takes it for gone. The run goes on once it does.
        Kind::Stop(point) if is_long(cell) && Point::OF_THE_COORDINATOR.contains(&point) => {
            End::FailsWith(lost(cell), LOST)
        }
        Kind::Kill(_) | Kind::KillLater(_) | Kind::Cut(_) | Kind::Replay | Kind::Stop(_) => End::Done,
        Kind::PowerLoss(_) if cell.step.node() == WORKER => End::Done,
        Kind::PowerLoss(_) | Kind::Detach => End::Gone,
        Kind::Program(How::Fails | How::FailsThoughItWorked) => End::Fails(&[&["as the test wants"]]),
        Kind::Program(How::HangsSilent | How::HangsChatty) => End::Fails(&[&["time limit"]]),
        Kind::DiskFull(_) => End::Fails(&[&[
            "No space left",
            "is the disk full",
            "the disk is full",
            "database or disk is full",
        ]]),
        // By the name of the machine that does not answer.
        Kind::Journal(_, Side::Agent) if cell.step.node() == MASTER => {
            End::Fails(&[&["the agent of m1 is not connected"]])
        }
        Kind::Journal(_, Side::Agent) => End::Fails(&[&["the agent of w1 is not connected"]]),
        Kind::Journal(_, Side::Coordinator) => End::FailsWith(lost(cell), LOST),
        // The check before a bootstrap refuses it; otherwise the clock was not wrong at all.
        Kind::Clock(_, Since::TheBeginning) => End::FailsWith(
            3,
            &[&["the clock of"], &["s ahead of the coordinator's", "s behind the coordinator's"]],
        ),
        Kind::Clock(_, Since::MidEffect) => End::Done,
    }
}

/// The code of a command whose coordinator is gone; `init` knows only that something unexpected happened.
fn lost(cell: &Cell) -> i32 {
    if cell.scenario == Scenario::OpenPort { 1 } else { 5 }
}

/// What a daemon says of a journal that it does not take.
pub fn refusal(harm: Harm) -> &'static str {
    match harm {
        Harm::Corrupt | Harm::Truncated => "is damaged",
        Harm::Newer => "was written by a newer Muster",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn judged(kind: Kind, node: &str, code: i32, text: &str) -> Done<()> {
        let cell = Cell::new(kind, &format!("{node}/kubeadm-join").parse().unwrap(), 1);
        let said = Said { status: ExitStatus::from_raw(code << 8), text: text.to_owned() };
        ends_as_promised(&cell, &said)
    }

    #[test]
    fn whoever_is_promised_to_see_nothing_sees_the_end() {
        for kind in [Kind::Kill(Point::MidEffect), Kind::Replay, Kind::Stop(Point::MidEffect)] {
            assert_eq!(judged(kind, WORKER, 0, "done: 3 steps changed something"), Ok(()));
            assert!(judged(kind, WORKER, 5, "the connection to the coordinator was lost").is_err());
        }
        assert!(judged(Kind::PowerLoss(Point::MidEffect), WORKER, 4, "FAILED").is_err());
        assert_eq!(judged(Kind::PowerLoss(Point::MidEffect), MASTER, 1, ""), Ok(()));
    }

    #[test]
    fn a_failure_names_its_cause_and_there_is_one() {
        let full = Kind::DiskFull(crate::cell::Place::Target);
        assert_eq!(judged(full, WORKER, 4, "write /etc/hosts: No space left on device"), Ok(()));
        assert!(judged(full, WORKER, 4, "it did not work").is_err());
        assert!(judged(full, WORKER, 0, "done: 3 steps changed something").is_err());
        let wrong = Kind::Clock(7200, Since::TheBeginning);
        assert!(judged(wrong, WORKER, 3, "the clock of w1 is 7200 s ahead of the coordinator's").is_ok());
        assert!(judged(wrong, WORKER, 4, "the clock of w1 is 7200 s ahead of the coordinator's").is_err());
    }
}
