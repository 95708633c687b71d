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

/// What came of all of them.
#[derive(Default)]
pub struct Verdicts {
    pub ended: Vec<Ended>,
    /// Scenarios that have no clean run to hold a cell against. The others' cells are judged all the same.
    pub unclean: Vec<(Scenario, String)>,
}

impl Verdicts {
    /// Of everything that does not hold: what, and the command that repeats it.
    pub fn failures(&self) -> Vec<String> {
        let cells =
            self.ended.iter().filter_map(|one| Some(failure(&one.cell.to_string(), one.problem.as_ref()?)));
        let scenarios = self
            .unclean
            .iter()
            .map(|(scenario, problem)| format!("a clean run: {}", failure(scenario.word(), problem)));
        cells.chain(scenarios).collect()
    }

    pub fn extend(&mut self, other: Self) {
        self.ended.extend(other.ended);
        self.unclean.extend(other.unclean);
    }
}

/// `what`: the word or words that choose it.
pub fn failure(what: &str, problem: &str) -> String {
    format!("{what}: {}\n    repeat: make faults CELL='{what}'", problem.replace('\n', "\n    "))
}

/// What is left to do, and by how many it is being added to.
struct Work {
    /// Cells of a scenario that is not known yet.
    scenarios: VecDeque<Scenario>,
    cells: VecDeque<(usize, Cell)>,
    asking: usize,
    found: usize,
    verdicts: Verdicts,
}

/// Runs the chosen cells of these scenarios, so many at once; `tell` hears of each as it ends.
pub fn run(
    world: &World,
    scenarios: &[Scenario],
    choose: impl Fn(&Cell, &Survey) -> bool + Sync,
    at_once: usize,
    tell: impl Fn(&Ended) + Sync,
) -> Verdicts {
    let work = Mutex::new(Work {
        scenarios: scenarios.iter().copied().collect(),
        cells: VecDeque::new(),
        asking: 0,
        found: 0,
        verdicts: Verdicts::default(),
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
                            Err(problem) => held.verdicts.unclean.push((scenario, problem)),
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
                        held.verdicts.ended.push(one);
                    } else if held.asking > 0 {
                        held = news.wait(held).unwrap_or_else(PoisonError::into_inner);
                    } else {
                        return;
                    }
                }
            });
        }
    });
    work.into_inner().unwrap_or_else(PoisonError::into_inner).verdicts
}
