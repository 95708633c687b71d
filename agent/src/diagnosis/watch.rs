//! Looking while kubeadm runs: whoever waits for four minutes learns after seconds what it is waiting for in vain.

use jiff::Timestamp;
use muster_proto::kubernetes::runtime::RuntimeName;

use super::repeats::Repeats;
use super::sign::{Cause, Sign, add, first};
use super::{containers, kubelet};
use crate::host::query::Observe;

/// A stopped unit or a silent endpoint is a sign when it is seen this often in a row: kubeadm stops the kubelet itself
/// for a moment.
const PERSISTENT: u32 = 2;

/// What was found so far.
#[derive(Debug, Clone)]
pub struct Symptoms {
    /// The node's.
    pub(super) runtime: RuntimeName,
    pub(super) signs: Vec<Sign>,
    /// The kubelet's errors, for the case that no cause is known.
    pub(super) errors: Repeats,
    /// The API server that a join needs.
    pub(super) endpoint: Option<String>,
}

impl Symptoms {
    /// Nothing yet, on a node with this runtime.
    pub fn on(runtime: RuntimeName) -> Self {
        Self { runtime, signs: Vec::new(), errors: Repeats::default(), endpoint: None }
    }
}

/// Looks at one run of kubeadm.
#[derive(Debug)]
pub struct Watch {
    found: Symptoms,
    /// `init` or `join`
    verb: &'static str,
    /// Of this node.
    node: String,
    /// The journal was read up to here, and its lines are counted.
    read: Timestamp,
    counted: Timestamp,
    kubelet_stopped: u32,
    runtime_stopped: u32,
    silent: u32,
    told: Option<Cause>,
}

impl Watch {
    /// Over a kubeadm of this node with this first argument, begun at `since`; none for any other.
    pub fn over(
        verb: &str,
        node: &str,
        runtime: RuntimeName,
        endpoint: Option<&str>,
        since: Timestamp,
    ) -> Option<Self> {
        let verb = ["init", "join"].into_iter().find(|known| *known == verb)?;
        Some(Self {
            found: Symptoms { endpoint: endpoint.map(str::to_owned), ..Symptoms::on(runtime) },
            verb,
            node: node.to_owned(),
            read: since,
            counted: Timestamp::UNIX_EPOCH,
            kubelet_stopped: 0,
            runtime_stopped: 0,
            silent: 0,
            told: None,
        })
    }

    pub fn into_symptoms(self) -> Symptoms {
        self.found
    }

    /// Looks once while the program runs; a sentence when the first cause became known or another one took its place.
    pub async fn look<H: Observe>(&mut self, host: &H) -> Option<String> {
        self.gather(host, true).await;
        let cause = first(&self.found.signs)?;
        if self.told == Some(cause.cause) {
            return None;
        }
        self.told = Some(cause.cause);
        Some(format!("kubeadm {} still runs, but {} ({} says so)", self.verb, cause.sentence, cause.place))
    }

    /// Looks for the last time, after the program failed.
    pub async fn look_back<H: Observe>(&mut self, host: &H) {
        self.gather(host, false).await;
    }

    /// What cannot be asked now is asked the next time: looking never fails the program.
    async fn gather<H: Observe>(&mut self, host: &H, running: bool) {
        self.ask_units(host, running).await;
        let begun = Timestamp::now();
        if let Ok(lines) = host.kubelet_journal(self.read).await {
            // A second of overlap: the journal is written a moment later, and signs count once.
            self.read = lines.last().map_or(self.read, |line| line.time.min(begun));
            let signs = kubelet::signs(&lines, self.found.runtime);
            for sign in signs.into_iter().chain(kubelet::other_name(&lines, &self.node)) {
                add(&mut self.found.signs, sign);
            }
            let uncounted =
                lines.iter().filter(|line| line.time > self.counted && kubelet::is_error(&line.message));
            uncounted.for_each(|line| self.found.errors.count(&line.message));
            self.counted = lines.last().map_or(self.counted, |line| line.time.max(self.counted));
        }
        if let Ok(ended) = host.exited_containers(self.found.runtime).await {
            for sign in containers::signs(&ended, self.found.runtime, running) {
                add(&mut self.found.signs, sign);
            }
        }
        if let Some(endpoint) = self.found.endpoint.clone().filter(|_| self.verb == "join") {
            let silent = host.unreachable(&endpoint).await.ok().flatten();
            self.silent = if silent.is_some() { self.silent + 1 } else { 0 };
            if let Some(why) = silent.filter(|_| self.silent >= PERSISTENT || !running) {
                let sentence =
                    format!("the API server at {endpoint} cannot be reached from this node: {why}");
                self.see(Cause::ApiUnreachable, &sentence, "a connection from here", &why);
            }
        }
    }

    async fn ask_units<H: Observe>(&mut self, host: &H, running: bool) {
        if let Ok(kubelet) = host.unit("kubelet.service").await {
            if kubelet.file_state.starts_with("masked") {
                let line = format!("kubelet.service is masked, {}", kubelet.state);
                self.see(
                    Cause::KubeletMasked,
                    "the kubelet is masked: systemd may not start it",
                    "systemd",
                    &line,
                );
            }
            let stopped = kubelet.exists && !kubelet.active;
            self.kubelet_stopped = if stopped { self.kubelet_stopped + 1 } else { 0 };
            // Until kubeadm starts it the kubelet may rest; only a program that gave up makes it a sign.
            if stopped && !running && self.kubelet_stopped >= PERSISTENT {
                let sentence = format!("the kubelet does not run: {}", kubelet.state);
                self.see(Cause::KubeletStopped, &sentence, "systemd", &sentence);
            }
        }
        let (runtime, name) = (self.found.runtime, self.found.runtime.row().unit);
        if let Ok(unit) = host.unit(name).await {
            let stopped = unit.exists && !unit.active;
            self.runtime_stopped = if stopped { self.runtime_stopped + 1 } else { 0 };
            if self.runtime_stopped >= PERSISTENT || (stopped && !running) {
                let (sentence, line) =
                    (format!("{runtime} does not run"), format!("{name} is {}", unit.state));
                self.see(Cause::RuntimeStopped, &sentence, "systemd", &line);
            }
        }
    }

    fn see(&mut self, cause: Cause, sentence: &str, place: &'static str, line: &str) {
        add(&mut self.found.signs, Sign::new(cause, sentence, place, line).at(Timestamp::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::host::query::JournalLine;

    fn host() -> FakeHost {
        FakeHost::debian("m1", FakeCluster::default())
    }
    fn watch(verb: &str) -> Watch {
        watch_with(RuntimeName::Docker, verb)
    }
    fn watch_with(runtime: RuntimeName, verb: &str) -> Watch {
        Watch::over(verb, "m1", runtime, Some("10.88.0.11:6443"), Timestamp::UNIX_EPOCH).unwrap()
    }

    #[tokio::test]
    async fn a_cause_in_the_journal_is_told_once_and_at_the_first_look() {
        let (host, mut watch) = (host(), watch("init"));
        assert_eq!(watch.look(&host).await, None);
        let message =
            "F1122 failed to run Kubelet: running with swap on is not supported, please disable swap!";
        host.with(|state| {
            state.kubelet_journal.push(JournalLine { time: Timestamp::now(), message: message.into() });
        });
        let told = watch.look(&host).await.unwrap();
        assert_eq!(
            told,
            "kubeadm init still runs, but swap is on, and the kubelet refuses to run with it (the kubelet's journal says so)"
        );
        assert_eq!(watch.look(&host).await, None);
    }

    #[tokio::test]
    async fn a_kubelet_that_calls_itself_otherwise_is_told_and_one_whose_node_is_not_there_yet_is_not() {
        let (host, mut watch) = (host(), watch("join"));
        let says = |name: &str| {
            let message = format!("E1122 11:01:52.5 19070 kubelet.go:2243] node \"{name}\" not found");
            host.with(|state| state.kubelet_journal.push(JournalLine { time: Timestamp::now(), message }));
        };
        says("m1");
        assert_eq!(watch.look(&host).await, None);
        says("old-name");
        let told = watch.look(&host).await.unwrap();
        assert!(told.contains("the kubelet of m1 calls itself old-name"), "{told}");
    }

    #[tokio::test]
    async fn a_deeper_cause_takes_the_place_of_what_follows_from_it() {
        let (host, mut watch) = (host(), watch("init"));
        let message = "E1122 failed pulling image \"k8s.gcr.io/pause:3.2\": Error response from daemon";
        host.with(|state| {
            state.kubelet_journal.push(JournalLine { time: Timestamp::now(), message: message.into() });
        });
        assert!(watch.look(&host).await.unwrap().contains("k8s.gcr.io/pause:3.2"));
        host.with(|state| state.units.get_mut("kubelet.service").unwrap().file_state = "masked".into());
        assert!(watch.look(&host).await.unwrap().contains("the kubelet is masked"));
    }

    #[tokio::test]
    async fn a_worker_that_cannot_reach_the_api_server_is_told_at_the_second_look() {
        let (host, mut watch) = (host(), watch("join"));
        host.with(|state| state.unreachable.insert("10.88.0.11:6443".into(), "no answer within 3 s".into()));
        assert_eq!(watch.look(&host).await, None);
        let told = watch.look(&host).await.unwrap();
        assert!(
            told.contains("10.88.0.11:6443 cannot be reached from this node: no answer within 3 s"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn a_stopped_runtime_is_told_at_the_second_look_and_another_one_is_not() {
        for runtime in RuntimeName::ALL {
            let (host, mut watch) = (host(), watch_with(runtime, "init"));
            host.with(crate::host::fake::State::run_containerd);
            let stop = |name: RuntimeName| {
                host.with(|state| state.units.get_mut(name.row().unit).unwrap().active = false);
            };
            RuntimeName::ALL.into_iter().filter(|other| *other != runtime).for_each(stop);
            assert_eq!((watch.look(&host).await, watch.look(&host).await), (None, None));
            stop(runtime);
            assert_eq!(watch.look(&host).await, None);
            let told = watch.look(&host).await.unwrap();
            assert!(told.contains(&format!("{runtime} does not run")), "{told}");
        }
    }
}
