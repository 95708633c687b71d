//! A program as a plain child: found on root's search path, an empty environment, a time limit, a bounded answer.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use muster_proto::redaction::{printable, redact};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::host::HostError;

/// The search path of root on Debian, whatever the agent's own environment says.
pub(super) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A longer answer is an error.
pub(super) const LARGEST: u64 = 4 * 1024 * 1024;

/// What a program answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
    pub(super) error: String,
}

impl Answer {
    /// The standard output of a program that ended with 0.
    pub(super) fn success(self, program: &str) -> Result<String, HostError> {
        if self.status.success() {
            return Ok(String::from_utf8_lossy(&self.output).into_owned());
        }
        let said = if self.error.trim().is_empty() {
            String::from_utf8_lossy(&self.output)
        } else {
            self.error.into()
        };
        Err(HostError::ProgramFailed {
            program: program.to_owned(),
            status: self.status.to_string(),
            message: redact(&printable(said.trim())),
        })
    }
}

/// Where a program is on the search path.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let candidates = SEARCH_PATH.split(':').map(|folder| Path::new(folder).join(name));
    let executable = |path: &PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    candidates.into_iter().find(executable)
}

pub(super) fn not_found(program: &str) -> HostError {
    HostError::NotStarted { program: program.to_owned(), source: std::io::ErrorKind::NotFound.into() }
}

/// Runs a program that is found on the search path.
pub(super) async fn run(name: &str, arguments: &[&str], limit: Duration) -> Result<Answer, HostError> {
    let path = find(name).ok_or_else(|| not_found(name))?;
    let mut command = Command::new(path);
    command.arg0(name).args(arguments);
    finish(command, name, None, limit).await
}

/// Runs the command to its end: nothing of the agent's environment, killed at the limit, its output bounded.
pub(super) async fn finish(
    mut command: Command,
    name: &str,
    input: Option<&[u8]>,
    limit: Duration,
) -> Result<Answer, HostError> {
    let not_started = |source| HostError::NotStarted { program: name.to_owned(), source };
    command
        .env_clear()
        .envs([("PATH", SEARCH_PATH), ("LANG", "C"), ("HOME", "/root")])
        .current_dir("/")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(not_started)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut output, mut error) = (Vec::new(), Vec::new());
    let talk = async {
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that does not read to the end has its own reason, which its exit code tells.
                let _ = stdin.write_all(input).await;
            }
        };
        let listen = async {
            match stdout {
                Some(stdout) => stdout.take(LARGEST + 1).read_to_end(&mut output).await.map(|_| ()),
                None => Ok(()),
            }
        };
        let listen_to_errors = async {
            // Words for a person: their beginning is enough.
            match stderr {
                Some(stderr) => stderr.take(LARGEST).read_to_end(&mut error).await.map(|_| ()),
                None => Ok(()),
            }
        };
        let (_, output_read, error_read) = tokio::join!(feed, listen, listen_to_errors);
        output_read.and(error_read)?;
        child.wait().await
    };
    let status = tokio::time::timeout(limit, talk)
        .await
        .map_err(|_| HostError::TimedOut { what: name.to_owned(), limit })?
        .map_err(not_started)?;
    Ok(Answer { status, output: whole(output, name)?, error: String::from_utf8_lossy(&error).into_owned() })
}

/// What a program printed, of which up to a byte more than the largest answer was read.
pub(super) fn whole(output: Vec<u8>, program: &str) -> Result<Vec<u8>, HostError> {
    if output.len() as u64 > LARGEST {
        return Err(HostError::TooLong { program: program.to_owned(), limit: LARGEST });
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_program_sees_no_environment_of_the_agent() {
        let said = run("env", &[], LIMIT).await.unwrap().success("env").unwrap();
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["HOME=/root", "LANG=C", &format!("PATH={SEARCH_PATH}")]);
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_and_named() {
        let error = run("sleep", &["60"], Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(&error, HostError::TimedOut { what, .. } if what == "sleep"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_that_is_longer_than_any_is_an_error_and_is_not_cut() {
        let print =
            |bytes: u64| async move { run("head", &["-c", &bytes.to_string(), "/dev/zero"], LIMIT).await };
        assert_eq!(print(LARGEST).await.unwrap().output.len() as u64, LARGEST);
        let error = print(LARGEST + 1).await.unwrap_err().to_string();
        assert_eq!(error, "head printed more than 4 MiB, which is more than Muster reads");
    }

    #[tokio::test]
    async fn a_failure_tells_status_and_words_and_a_missing_program_its_name() {
        let error = run("ls", &["/nonexistent"], LIMIT).await.unwrap().success("ls").unwrap_err().to_string();
        assert!(error.starts_with("ls ended with exit status: 2: ls: "), "{error}");
        let error = run("muster-no-such-program", &[], LIMIT).await.unwrap_err().to_string();
        assert!(error.starts_with("muster-no-such-program could not be started"), "{error}");
    }
}
