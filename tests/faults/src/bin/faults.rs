//! `faults [WORD...]`: the cells whose names hold all of the words; all cells without any. `--list` names them.

#![allow(clippy::disallowed_methods, reason = "it clears away what it made")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use muster_faults::matrix::{World, cells, run};

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
    let world = World::make(folder, programs)?;
    let mut chosen = cells(&world);
    match words {
        [name] if chosen.iter().any(|cell| cell.to_string() == *name) => {
            chosen.retain(|cell| cell.to_string() == *name);
        }
        words => chosen.retain(|cell| words.iter().all(|word| cell.to_string().contains(word))),
    }
    if list {
        chosen.iter().for_each(|cell| println!("{cell}"));
        println!("{} cells", chosen.len());
        return Ok(true);
    }
    if words.is_empty() && chosen.len() < AT_LEAST {
        return Err(format!("only {} cells were found; there must be {AT_LEAST}", chosen.len()));
    }
    let at_once = std::env::var("AT_ONCE").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    println!("prepared in {:.1} s; {} cells, {at_once} at once", began.elapsed().as_secs_f32(), chosen.len());
    let ended = run(&world, chosen, at_once, |one| {
        let verdict = if one.problem.is_some() { "FAILED" } else { "holds" };
        println!("{verdict:7}{:6.1} s  {}", one.took.as_secs_f32(), one.cell);
        if let Some(problem) = &one.problem {
            println!("    {}", problem.replace('\n', "\n    "));
            println!("    repeat: make faults CELL='{}'", one.cell);
        }
    });
    let failed = ended.iter().filter(|one| one.problem.is_some()).count();
    println!("{} cells, {failed} failed, in {:.0} s", ended.len(), began.elapsed().as_secs_f32());
    Ok(failed == 0)
}
