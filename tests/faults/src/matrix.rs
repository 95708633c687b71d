//! Making the scenarios' worlds and striking their cells, several at once since most of their time is waiting.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cell::Cell;
use crate::scenario::Scenario;
use crate::strike::strike;
use crate::survey::Survey;
use crate::world::World;

/// How a cell ended.
pub struct Ended {
    pub cell: Cell,
    pub problem: Option<String>,
    pub took: Duration,
}

/// What is left to do, and by how many it is being added to.
struct Work {
    /// Cells of a scenario that is not known yet.
    scenarios: VecDeque<Scenario>,
    cells: VecDeque<(usize, Cell)>,
    asking: usize,
    found: usize,
    ended: Vec<Ended>,
    problems: Vec<String>,
}

/// Runs the chosen cells of these scenarios, so many at once; `tell` hears of each as it ends. An error: a scenario without a
/// clean run.
pub fn run(
    world: &World,
    scenarios: &[Scenario],
    choose: impl Fn(&Cell, &Survey) -> bool + Sync,
    at_once: usize,
    tell: impl Fn(&Ended) + Sync,
) -> Result<Vec<Ended>, String> {
    let work = Mutex::new(Work {
        scenarios: scenarios.iter().copied().collect(),
        cells: VecDeque::new(),
        asking: 0,
        found: 0,
        ended: Vec::new(),
        problems: Vec::new(),
    });
    let news = Condvar::new();
    let lock = || work.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                let mut held = lock();
                loop {
                    if let Some(scenario) = held.scenarios.pop_front() {
                        held.asking += 1;
                        drop(held);
                        let cells = world.cells(scenario).and_then(|cells| {
                            let survey = &world.clean(scenario)?.survey;
                            Ok(cells.into_iter().filter(|cell| choose(cell, survey)).collect::<Vec<_>>())
                        });
                        held = lock();
                        held.asking -= 1;
                        match cells {
                            Ok(cells) => {
                                let first = held.found;
                                held.found += cells.len();
                                held.cells.extend((first..).zip(cells));
                            }
                            Err(problem) => held.problems.push(problem),
                        }
                        news.notify_all();
                    } else if let Some((number, cell)) = held.cells.pop_front() {
                        drop(held);
                        let folder = world.folder.join(format!("cell-{number}"));
                        let began = Instant::now();
                        let problem = strike(&cell, world, &folder).err();
                        if std::env::var_os("KEEP").is_none() {
                            let _ = std::fs::remove_dir_all(&folder);
                        }
                        let one = Ended { cell, problem, took: began.elapsed() };
                        tell(&one);
                        held = lock();
                        held.ended.push(one);
                    } else if held.asking > 0 {
                        held = news.wait(held).unwrap_or_else(PoisonError::into_inner);
                    } else {
                        return;
                    }
                }
            });
        }
    });
    let work = work.into_inner().unwrap_or_else(PoisonError::into_inner);
    match work.problems.is_empty() {
        true => Ok(work.ended),
        false => Err(work.problems.join("\n")),
    }
}
