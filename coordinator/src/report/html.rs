//! The report as one HTML file: nothing is loaded, nothing runs in it, and every value is escaped by the template.

use askama::Template;

use super::rendering::{Page, duration, gibibytes, moment, time_of_day};
use super::timeline::timeline;
use super::words::Language;
use crate::view::report::{Report, Step};
use crate::view::status::{Phase, StepState};

#[derive(Template)]
#[template(path = "report/page.html", whitespace = "preserve")]
struct Html<'a> {
    page: Page<'a>,
}

/// The report as HTML.
pub fn html(report: &Report, language: Language) -> String {
    Html { page: Page::of(report, language) }.render().expect("writing into a text does not fail")
}

/// How a line of a difference is shown.
fn line_class(line: &str) -> &'static str {
    match line.as_bytes().first() {
        _ if line.starts_with("+++") || line.starts_with("---") => "meta",
        Some(b'+') => "added",
        Some(b'-') => "removed",
        Some(b'@') => "meta",
        _ => "same",
    }
}

fn phase_class(phase: Phase) -> &'static str {
    match phase {
        Phase::Done => "good",
        Phase::Failed | Phase::Interrupted => "bad",
        Phase::Running | Phase::None => "open",
    }
}

fn step_class(step: &Step) -> &'static str {
    match step.state {
        StepState::Done => "good",
        StepState::Blocked | StepState::Failed => "bad",
        _ => "open",
    }
}

/// For an anchor: a run and a step in it; ids of steps have no other characters than those.
fn anchor(run: usize, id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
    format!("r{run}-{}", id.chars().map(plain).collect::<String>())
}
