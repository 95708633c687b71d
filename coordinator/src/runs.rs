//! The runs of plans: placeholder until the executor lands.

use futures_util::stream::BoxStream;
use muster_proto::coordinator::{ClusterFiles, PlanReply, Progress};
use tonic::Status;

/// The runs of this coordinator; cheap to clone, all clones are one.
#[derive(Clone, Default)]
pub struct Runs;

impl Runs {
    /// What bootstrap would change on every host.
    pub async fn plan(&self, _files: ClusterFiles) -> Result<PlanReply, Status> {
        Err(Status::unimplemented("this build cannot plan yet"))
    }

    /// Starts, resumes or attaches to the run.
    pub async fn bootstrap(
        &self,
        _files: ClusterFiles,
    ) -> Result<BoxStream<'static, Result<Progress, Status>>, Status> {
        Err(Status::unimplemented("this build cannot bootstrap yet"))
    }
}
