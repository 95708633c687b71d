//! What a run leaves on both machines, with everything taken out that differs between any two clusters.

mod files;
mod kernel;
pub(crate) mod live;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine::{Done, Machine, told};
use crate::pair::Pair;

const OBJECTS: &str = "/var/lib/etcd/member/objects.json";

const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// By machine and name: what stands there.
pub type Snapshot = BTreeMap<String, String>;

/// One thing that is not as after a clean run.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    pub name: String,
    pub found: Option<String>,
    pub clean: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(f, "{}: {:?} instead of {:?}", self.name, shown(&self.found), shown(&self.clean))
    }
}

/// Once nothing moves any more, which every cell is held against: a connection that is just being closed is not there for good.
pub fn settled(pair: &Pair) -> Done<Snapshot> {
    let deadline = Instant::now() + SETTLES_WITHIN;
    let (mut found, mut same) = (of(pair)?, 0);
    while same < 3 {
        std::thread::sleep(Duration::from_millis(300));
        let next = of(pair)?;
        let moved = differences(&found, &next);
        same = if moved.is_empty() { same + 1 } else { 0 };
        if Instant::now() > deadline {
            return Err(format!("after the clean run the machines do not come to rest:{}", listed(&moved)));
        }
        found = next;
    }
    Ok(found)
}

pub fn of(pair: &Pair) -> Done<Snapshot> {
    let mut found = Snapshot::new();
    for machine in [&pair.master, &pair.worker] {
        files::of(machine, &mut found)?;
        kernel::of(machine, &mut found)?;
        live::of(machine, &mut found)?;
    }
    objects(&pair.master, &mut found)?;
    Ok(found)
}

/// What differs; empty when nothing does.
pub fn differences(clean: &Snapshot, found: &Snapshot) -> Vec<Difference> {
    let names = clean.keys().chain(found.keys().filter(|name| !clean.contains_key(*name)));
    names
        .map(|name| Difference {
            name: name.clone(),
            found: found.get(name).cloned(),
            clean: clean.get(name).cloned(),
        })
        .filter(|one| one.found != one.clean)
        .collect()
}

/// One line each, to stand below a sentence.
pub fn listed(differences: &[Difference]) -> String {
    differences.iter().map(|one| format!("\n  {one}")).collect()
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// All objects of the API server. `resourceVersion` is taken out: it counts every write there ever was. So is a Lease's
/// `renewTime`: it tells of the moment.
fn objects(master: &Machine, found: &mut Snapshot) -> Done<()> {
    let Ok(held) = std::fs::read_to_string(master.inside(OBJECTS)) else {
        found.insert("objects".to_owned(), "no etcd".to_owned());
        return Ok(());
    };
    let all: Vec<(Value, Value)> = serde_json::from_str(&held).map_err(told)?;
    for (key, mut object) in all {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.remove("renewTime");
        }
        found.insert(format!("object {key}"), object.to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_too_much_too_little_or_otherwise_is_a_difference() {
        let of = |pairs: &[(&str, &str)]| -> Snapshot {
            pairs.iter().map(|(name, what)| ((*name).to_owned(), (*what).to_owned())).collect()
        };
        let clean = of(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(differences(&clean, &clean), []);
        let told = listed(&differences(&clean, &of(&[("a", "1"), ("b", "x"), ("d", "4")])));
        assert_eq!(
            told,
            "\n  b: \"x\" instead of \"2\"\n  c: \"nothing\" instead of \"3\"\n  d: \"4\" instead of \"nothing\""
        );
    }
}
