//! What a change would make different, as a person reads it before anything is changed.

use std::path::Path;

use muster_proto::difference;

use crate::host::HostError;
use crate::host::change::Change;
use crate::host::query::Observe;

/// A unified difference for a file; empty for every other change, whose summary says it all, and for secret files.
pub async fn of<H: Observe>(host: &H, change: &Change) -> Result<String, HostError> {
    match change {
        Change::WriteFile { path, content, secret: false, .. } => {
            let before = host.read_file(path).await?.unwrap_or_default();
            Ok(unified(path, &before, content))
        }
        Change::WriteUserFile { user, path, content, secret: false, .. } => {
            let before = host.user_file(user, path).await?.unwrap_or_default();
            Ok(unified(path, &before, content))
        }
        _ => Ok(String::new()),
    }
}

fn unified(path: &Path, before: &str, after: &str) -> String {
    difference::unified(&path.display().to_string(), before, after)
}
