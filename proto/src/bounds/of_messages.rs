//! The texts and lists of what an agent answers.

use super::{Bound, Bounded, EVIDENCE, MOST_ASKED, NAME, SENTENCE};
use crate::agent::check_step_reply::Finding;
use crate::agent::{
    CheckStepReply, Complaint, HelloReply, HostReport, Listening, ReachReply, StepOutput, Ticket, Todo,
};

/// Of a step's changes the most is what a reset puts back.
const CHANGES: usize = 128;
/// What all the changes of a step make different in files.
const DIFFERENCES: usize = 320 << 10;
/// The certificate of a cluster's CA, as PEM.
const CERTIFICATE: usize = 16 << 10;
/// One for each node.
const PODS: usize = 5000;

impl Bounded for HelloReply {
    fn each(&mut self, bound: &mut dyn Bound) {
        bound.text("the version of an agent", &mut self.agent_version, NAME);
        let Some(facts) = &mut self.facts else { return };
        for (what, text) in [
            ("the name of a node", &mut facts.node),
            ("the address of a node", &mut facts.address),
            ("the name of a host", &mut facts.hostname),
            ("the number of a boot", &mut facts.boot_id),
            ("the name of a system", &mut facts.operating_system),
            ("the version of a kernel", &mut facts.kernel),
            ("the version of kubeadm", &mut facts.kubeadm_version),
        ] {
            bound.text(what, text, NAME);
        }
    }
}

impl Bounded for CheckStepReply {
    fn each(&mut self, bound: &mut dyn Bound) {
        match &mut self.finding {
            Some(Finding::Todo(todo)) => todo.each(bound),
            Some(Finding::Blocked(complaint)) => complaint.each(bound),
            Some(Finding::Done(_)) | None => {}
        }
    }
}

impl Bounded for Todo {
    fn each(&mut self, bound: &mut dyn Bound) {
        bound.list("the changes of a step", &mut self.changes, CHANGES);
        let mut left = DIFFERENCES;
        for change in &mut self.changes {
            bound.text("what a change does", &mut change.summary, NAME * 4);
            bound.text("what changes make different", &mut change.difference, left);
            left = left.saturating_sub(change.difference.len());
        }
    }
}

impl Bounded for Complaint {
    fn each(&mut self, bound: &mut dyn Bound) {
        bound.text("a cause", &mut self.cause, SENTENCE);
        bound.text("the evidence of a cause", &mut self.evidence, EVIDENCE);
        bound.text("a remedy", &mut self.remedy, SENTENCE);
    }
}

impl Bounded for HostReport {
    fn each(&mut self, bound: &mut dyn Bound) {
        for (what, text) in [
            ("the name of a host", &mut self.hostname),
            ("the machine-id", &mut self.machine_id),
            ("the product UUID", &mut self.product_uuid),
            ("the name of a system", &mut self.operating_system),
            ("the API server of a cluster", &mut self.cluster),
            ("the step that is under way", &mut self.under_way),
        ] {
            bound.text(what, text, NAME);
        }
        // A veth for each pod, and as many routes as a machine has that routes for a rack.
        bound.list("network interfaces", &mut self.interfaces, 1024);
        for interface in &mut self.interfaces {
            bound.text("the name of an interface", &mut interface.name, NAME);
            bound.text("a hardware address", &mut interface.hardware_address, NAME);
            texts(bound, "addresses of an interface", &mut interface.addresses, 64);
        }
        bound.list("routes", &mut self.routes, 2048);
        for route in &mut self.routes {
            bound.text("the destination of a route", &mut route.destination, NAME);
            bound.text("the interface of a route", &mut route.interface, NAME);
        }
        bound.list("disks", &mut self.disks, 64);
        for disk in &mut self.disks {
            bound.text("the path of a disk", &mut disk.path, NAME);
        }
        bound.list("ports", &mut self.tcp_ports, 4096);
        texts(bound, "swap devices", &mut self.swaps, 64);
        bound.list("container runtimes", &mut self.runtimes, 8);
        for runtime in &mut self.runtimes {
            bound.text("the name of a runtime", &mut runtime.name, NAME);
            bound.text("the version of a runtime", &mut runtime.version, NAME);
            bound.text("the folder of a runtime", &mut runtime.root, NAME);
            bound.text("the cgroup driver of a runtime", &mut runtime.cgroup_driver, NAME);
        }
        texts(bound, "leftovers of a cluster", &mut self.leftovers, 256);
        bound.list("resolved names", &mut self.names, MOST_ASKED);
        for name in &mut self.names {
            bound.text("a resolved name", &mut name.name, NAME);
            texts(bound, "addresses of a name", &mut name.addresses, 16);
        }
        bound.list("programs that listen", &mut self.port_holders, 1024);
        for holder in &mut self.port_holders {
            bound.text("the name of a process", &mut holder.process, NAME);
            bound.text("the name of a container", &mut holder.container, NAME);
            bound.text("the name of a unit", &mut holder.unit, NAME);
        }
        texts(bound, "configurations of pod networks", &mut self.foreign_networks, 256);
    }
}

fn texts(bound: &mut dyn Bound, what: &'static str, list: &mut Vec<String>, most: usize) {
    bound.list(what, list, most);
    for text in list {
        bound.text(what, text, NAME);
    }
}

impl Bounded for Listening {
    fn each(&mut self, bound: &mut dyn Bound) {
        bound.list("open doors", &mut self.open, MOST_ASKED);
        bound.list("taken doors", &mut self.taken, MOST_ASKED);
    }
}

impl Bounded for ReachReply {
    fn each(&mut self, bound: &mut dyn Bound) {
        bound.list("targets that were tried", &mut self.reached, MOST_ASKED);
        for reached in &mut self.reached {
            bound.text("what the system said of a try", &mut reached.said, NAME);
        }
    }
}

impl Bounded for StepOutput {
    fn each(&mut self, bound: &mut dyn Bound) {
        if let Some(ticket) = &mut self.ticket {
            ticket.each(bound);
        }
        bound.list("the pods of a step", &mut self.pods, PODS);
        for pod in &mut self.pods {
            bound.text("the name of a pod", &mut pod.pod, NAME);
            bound.text("the node of a pod", &mut pod.node, NAME);
            bound.text("the address of a pod", &mut pod.address, NAME);
        }
    }
}

impl Bounded for Ticket {
    fn each(&mut self, bound: &mut dyn Bound) {
        bound.text("the endpoint of a ticket", &mut self.endpoint, NAME * 2);
        bound.text("the token of a ticket", &mut self.token, NAME);
        texts(bound, "the hashes of a ticket", &mut self.ca_hashes, 16);
        bound.text("the hash of a CA", &mut self.ca_certificate_hash, NAME);
        bound.text("the certificate of a CA", &mut self.ca_certificate, CERTIFICATE);
    }
}
