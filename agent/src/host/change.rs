//! What a host is to the engine: changes are made to it, and a program among them has an identity.

use std::future::Future;

pub use muster_proto::change::{
    Change, FileMode, Program, ProgramName, Recorded, UnitAction, Variable, digest_of,
};
use muster_proto::event::Outcome;
use muster_proto::names::StepId;
use secrecy::SecretString;
use serde_json::Value;

use super::HostError;
use super::query::Observe;

/// The identity of one change of one step: names the transient unit, so that the same change never runs twice at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChangeId {
    pub step: StepId,
    pub index: u32,
}

impl ChangeId {
    /// `muster-STEP-INDEX.service`; the node is not in it, since a host has one node name at a time.
    pub fn unit(&self) -> String {
        format!("muster-{}-{}.service", self.step.step().replace('.', "-"), self.index)
    }
}

/// How a change ended, and what the program wrote on its standard output (unredacted: only for capture).
#[derive(Debug, Default)]
pub struct Applied {
    pub made: bool,
    pub outcome: Outcome,
    pub standard_output: SecretString,
}

/// The host as the engine sees it: all that a step may ask, and the doing.
pub trait Host: Observe {
    /// What stands there now and would be lost: the old file, the unit's state, the old host name.
    fn before(&self, change: &Change) -> impl Future<Output = Result<Option<Value>, HostError>> + Send;
    /// Makes the change and waits for its end. A program that ends with another code than 0 is no error: `made` is false.
    fn apply(
        &self,
        change: &Change,
        id: &ChangeId,
    ) -> impl Future<Output = Result<Applied, HostError>> + Send;
    /// Finds the program that an earlier life of the agent started under this id, waits for its end and takes its
    /// result; none when there is no such unit.
    fn attach(&self, id: &ChangeId) -> impl Future<Output = Result<Option<Applied>, HostError>> + Send;
    /// Returns when no change that an earlier life of the agent began, and that is no program with an id, goes on any more.
    fn earlier_ended(&self) -> impl Future<Output = ()> + Send;
    /// Once the result is in the journal: removes the unit and its output files, so that the id can be used again.
    fn forget(&self, id: &ChangeId) -> impl Future<Output = Result<(), HostError>> + Send;
}
