//! A user's kubeconfig: what is ours alone is removed, and out of every other one this cluster's entries are taken. One
//! that cannot be read any more is left as it is and named: it keeps no reset from its end.

use super::Undoing;
use crate::cluster::kubeconfig_marks::Rest;
use crate::host::HostError;
use crate::host::change::{Change, FileMode, digest_of};
use crate::host::query::Observe;
use crate::undo::ledger::SecretFile;

pub(super) async fn put_back<H: Observe>(host: &H, file: &SecretFile) -> Result<Undoing, HostError> {
    let SecretFile { user, path, .. } = file;
    let Some(now) = host.user_file(user, path).await? else { return Ok(Undoing::default()) };
    let removal = || Undoing::change(Change::RemoveUserFile { user: user.clone(), path: path.clone() });
    let digest = digest_of(&now);
    if file.whole.contains(&digest) {
        return Ok(removal());
    }
    let left = |why: String| {
        let path = path.display();
        Undoing::gone(format!(
            "~{user}/{path} stays as it is ({why}); `kubectl config get-contexts` lists what is in it, and \
             `kubectl config delete-context`, `delete-cluster` and `delete-user` take out what led to this cluster"
        ))
    };
    if file.marks.is_empty() {
        return Ok(left(
            "an earlier release of Muster wrote it and did not note which entries it added".into(),
        ));
    }
    // As with every file: one that somebody else changed since keeps the mode that it has now.
    let mode = file.mode.filter(|_| digest == file.last).map_or(FileMode::IfNew(0o600), FileMode::exactly);
    let (user, path) = (user.clone(), path.clone());
    Ok(match file.marks.without(&now) {
        Ok(Rest::Same) => Undoing::default(),
        Ok(Rest::Empty(_)) if file.is_new => removal(),
        Ok(Rest::Empty(content) | Rest::Others(content)) => {
            Undoing::change(Change::WriteUserFile { user, path, content, mode, secret: true })
        }
        Err(problem) => left(problem),
    })
}
