//! Where the nodes of a plan are reached: each node's own address, and the API server's endpoint.

use std::collections::BTreeMap;
use std::net::IpAddr;

use muster_proto::names::{ApiEndpoint, Malformed, NodeName};

use super::Hosts;
use crate::spec::{ClusterSpec, Problem};

/// Every node's address: its agent's own end of the connection. Each node has one of its own, and no range of the
/// cluster's own addresses holds it.
pub(super) fn addresses<'a>(
    spec: &'a ClusterSpec,
    hosts: &Hosts,
) -> Result<BTreeMap<&'a NodeName, String>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut owners: BTreeMap<String, &NodeName> = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    let ranges =
        [(&spec.pod_subnet, &spec.places.pod_subnet), (&spec.service_subnet, &spec.places.service_subnet)];
    for node in spec.nodes() {
        let place = &spec.places.nodes[node];
        let address = match hosts.get(node) {
            Some(Ok(facts)) => facts.address.clone(),
            Some(Err(error)) => {
                problems.push(place.problem(error.to_string()));
                continue;
            }
            None => {
                problems.push(place.problem(format!("nothing is known of {node}")));
                continue;
            }
        };
        if let Some(other) = owners.insert(address.clone(), node) {
            problems.push(place.problem(format!(
                "{node} and {other} have the same address {address}, that of the network card over which each agent reaches the \
                 coordinator; let the agents dial an address that every machine reaches by a card of its own (coordinator init --address)"
            )));
        }
        for (range, place) in ranges {
            if address.parse::<IpAddr>().is_ok_and(|address| range.contains(&address)) {
                let what = format!(
                    "{range} holds the address {address} of {node}; write a range that no machine uses"
                );
                problems.push(place.problem(what));
            }
        }
        addresses.insert(node, address);
    }
    if problems.is_empty() { Ok(addresses) } else { Err(problems) }
}

/// HOST:PORT of the API server on a machine with this address.
pub(super) fn endpoint(address: &str, port: u16) -> Result<ApiEndpoint, Malformed> {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("{host}:{port}").parse()
}
