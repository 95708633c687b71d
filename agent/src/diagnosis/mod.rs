//! From a program that failed to what a person should read: the first cause on top, what follows from it marked as such,
//! what to do, the command that shows more and the one to start over.

mod containers;
mod kubeadm_preflight;
mod kubelet;
mod repeats;
pub(crate) mod restarting;
mod sign;
pub(crate) mod start;
mod watch;
mod words;

use muster_proto::event::{Complaint, Outcome, reset_command};

use crate::host::change::Change;
use sign::{Sign, Surroundings, first, short};
pub use watch::{Symptoms, Watch};

/// Lines of output that are shown as evidence when nothing better is known.
const LAST_LINES: usize = 12;
/// Of what the kubelet says again and again.
const FREQUENT: usize = 6;

/// What to say of a change that was not made on this node; `found` is what was seen while a `kubeadm init` or `join` ran.
pub fn of_change(change: &Change, outcome: &Outcome, node: &str, found: Option<&Symptoms>) -> Complaint {
    let Change::Run(program) = change else {
        let cause = format!("could not {change}");
        return Complaint::new(
            cause,
            outcome.error.clone().unwrap_or_default(),
            "remove the cause and run the same command again",
        );
    };
    match found {
        Some(found) => of_kubeadm(&program.arguments, outcome, node, found),
        None => of_program(program.program.name(), &program.to_string(), outcome),
    }
}

/// What to say of a `kubeadm init` or `kubeadm join` with these arguments that failed.
pub fn of_kubeadm(arguments: &[String], outcome: &Outcome, node: &str, found: &Symptoms) -> Complaint {
    let verb = arguments.first().map(String::as_str).unwrap_or_default();
    let place = Surroundings { node, endpoint: found.endpoint.as_deref(), runtime: found.runtime };
    if let Some(complaint) =
        kubeadm_preflight::complaint(&outcome.output, &place, &more(arguments, false, node))
    {
        return complaint;
    }
    let said = last_word(&format!("kubeadm {verb}"), outcome);
    let mut signs = found.signs.clone();
    signs.extend(words::sign(&outcome.output));
    let wrote =
        ["[certs]", "[kubeconfig]", "[kubelet-start]"].iter().any(|phase| outcome.output.contains(phase));
    let start_over = start_over(verb, wrote, node);
    let more = more(arguments, wrote, node);
    let Some(cause) = first(&signs) else {
        let frequent = found.errors.lines(node, FREQUENT);
        let mut evidence: Vec<String> =
            frequent.iter().map(|line| format!("the kubelet's journal, {line}")).collect();
        evidence.extend(last_lines(&outcome.output).map(str::to_owned));
        let (cause, consequence) = match found.errors.first(node) {
            Some((1, text)) => (format!("the kubelet says: {text}"), Some(said)),
            Some((count, text)) => {
                (format!("the kubelet says again and again ({count} times): {text}"), Some(said))
            }
            None => (
                format!("{said}; kubelet, containers and {} name no cause that is known", found.runtime),
                None,
            ),
        };
        evidence.extend(consequence.map(|said| format!("as a consequence, {said}")));
        return Complaint::new(cause, evidence.join("\n"), format!("{more}\n{start_over}"));
    };
    let mut evidence = vec![cause.evidence()];
    evidence.extend(signs.iter().filter(|other| other.cause != cause.cause).map(consequence));
    let own_words = words::error_line(&outcome.output).map(|line| short(line, 600));
    if own_words.is_none_or(|line| !evidence.iter().any(|told| told.contains(&line))) {
        evidence.push(format!("as a consequence, {said}"));
    }
    Complaint::new(
        cause.sentence.clone(),
        evidence.join("\n"),
        format!("{}\n{start_over}\n{more}", cause.cause.remedy(&place)),
    )
}

fn consequence(sign: &Sign) -> String {
    format!("as a consequence, {}", sign.evidence())
}

/// The commands that show more. A join cannot be repeated with its own words: they held the token, and are gone.
fn more(arguments: &[String], wrote: bool, node: &str) -> String {
    let journals = format!("more: `sudo journalctl -u kubelet` and `sudo agent journal` on {node}");
    if arguments.first().is_some_and(|verb| verb == "init") {
        let call = arguments.join(" ");
        let first = if wrote { "once it is reset, " } else { "" };
        format!("{journals}; {first}`sudo kubeadm {call} --v=6` on {node} tells every step of kubeadm")
    } else {
        format!(
            "{journals}; `sudo kubeadm token create --print-join-command` on the master prints a join command that tells \
             every step of kubeadm when it is run on {node} with --v=6 behind it"
        )
    }
}

/// How to begin again. Once kubeadm init has written its first file, only after a reset; a half-done join is reset by the
/// bootstrap itself.
fn start_over(verb: &str, wrote: bool, node: &str) -> String {
    match (wrote, verb) {
        (false, _) => "start over: run the same bootstrap again".into(),
        (true, "join") => format!(
            "start over: run the same bootstrap again, which resets a half-done join by itself; `{}` on the master does it by \
             hand",
            reset_command(node)
        ),
        (true, _) => {
            format!("start over: `{}` on the master, then the same bootstrap again", reset_command(node))
        }
    }
}

fn of_program(name: &str, call: &str, outcome: &Outcome) -> Complaint {
    Complaint::new(
        last_word_of(name, call, outcome),
        last_lines(&outcome.output).collect::<Vec<_>>().join("\n"),
        "the whole output is in `sudo agent journal` on that node; remove the cause and run the same command again",
    )
}

fn last_word(call: &str, outcome: &Outcome) -> String {
    last_word_of("kubeadm", call, outcome)
}

/// The program's own error line and how it ended.
fn last_word_of(name: &str, call: &str, outcome: &Outcome) -> String {
    let ended = match (&outcome.error, outcome.exit_code) {
        (Some(error), _) => error.clone(),
        (None, Some(code)) => format!("{name} ended with exit code {code}"),
        (None, None) => format!("{name} was killed"),
    };
    let said = words::error_line(&outcome.output).map(strip_prefix);
    said.map_or_else(|| format!("{call}: {ended}"), |said| format!("{said} ({ended})"))
}

fn last_lines(output: &str) -> impl Iterator<Item = &str> {
    output.lines().skip(output.lines().count().saturating_sub(LAST_LINES))
}

fn strip_prefix(line: &str) -> &str {
    line.strip_prefix("error: ").or_else(|| line.strip_prefix("Error: ")).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use muster_proto::kubernetes::runtime::RuntimeName;

    use super::sign::Cause;
    use super::*;
    use crate::host::change::{Program, ProgramName};

    const TIMED_OUT: &str = "[certs] Generating \"ca\" certificate and key\n[kubelet-start] Starting the kubelet\n\tUnfortunately, an error has occurred:\n\t\ttimed out waiting for the condition\nerror execution phase wait-control-plane: couldn't initialize a Kubernetes cluster\nTo see the stack trace of this error execute with --v=5 or higher\n";

    fn init() -> Change {
        Change::Run(Program::new(ProgramName::Kubeadm, ["init"], Duration::from_secs(1)))
    }
    fn ended(output: &str) -> Outcome {
        Outcome { exit_code: Some(1), output: output.to_owned(), ..Outcome::default() }
    }
    fn found(signs: Vec<Sign>) -> Symptoms {
        Symptoms { signs, ..Symptoms::on(RuntimeName::Docker) }
    }

    #[test]
    fn preflight_errors_come_before_everything_else() {
        let output = "\t[ERROR Swap]: running with swap on is not supported. Please disable swap\n";
        let seen =
            found(vec![Sign::new(Cause::KubeletStopped, "the kubelet is stopped", "systemd", "inactive")]);
        let complaint = of_change(&init(), &ended(output), "m1", Some(&seen));
        assert_eq!(
            complaint.cause,
            "kubeadm refuses to begin: running with swap on is not supported. Please disable swap"
        );
    }

    #[test]
    fn the_deepest_sign_is_the_cause_and_the_time_out_its_consequence() {
        let seen = found(vec![
            Sign::new(Cause::ContainerEnds, "the container etcd ended", "a container's last lines", "exit"),
            Sign::new(
                Cause::SwapOn,
                "swap is on",
                "the kubelet's journal",
                "running with swap on is not supported",
            ),
        ]);
        let complaint = of_change(&init(), &ended(TIMED_OUT), "m1", Some(&seen));
        assert_eq!(complaint.cause, "swap is on");
        let evidence: Vec<&str> = complaint.evidence.lines().collect();
        assert_eq!(evidence[0], "the kubelet's journal: running with swap on is not supported");
        assert!(evidence[1].starts_with("as a consequence, a container's last lines"), "{complaint}");
        assert!(
            evidence[2].starts_with("as a consequence, error execution phase wait-control-plane"),
            "{complaint}"
        );
        assert!(
            complaint
                .remedy
                .contains("start over: `sudo coordinator reset --node m1 --confirm CLUSTER` on the master"),
            "{complaint}"
        );
        assert!(complaint.remedy.contains("`sudo journalctl -u kubelet`"), "{complaint}");
    }

    #[test]
    fn a_time_out_without_a_known_cause_is_never_alone() {
        let mut seen = Symptoms::on(RuntimeName::Docker);
        let complaint = of_change(&init(), &ended(TIMED_OUT), "m1", Some(&seen));
        assert!(complaint.cause.ends_with("name no cause that is known"), "{complaint}");
        for line in [
            "E1122 1 a.go:1] something odd",
            "E1122 1 b.go:2] something else",
            "E1122 2 a.go:1] something odd",
        ] {
            seen.errors.count(line);
        }
        let complaint = of_change(&init(), &ended(TIMED_OUT), "m1", Some(&seen));
        assert_eq!(complaint.cause, "the kubelet says again and again (2 times): something odd");
        let evidence: Vec<&str> = complaint.evidence.lines().collect();
        assert_eq!(evidence[0], "the kubelet's journal, 2 times: E1122 2 a.go:1] something odd");
        assert!(
            evidence.last().unwrap().starts_with("as a consequence, error execution phase"),
            "{complaint}"
        );
    }

    #[test]
    fn a_join_that_failed_before_it_wrote_anything_needs_no_reset() {
        let output = "[preflight] Running pre-flight checks\nerror execution phase preflight: couldn't validate the identity of the API Server: could not find a JWS signature in the cluster-info ConfigMap for token ID \"z5rppa\"\n";
        let arguments = ["join", "--config", "/dev/stdin"].map(str::to_owned);
        let complaint = of_kubeadm(&arguments, &ended(output), "w1", &Symptoms::on(RuntimeName::Docker));
        assert_eq!(
            complaint.cause,
            "the cluster does not know the join token: it has expired or was deleted"
        );
        assert!(!complaint.remedy.contains("reset"), "{complaint}");
    }

    #[test]
    fn another_program_shows_its_own_error_line_first() {
        let apply = Change::Run(Program::new(ProgramName::Kubectl, ["apply"], Duration::from_secs(1)));
        let complaint = of_change(&apply, &ended("error: no objects passed to apply\n"), "m1", None);
        assert_eq!(complaint.cause, "no objects passed to apply (kubectl ended with exit code 1)");
        let complaint = of_change(&apply, &ended(""), "m1", None);
        assert_eq!(complaint.cause, "kubectl apply: kubectl ended with exit code 1");
    }
}
