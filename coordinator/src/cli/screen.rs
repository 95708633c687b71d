//! Live progress: one line per node on a terminal, a plain line per event of interest otherwise.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use muster_proto::coordinator::{ClusterStatus, NodeStatus, StepStatus};
use muster_proto::redaction::printable;

/// Where a run is shown.
pub(super) enum Screen {
    Lines(Lines),
    Terminal(Terminal),
}

impl Screen {
    pub(super) fn new() -> Self {
        if std::io::stdout().is_terminal() && std::io::stderr().is_terminal() {
            Self::Terminal(Terminal { all: MultiProgress::new(), bars: BTreeMap::new() })
        } else {
            Self::Lines(Lines::default())
        }
    }

    pub(super) fn show(&mut self, status: &ClusterStatus) {
        match self {
            Self::Lines(lines) => lines.news(status).iter().for_each(|line| anstream::println!("{line}")),
            Self::Terminal(terminal) => terminal.show(status),
        }
    }

    /// Leaves the last state of every line on the screen and the cursor below.
    pub(super) fn clear(&mut self) {
        if let Self::Terminal(terminal) = self {
            terminal.bars.values().for_each(ProgressBar::abandon);
        }
    }
}

/// Remembers what was printed, so that a line comes once.
#[derive(Default)]
pub(super) struct Lines {
    printed: BTreeMap<String, (String, String)>,
}

impl Lines {
    /// What is new since the last time: a step that began to change or wait, or ended.
    pub(super) fn news(&mut self, status: &ClusterStatus) -> Vec<String> {
        let mut lines = Vec::new();
        for step in &status.steps {
            let worth_a_line =
                matches!(step.state.as_str(), "changing" | "waiting" | "done" | "blocked" | "failed");
            let now = (step.state.clone(), step.detail.clone());
            if worth_a_line && self.printed.get(&step.id) != Some(&now) {
                lines.push(line(step));
                self.printed.insert(step.id.clone(), now);
            }
        }
        lines
    }
}

fn line(step: &StepStatus) -> String {
    let detail = printable(&step.detail).replace('\n', " ");
    format!("{:<8} {:<36} {}", step.state, step.id, detail).trim_end().to_owned()
}

pub(super) struct Terminal {
    all: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
}

impl Terminal {
    fn show(&mut self, status: &ClusterStatus) {
        let width = status.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0);
        for node in &status.nodes {
            let bar = self.bars.entry(node.name.clone()).or_insert_with(|| {
                let bar = self.all.add(ProgressBar::new(u64::from(node.steps)));
                let template = "{prefix} {bar:20.cyan/blue} {pos:>2}/{len:2} {elapsed:>4} {wide_msg}";
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_prefix(format!("{:<width$}", node.name));
                bar.enable_steady_tick(Duration::from_millis(250));
                bar
            });
            bar.set_position(u64::from(node.steps_done));
            bar.set_message(message(node, &status.steps));
        }
    }
}

fn message(node: &NodeStatus, steps: &[StepStatus]) -> String {
    let id = format!("{}/{}", node.name, node.current);
    let detail =
        steps.iter().find(|step| step.id == id).map(|step| printable(&step.detail)).unwrap_or_default();
    let detail = detail.lines().next().unwrap_or_default().to_owned();
    match (node.state.as_str(), node.current.as_str()) {
        ("done", _) => "done".to_owned(),
        ("failed", _) => "failed".to_owned(),
        (_, "") => "waits for the other nodes".to_owned(),
        (_, step) if detail.is_empty() => step.to_owned(),
        (_, step) => format!("{step}: {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, detail: &str) -> ClusterStatus {
        let step = StepStatus {
            id: "m1/swap".into(),
            state: state.into(),
            detail: detail.into(),
            ..StepStatus::default()
        };
        ClusterStatus { steps: vec![step], ..ClusterStatus::default() }
    }

    #[test]
    fn a_line_comes_once_and_again_when_something_changed() {
        let mut lines = Lines::default();
        assert!(lines.news(&status("pending", "")).is_empty());
        assert_eq!(lines.news(&status("changing", "swap off")).len(), 1);
        assert!(lines.news(&status("changing", "swap off")).is_empty());
        assert!(lines.news(&status("done", ""))[0].starts_with("done "));
    }

    #[test]
    fn what_a_node_says_cannot_steer_the_terminal() {
        let lines = Lines::default().news(&status("waiting", "a\u{1b}[2Jb\nc"));
        assert!(!lines[0].contains('\u{1b}') && !lines[0].contains('\n'), "{lines:?}");
    }
}
