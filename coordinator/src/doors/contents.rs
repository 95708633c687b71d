//! What is large and the same for every node (the names of all nodes, the pod network's manifest) goes to each of them once, and
//! is called by its digest from then on: by the checks, the run, and everybody who asks again after a lost connection.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use muster_proto::agent;
use tonic::{Code, Status};

use crate::plans::content::Content;

/// The digests of what an agent was given over its connection; clones are one.
#[derive(Debug, Clone, Default)]
pub struct Given(Arc<Mutex<BTreeSet<[u8; 32]>>>);

impl Given {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeSet<[u8; 32]>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the agent something about a step; `ask` gets the step, or none and the digest that stands for it.
    pub async fn ask<T, F>(
        &self,
        content: &Content,
        ask: impl Fn(Option<agent::Step>, String) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>> + Send,
    {
        if self.with(|given| given.contains(&content.digest())) {
            match ask(None, content.name()).await {
                // An agent keeps a few of them only.
                Err(status) if status.code() == Code::NotFound => {}
                answer => return answer,
            }
        }
        let answer = ask(Some(agent::Step::clone(content)), String::new()).await;
        if answer.is_ok() && content.is_large() {
            self.with(|given| given.insert(content.digest()));
        }
        answer
    }
}
