//! `faults [WORD...]`: the cells whose names hold all of the words, and none of the words after a hyphen; all cells without
//! any. `--list` names them.

#![allow(clippy::disallowed_methods, reason = "it clears away what it made")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use muster_faults::matrix::{failure, run};
use muster_faults::scenario::Scenario;
use muster_faults::world::World;

/// Fewer in all would leave a step or a kind of fault untried.
const AT_LEAST: usize = 400;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).filter(|word| !word.is_empty()).collect();
    let list = words.iter().any(|word| word == "--list");
    words.retain(|word| word != "--list");
    let folder = PathBuf::from(format!("/dev/shm/muster-faults-{}", std::process::id()));
    let outcome = matrix(&folder, &words, list);
    let _ = std::fs::remove_dir_all(&folder);
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn matrix(folder: &std::path::Path, words: &[String], list: bool) -> Result<bool, String> {
    if let Some(reason) = muster_faults::tools::lacking() {
        return Err(format!("no cell can run here: the fault matrix needs {reason}"));
    }
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let programs = own.parent().ok_or("no folder")?;
    let began = Instant::now();
    let world =
        World::make(folder, programs).map_err(|problem| failure(Scenario::Bootstrap.word(), &problem))?;
    println!("prepared in {:.1} s", began.elapsed().as_secs_f32());
    let scenarios = asked_for(&world, words)?;
    if list {
        let mut count = 0;
        for scenario in scenarios {
            let cells = world.cells(scenario)?;
            let chosen = cells.iter().filter(|cell| is_chosen(&cell.to_string(), words));
            chosen.for_each(|cell| {
                count += 1;
                println!("{cell}");
            });
        }
        println!("{count} cells");
        return Ok(true);
    }
    let at_once = std::env::var("AT_ONCE").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let verdicts = run(
        &world,
        &scenarios,
        |cell, _| is_chosen(&cell.to_string(), words),
        at_once,
        |one| {
            let took = one.took.as_secs_f32();
            match &one.problem {
                None => println!("holds  {took:6.1} s  {}", one.cell),
                Some(problem) => println!("FAILED {took:6.1} s  {}", failure(&one.cell.to_string(), problem)),
            }
        },
    );
    for (scenario, problem) in &verdicts.unclean {
        println!("FAILED  a clean run: {}", failure(scenario.word(), problem));
    }
    let count = verdicts.ended.len();
    let mut holds = verdicts.failures().is_empty();
    if count == 0 {
        println!("FAILED  no cell's name holds these words: {}", words.join(" "));
        holds = false;
    }
    if words.is_empty() && count < AT_LEAST {
        println!("FAILED  only {count} cells were found; there must be {AT_LEAST}");
        holds = false;
    }
    if words.is_empty() && verdicts.unclean.is_empty() {
        let unasked = world.unasked(&scenarios)?;
        if !unasked.is_empty() {
            println!(
                "FAILED  no scenario asks for these steps of the agent: {}",
                unasked.iter().map(|kind| kind.word()).collect::<Vec<_>>().join(", ")
            );
            holds = false;
        }
    }
    let failed = verdicts.ended.iter().filter(|one| one.problem.is_some()).count();
    println!("{count} cells, {failed} failed, in {:.0} s", began.elapsed().as_secs_f32());
    Ok(holds)
}

/// The scenarios that the words name. A bootstrap's cells are named without one, and are all known already; otherwise all.
fn asked_for(world: &World, words: &[String]) -> Result<Vec<Scenario>, String> {
    let named =
        |scenario: &Scenario| words.iter().any(|word| word.split(':').next() == Some(scenario.word()));
    let chosen: Vec<Scenario> = Scenario::ALL.into_iter().filter(named).collect();
    let of_a_bootstrap = match words {
        [word] if is_exact(word) => {
            world.cells(Scenario::Bootstrap)?.iter().any(|cell| is_chosen(&cell.to_string(), words))
        }
        _ => false,
    };
    Ok(match chosen.is_empty() {
        false => chosen,
        true if of_a_bootstrap => vec![Scenario::Bootstrap],
        true => Scenario::ALL.to_vec(),
    })
}

/// Whether the word goes to the end of a cell's name: NODE/STEP:N.
fn is_exact(word: &str) -> bool {
    word.split_once('/').is_some_and(|(_, step)| step.contains(':'))
}

/// A single word that goes to a name's end is that cell alone; otherwise a cell's name has to hold every word, and
/// none that begins with a hyphen here. `bootstrap` stands in no name.
fn is_chosen(name: &str, words: &[String]) -> bool {
    match words {
        [word] if is_exact(word) => name == word || name.ends_with(&format!(":{word}")),
        words => words.iter().all(|word| match word.strip_prefix('-') {
            Some(unwanted) => !name.contains(unwanted),
            None => name.contains(word.as_str()) || word == Scenario::Bootstrap.word(),
        }),
    }
}
