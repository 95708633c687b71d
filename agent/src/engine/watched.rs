//! While kubeadm runs, the engine looks at what the host says of it every few seconds and records a cause as soon as one
//! shows. The program goes on: what keeps it from its end may be removed meanwhile.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use muster_proto::event::EventKind;

use super::attempt::{Attempt, Stop};
use crate::diagnosis::{Symptoms, Watch};
use crate::host::HostError;
use crate::host::change::{Change, Host, ProgramName};

const LOOK_EVERY: Duration = Duration::from_secs(5);

impl<H: Host> Attempt<H> {
    /// What looks while this change is made; none unless it is a `kubeadm init` or `kubeadm join`.
    pub(super) fn watch_over(&self, change: &Change, since: Timestamp) -> Option<Watch> {
        let Change::Run(program) = change else { return None };
        let verb = program.arguments.first().filter(|_| program.program == ProgramName::Kubeadm)?;
        Watch::over(verb, self.id.node(), self.step.runtime()?, self.step.endpoint(), since)
    }

    /// Waits for the end of a program and looks meanwhile.
    pub(super) async fn watched<T>(
        &self,
        program: impl Future<Output = Result<T, HostError>>,
        watch: Option<&mut Watch>,
        index: u32,
    ) -> Result<Result<T, HostError>, Stop> {
        let Some(watch) = watch else { return Ok(program.await) };
        let looking = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if let Some(what) = watch.look(&self.inner.host).await
                    && let Err(error) = self.record(EventKind::Noticed { index, what })
                {
                    return error;
                }
            }
        };
        tokio::select! {
            biased;
            ended = program => Ok(ended),
            error = looking => Err(error.into()),
        }
    }

    /// After a failure it is looked once more; all that was found.
    pub(super) async fn look_back(&self, watch: Option<Watch>) -> Option<Symptoms> {
        let mut watch = watch?;
        watch.look_back(&self.inner.host).await;
        Some(watch.into_symptoms())
    }
}
