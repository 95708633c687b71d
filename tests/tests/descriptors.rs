//! The coordinator without file descriptors. It takes them all from its own process, so it stands alone in this file.

use std::fs::File;
use std::net::TcpStream;
use std::time::Duration;

use muster_proto::agent::CheckStepRequest;
use muster_tests::trust::{Coordinator, Machine};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

fn processor_time() -> Duration {
    let used = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let of = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().try_into().unwrap(), u32::try_from(time.tv_usec()).unwrap() * 1_000)
    };
    of(used.user_time()) + of(used.system_time())
}

/// On one thread: nothing is accepted between the dialling and the last descriptor.
#[tokio::test]
async fn when_descriptors_run_out_the_port_rests_agents_are_served_and_newcomers_get_in_afterwards() {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    let node = machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    machine.serve(&coordinator);
    let agent = coordinator.daemon.fleet.agent(&node, Duration::from_secs(5)).await.unwrap();

    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 256, most).unwrap();
    let waiting = TcpStream::connect(coordinator.daemon.address).unwrap();
    let mut taken: Vec<File> = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    assert!(!taken.is_empty() && taken.len() < 256, "{} were left", taken.len());

    let before = processor_time();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spent = processor_time() - before;
    assert!(spent < Duration::from_millis(500), "{spent:?} of 2 s: it spins");
    agent.client.clone().check_step(CheckStepRequest::default()).await.unwrap();

    drop((taken, waiting));
    machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
}
