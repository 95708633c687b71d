//! How often the programs ran, as the stand-ins remember it: what the scenario is for worked once, no two ran at once, none ran
//! more often than in a clean run, and only one that the fault can really have cut off began a second time.

use std::collections::BTreeMap;

use muster_proto::failpoint::Point;

use crate::cell::{Cell, Kind};
use crate::machine::{Done, told};
use crate::pair::{Pair, WORKER};
use crate::stand_in::memory::How;
use crate::survey::Survey;
use crate::world::Clean;

/// Of these every run is counted; a run that no scenario asks for is a fault of Muster's.
const COUNTED: [&str; 4] = ["init", "join", "reset", "drain"];

/// Of these a run more is no fault; and why.
const AS_OFTEN_AS_NEEDED: [(&str, &str); 2] = [
    ("token", "a ticket is written down nowhere: whoever lost it with its memory mints another"),
    (
        "apply",
        "changes nothing the second time: what says that a manifest was applied is written after it, and a smoke test that \
         takes itself away leaves nothing that says so",
    ),
];

/// A program as the stand-ins write it down: the verb, and the node that it is about.
type Program = (String, String);

/// What the stand-ins remember: of each program, in order, how each run went.
pub struct Runs {
    runs: BTreeMap<Program, Vec<String>>,
}

impl Runs {
    pub fn of(pair: &Pair) -> Done<Self> {
        let text = std::fs::read_to_string(pair.memory.join("runs.log")).map_err(told)?;
        Ok(Self::read(&text))
    }

    /// How often each was begun.
    pub fn begun(&self) -> BTreeMap<Program, usize> {
        self.runs.iter().map(|(program, all)| (program.clone(), count(all, "begin"))).collect()
    }

    fn read(text: &str) -> Self {
        let mut runs: BTreeMap<Program, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            if let (Some(how), Some(verb), Some(node)) = (words.next(), words.next(), words.next()) {
                runs.entry((verb, node)).or_default().push(how);
            }
        }
        Self { runs }
    }

    /// What the scenario's programs did: each once, never two at once, never again after it was done, and nothing else.
    pub fn are_as_they_should_be(&self, cell: &Cell, clean: &Clean) -> Done<()> {
        let (once, survey) = (cell.scenario.once(), &clean.survey);
        let struck = cut_off(cell, survey);
        for (verb, node) in once {
            self.worked_once(verb, node, cell, struck.as_ref())?;
        }
        for ((verb, node), all) in &self.runs {
            let told = || format!("{verb} on {node}: {}", all.join(", "));
            if all.iter().any(|how| how == "overlap") {
                return Err(format!("two at once: {}", told()));
            }
            let expected = once.contains(&(verb.as_str(), node.as_str()));
            let undoes = verb == "reset" && undone(cell, survey).is_some_and(|undone| undone == *node);
            if COUNTED.contains(&verb.as_str()) && !expected && !undoes {
                return Err(format!("nobody asked for it: {}", told()));
            }
            if undoes && !expected && count(all, "begin") > 1 {
                return Err(format!("undone more than once: {}", told()));
            }
            let program = (verb.clone(), node.clone());
            // Not the struck step's program alone finds the disk full.
            let full = matches!(cell.kind, Kind::DiskFull(_)) && cell.armed_on() == node;
            let again = usize::from(full || struck.as_ref() == Some(&program));
            let most = clean.begun.get(&program).copied().unwrap_or(0) + again;
            let is_excused = AS_OFTEN_AS_NEEDED.iter().any(|(excused, _)| excused == verb);
            let counts = !COUNTED.contains(&verb.as_str()) && !is_excused;
            if counts && count(all, "begin") > most {
                return Err(format!("begun more often than {most} times: {}", told()));
            }
        }
        Ok(())
    }

    /// Once, never again after it was done; with a reset between two, the second is the first of a new life of the node.
    fn worked_once(&self, verb: &str, node: &str, cell: &Cell, struck: Option<&Program>) -> Done<()> {
        let runs = |verb: &str| {
            self.runs.get(&(verb.to_owned(), node.to_owned())).map(Vec::as_slice).unwrap_or_default()
        };
        let all = runs(verb);
        let told = || format!("{verb} on {node}: {}", all.join(", "));
        let is_struck = struck.is_some_and(|(other, on)| other == verb && on == node);
        let worked = count(all, "done") + count(all, "worked-and-failed");
        // What a reset took away with the power before it was on a disk is taken away again.
        let lives = if verb == "reset" { usize::from(is_struck) } else { count(runs("reset"), "begin") };
        if count(all, "refused") > 0 {
            return Err(format!("it had to refuse: {}", told()));
        }
        if worked == 0 || worked > 1 + lives {
            return Err(format!("it worked {worked} times, with {lives} resets: {}", told()));
        }
        let begun = count(all, "begin");
        let right = match (is_struck, cell.kind) {
            (false, _) => begun == 1,
            // It was begun, did nothing, and was begun again.
            (true, Kind::Program(_)) => begun == 2,
            // The power may have gone before its first instruction.
            (true, _) => begun == 1 || begun == 2,
        };
        if !right {
            return Err(format!("begun {begun} times: {}", told()));
        }
        let last = all.last().map(String::as_str).unwrap_or_default();
        if last != "done" && last != "worked-and-failed" {
            return Err(format!("the last one did not work: {}", told()));
        }
        Ok(())
    }
}

fn count(of: &[String], how: &str) -> usize {
    of.iter().filter(|one| *one == how).count()
}

/// The one program that may begin a second time, because the fault can really have cut off the first, or kept it from its
/// work. After the intent is written it has not begun yet; once its end was seen (`EffectDone`) what it wrote is on the disk
/// (the agent brings it there before it journals the end), and looking at the host finds it; one that fails though it
/// worked is found done likewise.
fn cut_off(cell: &Cell, survey: &Survey) -> Option<Program> {
    let can_be = match cell.kind {
        Kind::PowerLoss(point) => point == Point::MidEffect,
        Kind::Program(how) => how != How::FailsThoughItWorked,
        _ => false,
    };
    if can_be { program(cell, survey) } else { None }
}

/// The node whose half-done init or join is undone before it is done again: only one whose power went in its middle, since a
/// program that failed or hung wrote nothing.
pub fn undone(cell: &Cell, survey: &Survey) -> Option<String> {
    let (verb, node) = cut_off(cell, survey).filter(|_| matches!(cell.kind, Kind::PowerLoss(_)))?;
    ["init", "join"].contains(&verb.as_str()).then_some(node)
}

/// The program that the cell's change runs, as the stand-ins write it down; none when the change is no such program.
fn program(cell: &Cell, survey: &Survey) -> Option<Program> {
    let made = survey.changes.get(&cell.step)?.get((cell.nth as usize).checked_sub(1)?)?;
    let (name, verb) = made.program.as_ref()?;
    let own = |verb: String| (verb, cell.step.node().to_owned());
    Some(match (name.as_str(), verb.as_str()) {
        // The master drains the worker.
        ("kubectl", "drain") => (verb.clone(), WORKER.to_owned()),
        ("kubectl", "apply") | ("kubeadm", "token") => (verb.clone(), "control-plane".to_owned()),
        ("kubeadm", _) => own(verb.clone()),
        (name, "") => own(name.to_owned()),
        (name, verb) => own(format!("{name}-{verb}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::Made;

    fn judged(kind: Kind, log: &str) -> Done<()> {
        let step = "w1/kubeadm-join".parse().unwrap();
        let made = Made { summary: String::new(), program: Some(("kubeadm".to_owned(), "join".to_owned())) };
        let survey = Survey { changes: [(step, vec![made])].into(), ..Survey::default() };
        let cell = Cell::new(kind, &"w1/kubeadm-join".parse().unwrap(), 1);
        let begun = [(("ufw-disable".to_owned(), "w1".to_owned()), 1)].into();
        let clean = Clean { survey, begun, end: Default::default() };
        Runs::read(&format!("begin init m1\ndone init m1\n{log}")).are_as_they_should_be(&cell, &clean)
    }

    const ONCE: &str = "begin join w1\ndone join w1\n";
    const AGAIN: &str = "begin join w1\nbegin reset w1\ndone reset w1\nbegin join w1\ndone join w1\n";
    const TWICE: &str = "begin join w1\nbegin join w1\ndone join w1\n";

    #[test]
    fn a_program_whose_power_went_in_its_middle_may_be_undone_and_begin_again() {
        for log in [ONCE, AGAIN] {
            assert_eq!(judged(Kind::PowerLoss(Point::MidEffect), log), Ok(()));
        }
    }

    #[test]
    fn no_other_loss_of_power_and_no_other_fault_excuses_a_second_beginning() {
        for point in [Point::AfterIntent, Point::EffectDone, Point::ResultRecorded] {
            assert_eq!(judged(Kind::PowerLoss(point), ONCE), Ok(()));
            assert!(judged(Kind::PowerLoss(point), AGAIN).is_err());
            assert!(judged(Kind::PowerLoss(point), TWICE).is_err());
        }
        assert!(judged(Kind::Kill(Point::MidEffect), TWICE).is_err());
        assert!(judged(Kind::Program(How::FailsThoughItWorked), TWICE).is_err());
    }

    #[test]
    fn a_program_that_failed_begins_once_more_and_is_not_undone() {
        let failed = "begin join w1\nfailed join w1\nbegin join w1\ndone join w1\n";
        assert_eq!(judged(Kind::Program(How::Fails), failed), Ok(()));
        assert_eq!(judged(Kind::Program(How::HangsSilent), TWICE), Ok(()));
        assert!(judged(Kind::Program(How::Fails), AGAIN).is_err());
        assert!(judged(Kind::Program(How::Fails), ONCE).is_err());
    }

    #[test]
    fn no_program_runs_more_often_than_in_a_clean_run() {
        let with =
            |times: usize| format!("{ONCE}{}", "begin ufw-disable w1\ndone ufw-disable w1\n".repeat(times));
        for times in [0, 1] {
            assert_eq!(judged(Kind::Kill(Point::MidEffect), &with(times)), Ok(()));
        }
        assert!(judged(Kind::Kill(Point::MidEffect), &with(2)).is_err());
        let minted = format!("{ONCE}begin token control-plane\ndone token control-plane\n");
        assert_eq!(judged(Kind::Kill(Point::MidEffect), &minted), Ok(()));
    }

    #[test]
    fn two_at_once_a_refusal_and_what_nobody_asked_for_are_never_right() {
        for log in [
            format!("overlap join w1\n{ONCE}"),
            format!("{ONCE}begin join w1\nrefused join w1\n"),
            format!("{ONCE}begin reset m1\ndone reset m1\n"),
            format!("{ONCE}begin join m1\ndone join m1\n"),
        ] {
            assert!(judged(Kind::PowerLoss(Point::MidEffect), &log).is_err(), "{log}");
        }
    }
}
