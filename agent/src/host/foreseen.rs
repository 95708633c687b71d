//! What keeps changes from being made, seen before anything is: whoever only tried would learn it in the middle of a run.

use std::path::Path;

use muster_proto::event::Complaint;
use muster_proto::names::UserName;

use super::HostError;
use super::change::Change;
use super::query::Observe;

/// The first of these changes that cannot be made, as what keeps it from being made; none when all files can be written.
pub(crate) async fn of_changes<H: Observe>(
    host: &H,
    changes: &[Change],
) -> Result<Option<Complaint>, HostError> {
    for change in changes {
        let complaint = match change {
            Change::WriteFile { path, .. } | Change::RemoveFile { path } => {
                host.file_obstacle(path).await?.map(|obstacle| obstacle.complaint(None))
            }
            Change::SetHostname { .. } => {
                let obstacle = host.file_obstacle(Path::new("/etc/hostname")).await?;
                obstacle.map(|obstacle| obstacle.complaint(None))
            }
            Change::WriteUserFile { user, path, .. } | Change::RemoveUserFile { user, path } => {
                of_user_file(host, user, path).await?
            }
            _ => None,
        };
        if complaint.is_some() {
            return Ok(complaint);
        }
    }
    Ok(None)
}

/// What keeps the user from writing a file below the home; none when it can be written, and for a user that does not exist.
pub(crate) async fn of_user_file<H: Observe>(
    host: &H,
    user: &UserName,
    path: &Path,
) -> Result<Option<Complaint>, HostError> {
    let Some(found) = host.user(user).await? else { return Ok(None) };
    let obstacle = host.user_file_obstacle(user, path).await?;
    Ok(obstacle.map(|obstacle| obstacle.complaint(Some((user, &found.home)))))
}
