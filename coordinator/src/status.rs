//! The Status service: what scripts and people may know, read only and redacted (the journal holds no secret).

use std::time::Duration;

use futures_util::stream::BoxStream;
use muster_proto::coordinator::status_server::Status as StatusVerbs;
use muster_proto::coordinator::{ClusterStatus, GetStatusRequest};
use tonic::{Request, Response, Status};

use crate::runs::Runs;

/// A watcher hears of changes at most this often.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// Serves the status of the newest run.
pub struct StatusService {
    pub runs: Runs,
}

#[tonic::async_trait]
impl StatusVerbs for StatusService {
    type WatchStream = BoxStream<'static, Result<ClusterStatus, Status>>;

    async fn get(&self, _: Request<GetStatusRequest>) -> Result<Response<ClusterStatus>, Status> {
        self.runs.status().map(Response::new)
    }

    async fn watch(&self, _: Request<GetStatusRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let runs = self.runs.clone();
        let stream = async_stream::stream! {
            let [mut events, mut fleet, mut ends] = runs.news();
            loop {
                events.borrow_and_update();
                fleet.borrow_and_update();
                ends.borrow_and_update();
                yield runs.status();
                tokio::select! {
                    _ = events.changed() => {}
                    _ = fleet.changed() => {}
                    _ = ends.changed() => {}
                }
                tokio::time::sleep(WATCH_INTERVAL).await;
            }
        };
        Ok(Response::new(Box::pin(stream)))
    }
}
