//! The objects of the API server: kept in a file below /var/lib/etcd, written and synced before anybody is answered.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::{Said, said};

pub(super) const MEMBER: &str = "/var/lib/etcd/member";
const FILE: &str = "objects.json";

/// plural, namespace (empty: none), name
pub(super) type Key = (String, String, String);

pub(super) struct Store {
    objects: BTreeMap<Key, Value>,
    version: u64,
}

impl Store {
    pub(super) fn open() -> Said<Self> {
        std::fs::create_dir_all(MEMBER).map_err(said)?;
        let text = std::fs::read_to_string(Path::new(MEMBER).join(FILE)).unwrap_or_else(|_| "[]".to_owned());
        let held: Vec<(Key, Value)> = serde_json::from_str(&text).map_err(said)?;
        let version = |(_, object): &(Key, Value)| {
            object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let version = held.iter().map(version).max().unwrap_or(0);
        Ok(Self { objects: held.into_iter().collect(), version })
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    pub(super) fn list(&self, plural: &str, namespace: &str, selector: &str) -> Vec<Value> {
        let wanted = selector.split_once('=');
        let chosen =
            |object: &Value| wanted.is_none_or(|(label, value)| object["metadata"]["labels"][label] == value);
        let here = |key: &Key| key.0 == plural && (namespace.is_empty() || key.1 == namespace);
        self.objects
            .iter()
            .filter(|(key, object)| here(key) && chosen(object))
            .map(|(_, object)| object.clone())
            .collect()
    }

    pub(super) fn put(&mut self, key: Key, object: Value) -> Said<Value> {
        let object = self.put_unsaved(key, object);
        self.save()?;
        Ok(object)
    }

    /// For what is put anew all the time: the next save takes it along.
    pub(super) fn put_unsaved(&mut self, key: Key, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object["metadata"]["name"] = json!(key.2);
        if !key.1.is_empty() {
            object["metadata"]["namespace"] = json!(key.1);
        }
        self.objects.insert(key, object.clone());
        object
    }

    pub(super) fn remove(&mut self, key: &Key) -> Said<Option<Value>> {
        let removed = self.objects.remove(key);
        if removed.is_some() {
            self.save()?;
        }
        Ok(removed)
    }

    fn save(&self) -> Said<()> {
        let all: Vec<(&Key, &Value)> = self.objects.iter().collect();
        let text = serde_json::to_string(&all).map_err(said)?;
        let fresh = Path::new(MEMBER).join("objects.fresh");
        let mut file = std::fs::File::create(&fresh).map_err(said)?;
        file.write_all(text.as_bytes()).map_err(said)?;
        file.sync_all().map_err(said)?;
        std::fs::rename(&fresh, Path::new(MEMBER).join(FILE)).map_err(said)?;
        std::fs::File::open(MEMBER).and_then(|folder| folder.sync_all()).map_err(said)
    }
}
