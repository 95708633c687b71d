//! What stands on a host before a change and would be lost: journalled with the intent, so that a reset can put it back.

use muster_proto::kubernetes::files::{ETCD_MEMBER, FOLDER};
use muster_proto::kubernetes::network::CONFIGURATION_FOLDER;
use std::path::Path;

use muster_proto::ufw;
use serde_json::{Value, json};

use super::HostError;
use super::change::{Change, ProgramName, digest_of};
use super::query::{ObjectKind, Observe};
use crate::cluster::kubeconfig_marks::Marks;

/// The before-image of a change; none when nothing stands there yet. Never holds a secret: of a Secret only
/// that it existed, of a secret file its digest, of a user's also the names and digests of the entries that are new in it. `mode` is the mode of the file that the change names, when there is one.
pub(super) async fn image(
    host: &impl Observe,
    change: &Change,
    mode: Option<u32>,
) -> Result<Option<Value>, HostError> {
    let file = |content: String| json!({ "content": content, "mode": mode });
    let hidden = |content: String| json!({ "secret": true, "bytes": content.len(), "mode": mode });
    Ok(match change {
        // kubeadm's own files hold keys and tokens, and a reset leaves them to kubeadm.
        Change::RemoveFile { path } if path.starts_with(FOLDER) => host.read_file(path).await?.map(hidden),
        Change::WriteFile { path, secret: true, .. } => host.read_file(path).await?.map(|content| {
            let digest = digest_of(&content);
            let mut image = hidden(content);
            image["digest"] = digest.into();
            image
        }),
        Change::WriteFile { path, .. } | Change::RemoveFile { path } => host.read_file(path).await?.map(file),
        Change::SetHostname { .. } => Some(json!({
            "kernel": host.hostname().await?,
            "file": host.read_file(Path::new("/etc/hostname")).await?,
        })),
        Change::SwapOff { device } => Some(json!({ "active": host.swaps().await?.contains(device) })),
        Change::SetSysctl { key, .. } => host.sysctl(key).await?.map(|value| json!({ "value": value })),
        Change::Unit { unit, .. } => {
            let unit = host.unit(unit).await?;
            Some(json!({ "exists": unit.exists, "active": unit.active, "file_state": unit.file_state }))
        }
        Change::WriteUserFile { user, path, content, secret: true, .. } => {
            let found = host.user_file(user, path).await?;
            let entries = Marks::of(found.as_deref(), content);
            let digest = found.as_deref().map(digest_of);
            let mut image = found.map_or_else(|| json!({ "secret": true }), hidden);
            (image["digest"], image["entries"]) = (json!(digest), json!(entries));
            Some(image)
        }
        Change::WriteUserFile { user, path, .. } => host.user_file(user, path).await?.map(file),
        Change::RemoveUserFile { user, path } => host.user_file(user, path).await?.map(hidden),
        Change::RemoveTaints { node, .. } => {
            let node = host.object(ObjectKind::Node, "", node.as_str()).await?;
            node.map(|node| json!({ "taints": node.pointer("/spec/taints") }))
        }
        Change::DeleteObject { kind: ObjectKind::Secret, namespace, name } => {
            host.object(ObjectKind::Secret, namespace, name).await?.map(|_| json!({ "secret": true }))
        }
        Change::DeleteObject { kind, namespace, name } => host.object(*kind, namespace, name).await?,
        Change::Run(program) if program.program == ProgramName::Ufw => {
            let mut files = serde_json::Map::new();
            for path in [ufw::CONFIGURATION].iter().chain(&ufw::RULES) {
                files.insert((*path).to_owned(), host.read_file(Path::new(path)).await?.into());
            }
            Some(files.into())
        }
        // By this a reset tells what the cluster made from what stood there.
        Change::Run(_) if matches!(change.kubeadm_verb(), Some("init" | "join")) => Some(json!({
            "etcd": !host.list_folder(Path::new(ETCD_MEMBER)).await?.is_empty(),
            "cni": host.list_folder(Path::new(CONFIGURATION_FOLDER)).await?,
        })),
        // It holds what kubeadm and etcd put there, and nobody could put it back.
        Change::RemoveEtcdData | Change::ReloadUnits | Change::Run(_) => None,
    })
}
