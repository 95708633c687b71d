//! What the templates of all forms share: the report's values, arranged for reading.

use std::collections::BTreeMap;

use super::words::{Language, Words};
use crate::view::report::{Report, Run, Step};
use crate::view::status::Kind;

/// A report in a language.
pub(super) struct Page<'a> {
    pub(super) report: &'a Report,
    pub(super) language: Language,
    pub(super) words: &'static Words,
    pub(super) runs: Vec<RunPage<'a>>,
}

/// A run with its steps parted: those of which something is to be told, and the others in one line.
pub(super) struct RunPage<'a> {
    pub(super) run: &'a Run,
    /// In the order in which they began.
    pub(super) told: Vec<&'a Step>,
    pub(super) not_begun: Vec<&'a Step>,
    pub(super) unchanged: Unchanged<'a>,
}

/// Steps that found nothing to change: each kind with its nodes.
pub(super) struct Unchanged<'a> {
    pub(super) count: usize,
    pub(super) kinds: Vec<(&'a str, Vec<&'a str>)>,
}

impl<'a> Page<'a> {
    pub(super) fn of(report: &'a Report, language: Language) -> Self {
        Self {
            report,
            language,
            words: language.words(),
            runs: report.runs.iter().map(RunPage::of).collect(),
        }
    }

    pub(super) fn title(&self) -> String {
        let name = self.report.runs.last().map(|run| run.cluster.name.as_str()).unwrap_or_default();
        format!("{}{}{name}", self.words.title, self.words.colon)
    }

    pub(super) fn aim(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Bootstrap | Kind::None => self.words.aim_bootstrap,
            Kind::Reset => self.words.aim_reset,
            Kind::Remove => self.words.aim_remove,
        }
    }

    /// "3 steps", as the language counts.
    pub(super) fn count(&self, steps: usize) -> String {
        let word = if steps == 1 { self.words.one_step } else { self.words.many_steps };
        format!("{steps} {word}")
    }
}

impl<'a> RunPage<'a> {
    fn of(run: &'a Run) -> Self {
        let begun = |step: &&Step| step.began_ms.is_some();
        let mut told: Vec<&Step> =
            run.steps.iter().filter(begun).filter(|step| !step.changed_nothing()).collect();
        told.sort_by_key(|step| step.began_ms);
        let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let unchanged = run.steps.iter().filter(|step| step.changed_nothing());
        let count = unchanged.clone().count();
        unchanged.for_each(|step| kinds.entry(&step.kind).or_default().push(&step.node));
        Self {
            run,
            told,
            not_begun: run.steps.iter().filter(|step| !begun(step)).collect(),
            unchanged: Unchanged { count, kinds: kinds.into_iter().collect() },
        }
    }
}

/// As a person reads it: 450 ms, 2.3 s, 1 min 05 s.
pub(super) fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1000 => format!("{milliseconds} ms"),
        1000..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => {
            let seconds = milliseconds / 1000;
            match seconds / 3600 {
                0 => format!("{} min {:02} s", seconds / 60, seconds % 60),
                hours => format!("{hours} h {:02} min", seconds % 3600 / 60),
            }
        }
    }
}

/// 2026-12-01T04:05:06.789Z as 2026-12-01 04:05:06.
pub(super) fn moment(time: &str) -> String {
    time.split('.').next().unwrap_or_default().trim_end_matches('Z').replace('T', " ")
}

/// The time of day alone.
pub(super) fn time_of_day(time: &str) -> String {
    moment(time).split_once(' ').map(|(_, time)| time.to_owned()).unwrap_or_default()
}

pub(super) fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / 1024.0 / 1024.0 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_moments_are_told_as_people_read_them() {
        let told: Vec<String> = [0, 450, 2345, 65_000, 7_500_000].map(duration).to_vec();
        assert_eq!(told, ["0 ms", "450 ms", "2.3 s", "1 min 05 s", "2 h 05 min"]);
        assert_eq!(moment("2026-12-01T04:05:06.789Z"), "2026-12-01 04:05:06");
        assert_eq!(time_of_day("2026-12-01T04:05:06.789Z"), "04:05:06");
        assert_eq!((moment(""), time_of_day("")), (String::new(), String::new()));
    }
}
