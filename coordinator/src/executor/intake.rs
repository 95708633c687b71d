//! How much of a step's events was taken in this run, over all of its connections: an agent that tells without end is no longer
//! listened to.

use std::fmt::Display;

use muster_proto::agent::RunStepReply;
use muster_proto::agent::run_step_reply::Item;
use muster_proto::bounds::{STEP_BYTES, STEP_MESSAGES, TooMuch};
use muster_proto::event::Complaint;
use muster_proto::names::NodeName;

/// What came until now.
#[derive(Debug, Default)]
pub(super) struct Intake {
    messages: usize,
    bytes: usize,
}

impl Intake {
    /// Counts one message of the agent; a complaint when it is one too many. An empty one counts as well.
    pub(super) fn take(&mut self, node: &NodeName, reply: &RunStepReply) -> Result<(), Complaint> {
        self.messages += 1;
        if let Some(Item::Event(event)) = &reply.item {
            self.bytes += event.body.len();
        }
        TooMuch::unless("the events of a step", self.messages, STEP_MESSAGES)
            .and_then(|()| TooMuch::unless("the bytes of a step's events", self.bytes, STEP_BYTES))
            .map_err(|what| excessive(node, &what))
    }
}

/// The step's failure: its agent said more than it may.
pub(super) fn excessive(node: &NodeName, what: &impl Display) -> Complaint {
    let remedy = format!(
        "no agent of Muster's says so much: on {node} look at `sudo agent journal`, and compare what is installed there \
         (`dpkg --verify muster-agent`); a machine that somebody else may hold goes by `sudo coordinator nodes revoke {node}`"
    );
    Complaint::new(format!("the agent of {node} said more than any agent says"), what.to_string(), remedy)
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::AgentEvent;

    use super::*;

    fn reply(bytes: usize) -> RunStepReply {
        let event = AgentEvent { sequence: 1, body: "x".repeat(bytes) };
        RunStepReply { item: Some(Item::Event(event)) }
    }

    #[test]
    fn events_without_end_are_refused_by_number_and_by_bytes_with_the_agents_name() {
        let node = "w1".parse().unwrap();
        let mut many = Intake::default();
        assert!((0..STEP_MESSAGES).all(|_| many.take(&node, &RunStepReply::default()).is_ok()));
        let refused = many.take(&node, &reply(1)).unwrap_err();
        assert!(refused.cause.contains("the agent of w1"), "{refused}");
        let mut large = Intake::default();
        assert!((0..STEP_BYTES / 100_000).all(|_| large.take(&node, &reply(100_000)).is_ok()));
        assert!(large.take(&node, &reply(100_000)).is_err());
    }
}
