//! What `init` asks of the master's own agent: the one rule of ufw that lets the nodes dial in.

use std::net::SocketAddr;

use muster_proto::agent::{self, step::Kind};
use muster_proto::names::{Malformed, NodeName};
use muster_proto::step_kind::StepKind as K;

use super::Plan;
use super::builder::{Line, Place, build, shared};
use super::cluster::ClusterFacts;
use super::kind::RunKind;

fn order<'a>() -> Vec<Line<Door<'a>>> {
    vec![shared(K::CoordinatorPort, master, coordinator_port, &[])]
}

struct Door<'a> {
    master: &'a NodeName,
    dialled: SocketAddr,
}

/// The step on the coordinator's own machine that opens what the nodes dial.
pub fn plan(master: &NodeName, dialled: SocketAddr) -> Result<Plan, Malformed> {
    let steps = build(&order(), &Door { master, dialled })?;
    Ok(Plan { kind: RunKind::LetNodesIn, cluster: ClusterFacts::none(), steps })
}

fn master(door: &Door) -> Vec<Place> {
    vec![Place::on(door.master)]
}

fn coordinator_port(door: &Door) -> Kind {
    let (address, port) = (door.dialled.ip().to_string(), door.dialled.port().into());
    Kind::CoordinatorPort(agent::CoordinatorPort { address, port })
}
