//! From a program that failed to what a person should read: the cause first, its evidence, what to do.

use std::sync::LazyLock;

use muster_proto::event::{Complaint, Outcome};
use regex::Regex;

use crate::host::change::{Change, ProgramName};

/// Lines of output that are shown as evidence when nothing better is known.
const LAST_LINES: usize = 12;

/// `[ERROR Name]: text`, the one form of a preflight finding that all versions from 1.13 to 1.36 share.
static PREFLIGHT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^\s*\[ERROR ([A-Za-z0-9_.-]+)\]: (.*)$").expect("the pattern is constant and valid")
});

/// What to say of a change that was not made.
pub fn of_change(change: &Change, outcome: &Outcome) -> Complaint {
    let Change::Run(program) = change else {
        let cause = format!("could not {change}");
        return Complaint::new(
            cause,
            outcome.error.clone().unwrap_or_default(),
            "remove the cause and run bootstrap again",
        );
    };
    let name = program.program.name();
    if program.program == ProgramName::Kubeadm
        && let Some(complaint) = preflight(&outcome.output)
    {
        return complaint;
    }
    let ended = match (&outcome.error, outcome.exit_code) {
        (Some(error), _) => error.clone(),
        (None, Some(code)) => format!("{name} ended with exit code {code}"),
        (None, None) => format!("{name} was killed"),
    };
    let said = outcome.output.lines().rev().find(|line| is_error(line)).map(str::trim).map(strip_prefix);
    let cause = said.map_or_else(|| format!("{program}: {ended}"), |said| format!("{said} ({ended})"));
    let lines: Vec<&str> = outcome.output.lines().collect();
    let evidence = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    Complaint::new(
        cause,
        evidence,
        "the whole output is in `sudo agent journal` on that node; remove the cause and run bootstrap again",
    )
}

fn is_error(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("error") || line.starts_with("Error") || line.starts_with("The connection to the server")
}

fn strip_prefix(line: &str) -> &str {
    line.strip_prefix("error: ").or_else(|| line.strip_prefix("Error: ")).unwrap_or(line)
}

/// kubeadm's preflight errors as one complaint: all of them, with the remedies that are known.
fn preflight(output: &str) -> Option<Complaint> {
    let findings: Vec<(String, String)> = PREFLIGHT
        .captures_iter(output)
        .map(|found| (found[1].to_owned(), found[2].trim().to_owned()))
        .collect();
    let (_, first) = findings.first()?;
    let more = match findings.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let evidence: Vec<String> =
        findings.iter().map(|(name, text)| format!("[ERROR {name}]: {text}")).collect();
    let mut remedies: Vec<&str> = findings.iter().map(|(name, _)| remedy(name)).collect();
    remedies.dedup();
    Some(Complaint::new(
        format!("kubeadm refuses to begin: {first}{more}"),
        evidence.join("\n"),
        remedies.join("; "),
    ))
}

/// What to do about a preflight check, by its name (kubernetes 1.20.2, cmd/kubeadm/app/preflight/checks.go).
fn remedy(check: &str) -> &'static str {
    match check {
        "Swap" => "turn swap off (`sudo swapoff -a`) and find out what turned it on again",
        "NumCPU" => "give the machine at least 2 CPUs",
        "Mem" => "give the machine at least 2 GB of memory",
        "CRI" | "Service-Docker" => {
            "start the container runtime (`sudo systemctl start docker`) and look at its journal if it does not stay up"
        }
        "ImagePull" => "bring the missing images to this node (`docker pull` or `docker load`)",
        name if name.starts_with("Port-") => {
            "find out who listens on the port (`sudo ss -ltnp`) and stop it, or reset an earlier cluster (`sudo kubeadm reset -f`)"
        }
        name if name.starts_with("FileAvailable-") || name.starts_with("DirAvailable-") => {
            "an earlier cluster left files behind: `sudo kubeadm reset -f` on this node removes them"
        }
        name if name.starts_with("FileExisting-") => "install the missing program",
        name if name.starts_with("FileContent-") => {
            "run bootstrap again: Muster sets this kernel setting; find out what resets it"
        }
        _ => "remove the cause and run bootstrap again",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::change::Program;

    fn init() -> Change {
        Change::Run(Program::new(ProgramName::Kubeadm, ["init"], Duration::from_secs(1)))
    }
    fn ended(output: &str) -> Outcome {
        Outcome { exit_code: Some(1), output: output.to_owned(), ..Outcome::default() }
    }

    #[test]
    fn kubeadms_preflight_errors_become_one_complaint_with_all_remedies() {
        let output = "\t[WARNING IsDockerSystemdCheck]: detected\nerror execution phase preflight: [preflight] Some fatal errors occurred:\n\
                      \t[ERROR Swap]: running with swap on is not supported. Please disable swap\n\t[ERROR Port-6443]: Port 6443 is in use\n";
        let complaint = of_change(&init(), &ended(output));
        assert_eq!(
            complaint.cause,
            "kubeadm refuses to begin: running with swap on is not supported. Please disable swap (and 1 more)"
        );
        assert!(complaint.remedy.contains("swapoff") && complaint.remedy.contains("ss -ltnp"), "{complaint}");
        assert_eq!(complaint.evidence.lines().count(), 2);
    }

    #[test]
    fn another_failure_shows_the_programs_own_error_line_first() {
        let complaint = of_change(
            &init(),
            &ended(
                "[init] Using\nerror execution phase wait-control-plane: couldn't initialize a Kubernetes cluster\nTo see the stack trace\n",
            ),
        );
        assert!(complaint.cause.starts_with("error execution phase wait-control-plane"), "{complaint}");
        assert!(complaint.cause.ends_with("(kubeadm ended with exit code 1)"), "{complaint}");
    }

    #[test]
    fn a_program_that_says_nothing_is_still_named_with_its_end() {
        let complaint = of_change(&init(), &ended(""));
        assert_eq!(complaint.cause, "kubeadm init: kubeadm ended with exit code 1");
    }
}
