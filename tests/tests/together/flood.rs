//! 2,000 strangers at the coordinator's port, idle or slow, against one enrolled agent: what its calls take, and what the
//! coordinator takes. It measures, so it runs alone:
//! `cargo test --release -p muster-tests --test together flood -- --ignored --nocapture`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use muster_coordinator::settings::Limits;
use muster_proto::agent::CheckStepRequest;
use muster_tests::trust::{Coordinator, Machine};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

const STRANGERS: usize = 2_000;
const SOURCES: usize = 100;
const MEASURED: Duration = Duration::from_secs(20);
const COORDINATOR: &str = "coordinator";

/// Nanoseconds that the coordinator's own threads have run.
fn processor_time() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let mine = tasks.filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == COORDINATOR)
    });
    let ran = mine.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    ran.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// One stranger for ever: odd ones say nothing, even ones a byte of a TLS record every 200 ms. Whoever is turned away
/// comes back after two seconds.
async fn stranger(number: usize, to: SocketAddr, open: Arc<AtomicUsize>) {
    let last = u8::try_from(2 + number % SOURCES).unwrap();
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        if let Ok(mut stream) = socket.connect(to).await {
            open.fetch_add(1, Ordering::Relaxed);
            let slow = async {
                let mut bytes = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01].into_iter().chain(std::iter::repeat(0));
                while number.is_multiple_of(2) {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    if stream.write_u8(bytes.next().unwrap_or(0)).await.is_err() {
                        return;
                    }
                }
                let _ = stream.read_u8().await;
            };
            slow.await;
            open.fetch_sub(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[test]
#[ignore = "a measurement: it takes half a minute and wants the machine for itself"]
fn two_thousand_idle_or_slow_sockets_do_not_delay_an_agents_calls() {
    let runtime = |name: &str| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(name)
            .enable_all()
            .build()
            .unwrap()
    };
    let (ours, others) = (runtime(COORDINATOR), runtime("stranger"));
    // All of 127/8 is one source; here it plays a hundred machines.
    let limits = Limits { unproven_per_source: Limits::default().unproven, ..Limits::default() };
    let coordinator = ours.block_on(ours.spawn(Coordinator::start_with(limits))).unwrap();
    let (node, machine) = others.block_on(async {
        let machine = Machine::fresh();
        let node = machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
        machine.serve(&coordinator);
        (node, machine)
    });
    let fleet = coordinator.daemon.fleet.clone();
    let agent =
        ours.block_on(ours.spawn(async move { fleet.agent(&node, Duration::from_secs(5)).await })).unwrap();
    let agent = agent.unwrap();

    let open = Arc::new(AtomicUsize::new(0));
    for number in 0..STRANGERS {
        others.spawn(stranger(number, coordinator.daemon.address, open.clone()));
    }
    std::thread::sleep(Duration::from_secs(3));

    let (before, began) = (processor_time(), Instant::now());
    // On the coordinator's own threads, as its executor calls.
    let calling = ours.spawn(async move {
        let (mut client, mut took) = (agent.client, Vec::new());
        while began.elapsed() < MEASURED {
            let asked = Instant::now();
            client.check_step(CheckStepRequest::default()).await.unwrap();
            took.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        took
    });
    let mut took = ours.block_on(calling).unwrap();
    let cores = (processor_time() - before) as f64 / began.elapsed().as_nanos() as f64;
    took.sort_unstable();
    let share = |percent: usize| took[(took.len() - 1) * percent / 100];
    println!(
        "{STRANGERS} strangers from {SOURCES} addresses, {} of them open at the end; {} calls of an agent: median {:.1?}, \
         p99 {:.1?}, longest {:.1?}; the coordinator took {cores:.2} of a core",
        open.load(Ordering::Relaxed),
        took.len(),
        share(50),
        share(99),
        share(100),
    );
    assert!(share(99) < Duration::from_millis(100), "p99 {:?}", share(99));
    assert!(cores < 0.3, "{cores:.2} of a core");
    // Whoever comes during the flood gets in all the same.
    others.block_on(machine.enrol(&coordinator, &coordinator.token("node-1"))).unwrap();
}
