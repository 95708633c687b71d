//! Answers that can only change with the program that gives them: its version, the images that it wants. Starting a Go
//! program of 100 MB to hear the same again costs half a second on a small machine, at every look.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::child::{find, run};
use crate::host::HostError;

/// More than a host has versions of three programs; an old answer is worth nothing.
const KEPT: usize = 32;

/// What was answered so far; cheap to clone, all clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers {
    answers: Arc<Mutex<BTreeMap<Question, String>>>,
}

/// A program's file as it stands, and its arguments. A package that is installed anew is another file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    arguments: Vec<String>,
}

impl Answers {
    /// The standard output of a program that ended with 0; none when it is not installed.
    pub(super) async fn ask(
        &self,
        name: &str,
        arguments: &[&str],
        limit: Duration,
    ) -> Result<Option<String>, HostError> {
        let Some(question) = Question::of(name, arguments) else { return Ok(None) };
        if let Some(answer) = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(&question) {
            return Ok(Some(answer.clone()));
        }
        let said = run(name, arguments, limit).await?.success(&format!("{name} {}", arguments.join(" ")))?;
        // Replaced while it ran: nobody knows which of the two answered.
        if Question::of(name, arguments).as_ref() == Some(&question) {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            if answers.len() >= KEPT {
                answers.clear();
            }
            answers.insert(question, said.clone());
        }
        Ok(Some(said))
    }
}

impl Question {
    fn of(name: &str, arguments: &[&str]) -> Option<Self> {
        let path = find(name)?;
        let file = path.metadata().ok()?;
        Some(Self {
            path,
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_asked_for_once_and_kept_by_arguments() {
        let answers = Answers::default();
        let limit = Duration::from_secs(5);
        let first = answers.ask("date", &["+%N"], limit).await.unwrap().unwrap();
        assert_eq!(answers.ask("date", &["+%N"], limit).await.unwrap().unwrap(), first);
        assert_ne!(answers.ask("date", &["+%s.%N"], limit).await.unwrap().unwrap(), first);
        assert_eq!(answers.ask("no-such-program", &[], limit).await.unwrap(), None);
        assert!(answers.ask("false", &[], limit).await.is_err());
    }
}
