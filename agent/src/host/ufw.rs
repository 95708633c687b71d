//! ufw on this host: whether it is installed, and what its files say.

use std::path::Path;

use muster_proto::ufw::{CONFIGURATION, DEFAULTS, Files, RULES};

use crate::host::HostError;
use crate::host::query::Observe;

/// None where ufw is not installed: a package that was removed leaves its files behind, and then they mean nothing.
pub(crate) async fn files<H: Observe>(host: &H) -> Result<Option<Files>, HostError> {
    if !host.missing_programs(&["ufw"]).await?.is_empty() {
        return Ok(None);
    }
    let text = async |path: &str| host.read_file(Path::new(path)).await.map(Option::unwrap_or_default);
    let mut rules = String::new();
    for list in RULES {
        rules.push_str(&text(list).await?);
    }
    Ok(Some(Files { configuration: text(CONFIGURATION).await?, defaults: text(DEFAULTS).await?, rules }))
}
