//! The texts of an event. Of what a change is and of what stood there before, the bytes and values of the whole event say how
//! much they may be.

use super::{Bound, Bounded, EVIDENCE, NAME, OUTPUT, SENTENCE};
use crate::event::{Complaint, Event, EventKind, Outcome};

impl Bounded for Event {
    fn each(&mut self, bound: &mut dyn Bound) {
        bound.text("the name of a run", &mut self.run, NAME);
        match &mut self.kind {
            EventKind::Started { content, .. } => bound.text("the content of a step", content, NAME),
            EventKind::Intended { summary, .. } => bound.text("what a change does", summary, SENTENCE),
            EventKind::Made { outcome, .. } | EventKind::NotMade { outcome, .. } => outcome.each(bound),
            EventKind::Waiting { for_what } => bound.text("what is waited for", for_what, SENTENCE),
            EventKind::Noticed { what, .. } => bound.text("what was noticed", what, SENTENCE),
            EventKind::Left { what } => bound.text("what was left", what, SENTENCE),
            EventKind::Blocked { complaint } | EventKind::Failed { complaint } => complaint.each(bound),
            EventKind::Refused { why, source } => {
                bound.text("why somebody was refused", why, SENTENCE);
                bound.text("who was refused", source, NAME);
            }
            EventKind::Dispatched | EventKind::EndUnknown { .. } | EventKind::Done { .. } => {}
        }
    }
}

impl Bounded for Complaint {
    fn each(&mut self, bound: &mut dyn Bound) {
        bound.text("a cause", &mut self.cause, SENTENCE);
        bound.text("the evidence of a cause", &mut self.evidence, EVIDENCE);
        bound.text("a remedy", &mut self.remedy, SENTENCE);
    }
}

impl Bounded for Outcome {
    fn each(&mut self, bound: &mut dyn Bound) {
        let before = self.output.len();
        bound.text("the output of a program", &mut self.output, OUTPUT);
        self.output_cut += (before - self.output.len()) as u64;
        if let Some(error) = &mut self.error {
            bound.text("the error of a change", error, SENTENCE);
        }
    }
}
