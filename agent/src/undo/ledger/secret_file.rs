//! A file whose content no journal holds: what of it is ours is known by digests.

use serde_json::Value;

use super::place::Place;
use crate::cluster::kubeconfig_marks::Marks;

#[derive(Debug, Clone)]
pub struct SecretFile {
    pub place: Place,
    /// No such file stood there before our first write, or before one later on, because somebody removed it.
    pub is_new: bool,
    /// The mode that it had before us.
    pub mode: Option<u32>,
    /// The digests of what is ours alone. Empty where something of somebody else's stood there.
    pub whole: Vec<String>,
    /// The digest of what our last write left.
    pub last: String,
    /// The entries that our writes put into a kubeconfig. Empty in the journal of a release that did not note them.
    pub marks: Marks,
    /// The digest of what our last write found.
    found: Option<String>,
}

impl SecretFile {
    /// `written`: the digest of what one write left.
    pub fn of(place: Place, written: &str, before: Option<&Value>) -> Self {
        let image = before.unwrap_or(&Value::Null);
        let is_new = image["bytes"].is_null();
        Self {
            place,
            is_new,
            mode: image["mode"].as_u64().and_then(|mode| u32::try_from(mode).ok()),
            whole: if is_new { vec![written.to_owned()] } else { Vec::new() },
            last: written.to_owned(),
            marks: serde_json::from_value(image["entries"].clone()).unwrap_or_default(),
            found: image["digest"].as_str().map(str::to_owned),
        }
    }

    /// Whether the later write was of the same file, and is now part of this account.
    pub(super) fn absorb(&mut self, later: &Self) -> bool {
        if self.place != later.place {
            return false;
        }
        if later.is_new {
            (self.is_new, self.mode) = (true, None);
            self.whole.clone_from(&later.whole);
        } else if later.found.as_ref().is_some_and(|found| self.whole.contains(found)) {
            self.whole.push(later.last.clone());
        } else {
            // Somebody wrote in between: what we wrote then holds that too.
            self.whole.clear();
        }
        self.last.clone_from(&later.last);
        self.found.clone_from(&later.found);
        self.marks.absorb(later.marks.clone());
        true
    }
}
