//! The Status service: what scripts and people may know, read only and redacted (the journal holds no secret).

use std::time::Duration;

use futures_util::stream::BoxStream;
use muster_proto::coordinator::status_server::Status as StatusVerbs;
use muster_proto::coordinator::{ClusterStatus, GetStatusRequest};
use tonic::{Request, Response, Status};

use crate::runs::Runs;

/// A watcher hears of changes at most this often.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// Serves the status of the runs.
pub struct StatusService {
    pub runs: Runs,
}

#[tonic::async_trait]
impl StatusVerbs for StatusService {
    type WatchStream = BoxStream<'static, Result<ClusterStatus, Status>>;

    async fn get(&self, request: Request<GetStatusRequest>) -> Result<Response<ClusterStatus>, Status> {
        self.status(&request.into_inner()).map(Response::new)
    }

    async fn watch(&self, request: Request<GetStatusRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        // Refused at once, not in the stream, when there is no such run.
        self.status(&request)?;
        let runs = self.runs.clone();
        let stream = async_stream::stream! {
            let [mut events, mut fleet, mut ends] = runs.news();
            loop {
                events.borrow_and_update();
                fleet.borrow_and_update();
                ends.borrow_and_update();
                yield status(&runs, &request);
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

impl StatusService {
    fn status(&self, request: &GetStatusRequest) -> Result<ClusterStatus, Status> {
        status(&self.runs, request)
    }
}

fn status(runs: &Runs, request: &GetStatusRequest) -> Result<ClusterStatus, Status> {
    match request.run_id.as_str() {
        "" => runs.status(),
        id => runs.status_of_run(id),
    }
}
