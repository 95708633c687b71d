//! Streaming a step's events to whoever asked for it; the step itself does not notice.

use muster_proto::agent::{self, RunStepReply};
use muster_proto::bounds::fitted;
use muster_proto::journal::Journal;
use muster_proto::names::StepId;
use tokio::sync::{mpsc, watch};

use super::outgoing::outgoing;
use super::{End, Refused};

/// Sends the journal's events of one step in one run, as they come, then the output. Ends when nobody listens.
pub(super) async fn follow(
    journal: Journal,
    run: String,
    id: StepId,
    after: u64,
    mut end: watch::Receiver<Option<End>>,
    events: mpsc::Sender<Result<RunStepReply, Refused>>,
) {
    let mut sent = after;
    let mut news = journal.follow();
    loop {
        // Taken before the journal is read: what is written after this is seen in the next round.
        let ended = end.borrow_and_update().clone();
        let gone = end.has_changed().is_err();
        news.borrow_and_update();
        match journal.of_step(&run, &id) {
            Ok(all) => {
                let held = sent;
                for event in all.into_iter().filter(|event| event.sequence > held) {
                    sent = event.sequence;
                    let body = serde_json::to_string(&fitted(outgoing(event))).unwrap_or_default();
                    let item = agent::run_step_reply::Item::Event(agent::AgentEvent { sequence: sent, body });
                    if events.send(Ok(RunStepReply { item: Some(item) })).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let _ = events.send(Err(error.into())).await;
                return;
            }
        }
        if let Some(end) = ended {
            let last =
                end.map(|output| RunStepReply { item: Some(agent::run_step_reply::Item::Output(output)) });
            let _ = events.send(last.map_err(Refused::Stopped)).await;
            return;
        }
        if gone {
            return;
        }
        tokio::select! {
            _ = news.changed() => {}
            _ = end.changed() => {}
            () = events.closed() => return,
        }
    }
}
