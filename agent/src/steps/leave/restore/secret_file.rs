//! A file whose content no journal holds: what is ours alone is removed, and out of every other kubeconfig this cluster's
//! entries are taken. One that cannot be read any more, or of which nobody can tell what is ours, is left as it is and named:
//! it keeps no reset from its end.

use muster_proto::names::UserName;
use std::path::Path;

use super::{Undoing, plain_file};
use crate::cluster::kubeconfig_marks::Rest;
use crate::host::HostError;
use crate::host::change::{Change, FileMode, digest_of};
use crate::host::query::Observe;
use crate::undo::ledger::{Place, SecretFile};

pub(super) async fn put_back<H: Observe>(host: &H, file: &SecretFile) -> Result<Undoing, HostError> {
    let Some(now) = plain_file::read(host, &file.place).await? else { return Ok(Undoing::default()) };
    if file.whole.contains(&digest_of(&now)) {
        return Ok(Undoing::change(plain_file::put(&file.place, None, None)));
    }
    Ok(match &file.place {
        Place::Home(user, path) => without_our_entries(file, user, path, &now),
        Place::Host(path) => Undoing::gone(format!(
            "{} stays as it is: something else than Muster wrote it too, and no journal holds what a secret file held before",
            path.display()
        )),
    })
}

/// A kubeconfig that others wrote too.
fn without_our_entries(file: &SecretFile, user: &UserName, path: &Path, now: &str) -> Undoing {
    let removal = || Undoing::change(plain_file::put(&file.place, None, None));
    let left = |why: String| {
        let path = path.display();
        Undoing::gone(format!(
            "~{user}/{path} stays as it is ({why}); `kubectl config get-contexts` lists what is in it, and \
             `kubectl config delete-context`, `delete-cluster` and `delete-user` take out what led to this cluster"
        ))
    };
    if file.marks.is_empty() {
        return left("an earlier release of Muster wrote it and did not note which entries it added".into());
    }
    // As with every file: one that somebody else changed since keeps the mode that it has now.
    let mode =
        file.mode.filter(|_| digest_of(now) == file.last).map_or(FileMode::IfNew(0o600), FileMode::exactly);
    match file.marks.without(now) {
        Ok(Rest::Same) => Undoing::default(),
        Ok(Rest::Empty(_)) if file.is_new => removal(),
        Ok(Rest::Empty(content) | Rest::Others(content)) => Undoing::change(Change::WriteUserFile {
            user: user.clone(),
            path: path.to_owned(),
            content,
            mode,
            secret: true,
        }),
        Err(problem) => left(problem),
    }
}
