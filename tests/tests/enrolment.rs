//! Enrolment and connection over real TCP: who gets in, who does not, and what each is told.

mod trust;

use std::time::Duration;

use muster_agent::connection::serve_once;
use muster_agent::enroll::{EnrollError, enroll};
use muster_agent::identity::Identity;
use muster_coordinator::fleet::FleetError;
use muster_proto::coordinator::{CreateTokenRequest, ListTokensRequest, RevokeNodeRequest};
use trust::{Coordinator, Machine, NoSteps};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_machine_enrols_connects_and_says_hello_with_its_own_end_of_the_connection() {
    let coordinator = Coordinator::start().await;
    let machine = Machine::new();
    let node = machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    assert_eq!(node.as_str(), "node-1");
    machine.serve(&coordinator);
    let agent = coordinator.daemon.fleet.agent(&node, SOON).await.unwrap();
    assert_eq!((agent.facts.node.as_str(), agent.facts.address.as_str()), ("node-1", "127.0.0.1"));
    let nodes = coordinator.nodes().await;
    assert!(nodes[0].connected && nodes[0].name == "node-1", "{nodes:?}");
}
