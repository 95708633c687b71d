use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::agent::check_step_reply::Finding;
use crate::agent::{CheckStepReply, HostReport, PlannedChange, Todo};
use crate::change::Change;
use crate::event::{Complaint, EventKind, Outcome};

fn event_of(kind: EventKind) -> Event {
    let step = "w1/swap".parse().unwrap();
    Event { sequence: 1, time: jiff::Timestamp::UNIX_EPOCH, run: "r".into(), step, kind }
}

fn body(kind: EventKind) -> String {
    serde_json::to_string(&event_of(kind)).unwrap()
}

#[test]
fn an_event_whose_every_text_is_too_long_is_refused_and_taken_once_it_was_cut_at_its_node() {
    let long = || "ä".repeat(EVENT);
    for kind in [
        EventKind::Started { content: long(), attempt: 1 },
        EventKind::Intended { index: 0, change: Change::ReloadUnits.record(), summary: long(), before: None },
        EventKind::Made { index: 0, outcome: Outcome { output: long(), ..Outcome::default() } },
        EventKind::NotMade { index: 0, outcome: Outcome { error: Some(long()), ..Outcome::default() } },
        EventKind::Waiting { for_what: long() },
        EventKind::Noticed { index: 0, what: long() },
        EventKind::Left { what: long() },
        EventKind::Failed { complaint: Complaint::new(long(), long(), long()) },
    ] {
        assert!(matches!(event(&body(kind.clone())), Err(NoEvent::TooMuch(_))), "{}", kind.word());
        let cut = fitted(event_of(kind));
        assert_eq!(event(&serde_json::to_string(&cut).unwrap()).unwrap(), cut);
    }
}

#[test]
fn what_was_cut_of_an_output_is_counted_in_it() {
    let outcome = Outcome { output: "x".repeat(OUTPUT + 7), output_cut: 5, ..Outcome::default() };
    let EventKind::Made { outcome, .. } = fitted(event_of(EventKind::Made { index: 0, outcome })).kind else {
        panic!("it is another event");
    };
    assert!(outcome.output_cut > 12 && outcome.output.contains("bytes left out"), "{}", outcome.output_cut);
}

#[test]
fn an_event_of_many_small_values_is_refused_before_it_is_read() {
    let many = "{\"\":0},".repeat(EVENT_VALUES / 2 + 1);
    let bomb = format!("[{}0]", many);
    let (change, before) = (Change::ReloadUnits.record(), serde_json::from_str(&bomb).unwrap());
    let kind = EventKind::Intended { index: 0, change, summary: String::new(), before };
    let refused = event(&body(kind)).unwrap_err().to_string();
    assert!(refused.contains("values"), "{refused}");
}

#[test]
fn what_is_too_large_is_named_with_its_size_and_with_what_is_taken() {
    let report = HostReport { swaps: vec![String::new(); 65], ..HostReport::default() };
    let refused = taken(report.clone()).unwrap_err().to_string();
    assert_eq!(refused, "swap devices: 65, where at most 64 are taken");
    assert_eq!(taken(fitted(report)).unwrap().swaps.len(), 64);
}

#[test]
fn a_finding_that_was_cut_fits_into_the_message_that_brings_it() {
    let change = PlannedChange { summary: "s".repeat(9000), difference: "d\n".repeat(200_000) };
    let todo = Todo { changes: vec![change; 500] };
    let reply = fitted(CheckStepReply { finding: Some(Finding::Todo(todo)) });
    assert!(reply.encoded_len() <= FINDING, "{}", reply.encoded_len());
    assert!(taken(reply).is_ok());
}

#[test]
fn the_report_of_a_large_machine_is_taken_as_it_is() {
    let interface = |number: u32| crate::agent::NetworkInterface {
        name: format!("veth{number:08x}"),
        hardware_address: "02:42:0a:58:00:0b".into(),
        addresses: vec![format!("fe80::42:aff:fe58:{number:x}")],
    };
    let route = |number: u32| crate::agent::Route {
        destination: format!("10.{}.{}.0/24", number / 256, number % 256),
        interface: "eth0.4094".into(),
    };
    let holder = |port: u32| crate::agent::PortHolder {
        port,
        process: "kube-apiserver".into(),
        pid: 4_000_000,
        container: "k8s_kube-apiserver_kube-apiserver-m1_kube-system_0".into(),
        unit: "a-unit-of-systemd.service".into(),
    };
    let report = HostReport {
        interfaces: (0..1024).map(interface).collect(),
        routes: (0..2048).map(route).collect(),
        port_holders: (0..1024).map(holder).collect(),
        tcp_ports: (1024..5120).collect(),
        ..HostReport::default()
    };
    assert!(report.encoded_len() <= host_report(0), "{}", report.encoded_len());
    assert!(taken(report).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_text_that_was_cut_is_never_longer_than_it_may_be(text in any::<String>(), most in 0_usize..200) {
        let mut cut = text;
        Cut.text("", &mut cut, most);
        prop_assert!(cut.len() <= most);
    }
}
