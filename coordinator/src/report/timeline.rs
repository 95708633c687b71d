//! The picture of a run: a row for every step that is worth one, node under node; bars over time; lines from what was waited for.
//! Pure geometry, in pixels of the picture's own; the template draws it.

use std::collections::HashMap;

use crate::view::report::{Run, Step};
use crate::view::status::StepState;

const LABEL: f64 = 210.0;
const TIME: f64 = 700.0;
const MARGIN: f64 = 14.0;
const ROW: f64 = 20.0;
const HEADING: f64 = 24.0;
const AXIS: f64 = 26.0;
/// A step that changed nothing gets a row of its own from this share of the run on.
const WORTH_A_ROW: f64 = 0.03;
/// Narrower ones could not be seen.
const THINNEST: f64 = 2.0;
/// Steps between the marks of the axis, in seconds.
const SPANS: [u64; 13] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 86400];
const MARKS: u64 = 8;

/// The picture.
#[derive(Debug, PartialEq)]
pub(super) struct Timeline {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) bottom: f64,
    pub(super) marks: Vec<Mark>,
    pub(super) headings: Vec<Heading>,
    pub(super) rows: Vec<Row>,
    pub(super) lines: Vec<Line>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) text: String,
}

/// A node's name, and the height at which its rows begin.
#[derive(Debug, PartialEq)]
pub(super) struct Heading {
    pub(super) y: f64,
    pub(super) node: String,
}

#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) y: f64,
    /// A step's word; empty: all further steps of the node.
    pub(super) label: String,
    pub(super) bars: Vec<Bar>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) x: f64,
    pub(super) width: f64,
    pub(super) class: &'static str,
    /// What is said of it when it is pointed at.
    pub(super) title: String,
}

/// From the end of one bar to the beginning of another.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    pub(super) from: (f64, f64),
    pub(super) to: (f64, f64),
}

impl Line {
    /// For a path: down or up where the one ended, then to where the other began.
    pub(super) fn path(&self) -> String {
        let ((x, y), (to_x, to_y)) = (self.from, self.to);
        let bend = (x + 4.0).max(to_x.min(x + 8.0));
        format!("M{x:.1} {y:.1}H{bend:.1}V{to_y:.1}H{to_x:.1}")
    }
}

pub(super) fn timeline(run: &Run) -> Timeline {
    let last = run.steps.iter().filter_map(|step| Some(step.began_ms? + step.duration_ms)).max();
    let length = last.unwrap_or(0).max(1);
    let x = |milliseconds: u64| LABEL + TIME * milliseconds as f64 / length as f64;
    let mut picture = Timeline {
        width: LABEL + TIME + MARGIN,
        height: 0.0,
        bottom: 0.0,
        marks: marks(length, x),
        headings: Vec::new(),
        rows: Vec::new(),
        lines: Vec::new(),
    };
    let mut places: HashMap<&str, f64> = HashMap::new();
    let mut y = AXIS;
    for node in &run.nodes {
        let own: Vec<&Step> =
            run.steps.iter().filter(|step| step.node == node.name && step.began_ms.is_some()).collect();
        if own.is_empty() {
            continue;
        }
        picture.headings.push(Heading { y, node: node.name.clone() });
        y += HEADING;
        let worth =
            |step: &&Step| !step.changed_nothing() || step.duration_ms as f64 >= WORTH_A_ROW * length as f64;
        let (mut told, others): (Vec<&Step>, Vec<&Step>) = own.into_iter().partition(worth);
        told.sort_by_key(|step| step.began_ms);
        if !others.is_empty() {
            let bars = others.iter().flat_map(|step| bars(step, x)).collect();
            others.iter().for_each(|step| _ = places.insert(&step.id, y));
            picture.rows.push(Row { y, label: String::new(), bars });
            y += ROW;
        }
        for step in told {
            places.insert(&step.id, y);
            let label = step.id.split_once('/').map_or(&*step.id, |(_, word)| word).to_owned();
            picture.rows.push(Row { y, label, bars: bars(step, x) });
            y += ROW;
        }
    }
    picture.lines = lines(run, &places, x);
    picture.bottom = y;
    picture.height = y + 8.0;
    picture
}

/// The whole step, and over it what it waited and what it changed.
fn bars(step: &Step, x: impl Fn(u64) -> f64) -> Vec<Bar> {
    let Some(began) = step.began_ms else { return Vec::new() };
    let bar = |from: u64, length: u64, class, what: &str| Bar {
        x: x(from),
        width: (x(from + length) - x(from)).max(THINNEST),
        class,
        title: format!("{}: {what}{}", step.id, super::rendering::duration(length)),
    };
    let class = match step.state {
        StepState::Failed | StepState::Blocked => "failed",
        _ => "looked",
    };
    let mut all = vec![bar(began, step.duration_ms, class, "")];
    all.extend(
        step.waits
            .iter()
            .map(|wait| bar(wait.began_ms, wait.duration_ms, "waited", &format!("{}: ", wait.for_what))),
    );
    all.extend(
        step.changes.iter().map(|change| {
            bar(change.began_ms, change.duration_ms, "changed", &format!("{}: ", change.summary))
        }),
    );
    if class == "failed" {
        all.push(bar(began + step.duration_ms, 0, "failed", ""));
    }
    all
}

/// Of all that a step came after, what ended last is what it waited for.
fn lines(run: &Run, places: &HashMap<&str, f64>, x: impl Fn(u64) -> f64) -> Vec<Line> {
    let steps: HashMap<&str, &Step> = run.steps.iter().map(|step| (&*step.id, step)).collect();
    let middle = |y: f64| y + ROW / 2.0;
    let mut lines = Vec::new();
    for step in run.steps.iter().filter(|step| step.began_ms.is_some()) {
        let end = |before: &&Step| before.began_ms.map(|began| began + before.duration_ms);
        let last = step.after.iter().filter_map(|id| steps.get(&**id).copied()).max_by_key(end);
        let (Some(before), Some(began)) = (last, step.began_ms) else { continue };
        let (Some(from), Some(to), Some(end)) =
            (places.get(&*before.id), places.get(&*step.id), end(&before))
        else {
            continue;
        };
        // Within one row the bars follow each other to be seen.
        if from != to {
            lines.push(Line { from: (x(end), middle(*from)), to: (x(began), middle(*to)) });
        }
    }
    lines
}

fn marks(length: u64, x: impl Fn(u64) -> f64) -> Vec<Mark> {
    let seconds = length / 1000;
    let span = SPANS.into_iter().find(|span| seconds / span <= MARKS).unwrap_or(SPANS[SPANS.len() - 1]);
    let mark = |number: u64| {
        let at = number * span;
        let text = if span >= 60 { format!("{} min", at / 60) } else { format!("{at} s") };
        Mark { x: x(at * 1000), text }
    };
    (0..=seconds / span).take(MARKS as usize + 1).map(mark).collect()
}
