//! Who is enrolled, and the one-time tokens: one SQLite file, every decision in one transaction.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use muster_proto::database::{DatabaseError, Schema};
use muster_proto::names::NodeName;
use muster_proto::token::{EnrolmentToken, ProofKey, TokenId};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::doors::admission::{Decision, Incident, WRONG_PROOFS_THAT_LOCK, decide};

const SCHEMA: Schema = Schema {
    what: "list of enrolled nodes",
    version: 1,
    tables: "CREATE TABLE nodes (
                 name TEXT PRIMARY KEY, public_key BLOB NOT NULL UNIQUE, enrolled INTEGER NOT NULL) STRICT;
             CREATE TABLE tokens (
                 id TEXT PRIMARY KEY, node TEXT NOT NULL, proof_key BLOB NOT NULL, expires INTEGER NOT NULL,
                 wrong_proofs INTEGER NOT NULL DEFAULT 0, second_keys INTEGER NOT NULL DEFAULT 0,
                 revoked INTEGER NOT NULL DEFAULT 0, bound_key BLOB) STRICT;",
    upgrades: &[],
    remedy: "put a copy of it back; without one, move {} and {}-wal away, restart muster-coordinator and enrol every machine again \
             (`coordinator token create`)",
};

/// A token that ended is listed for this long, then forgotten.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);

/// The database cannot do its work.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StoreError(#[from] DatabaseError);

/// An enrolled node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub enrolled: Timestamp,
}

/// A token as a person sees it; the secret cannot be had again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenState {
    pub id: String,
    pub node: String,
    pub state: String,
    pub expires: Timestamp,
}

/// The database; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Store {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.path.display())
    }
}

impl Store {
    /// Opens the database, making it when there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // Nobody else may read the hashes of the secrets; SQLite gives its side files the mode of the database.
        let connection = SCHEMA.open(path)?;
        Ok(Self { path: path.to_owned(), connection: Arc::new(Mutex::new(connection)) })
    }

    /// Remembers a new token: its id, its node and the hash of its secret.
    pub fn add_token(
        &self,
        token: &EnrolmentToken,
        node: &NodeName,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let connection = self.lock();
        let forgotten = now.as_second() - REMEMBERED.as_secs() as i64;
        connection
            .execute("DELETE FROM tokens WHERE expires < ?1", [forgotten])
            .and_then(|_| {
                connection.execute(
                    "INSERT INTO tokens (id, node, proof_key, expires) VALUES (?1, ?2, ?3, ?4)",
                    params![
                        token.id().as_str(),
                        node.as_str(),
                        token.proof_key().to_stored(),
                        expires.as_second()
                    ],
                )
            })
            .map(|_| ())
            .map_err(|source| self.storage(source))
    }

    /// Decides an attempt to enrol: in one transaction the token is bound to the first public key that comes with a
    /// right proof, and the node is enrolled with it. The same key may come again until the token expires. `note` is told
    /// of a refusal that counted before it counts: what `tokens` shows, was noted.
    pub fn enrol(
        &self,
        token: &TokenId,
        public_key: &[u8],
        now: Timestamp,
        proves: impl FnOnce(&ProofKey) -> bool,
        note: impl FnOnce(&Incident),
    ) -> Result<Decision, StoreError> {
        let mut connection = self.lock();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| self.storage(source))?;
        let (decision, incident) =
            decide(&transaction, token, public_key, now, proves).map_err(|source| self.storage(source))?;
        if let Some(incident) = incident {
            note(&incident);
        }
        // A refusal is committed too: it may have counted.
        transaction.commit().map_err(|source| self.storage(source))?;
        Ok(decision)
    }

    /// The node that is enrolled with this public key (SubjectPublicKeyInfo, DER).
    pub fn node_of(&self, public_key: &[u8]) -> Result<Option<NodeName>, StoreError> {
        let name: Option<String> = self
            .lock()
            .query_row("SELECT name FROM nodes WHERE public_key = ?1", [public_key], |row| row.get(0))
            .optional()
            .map_err(|source| self.storage(source))?;
        Ok(name.and_then(|name| name.parse().ok()))
    }

    /// All enrolled nodes, by name.
    pub fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = connection.prepare("SELECT name, enrolled FROM nodes ORDER BY name")?;
            let rows = statement
                .query_map([], |row| Ok(Node { name: row.get(0)?, enrolled: instant(row.get(1)?) }))?;
            rows.collect()
        };
        read().map_err(|source| self.storage(source))
    }

    /// All tokens that are remembered, the newest expiry first.
    pub fn tokens(&self, now: Timestamp) -> Result<Vec<TokenState>, StoreError> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = connection.prepare(
                "SELECT id, node, expires, wrong_proofs, second_keys, revoked, bound_key IS NOT NULL
                 FROM tokens ORDER BY expires DESC, id",
            )?;
            let rows = statement.query_map([], |row| {
                let expires = instant(row.get(2)?);
                Ok(TokenState {
                    id: row.get(0)?,
                    node: row.get(1)?,
                    expires,
                    state: state_in_words(row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?, expires <= now),
                })
            })?;
            rows.collect()
        };
        read().map_err(|source| self.storage(source))
    }

    /// Makes a token useless; false when there is none with this id.
    pub fn revoke_token(&self, token: &TokenId) -> Result<bool, StoreError> {
        self.lock()
            .execute("UPDATE tokens SET revoked = 1 WHERE id = ?1", [token.as_str()])
            .map(|changed| changed > 0)
            .map_err(|source| self.storage(source))
    }

    /// Takes a node off the list, and every token of its name with it, so that the same key cannot come back on a
    /// token that it used before; false when the node was not enrolled.
    pub fn revoke_node(&self, node: &NodeName) -> Result<bool, StoreError> {
        let mut connection = self.lock();
        let mut revoke = || -> rusqlite::Result<bool> {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute("UPDATE tokens SET revoked = 1 WHERE node = ?1", [node.as_str()])?;
            let removed = transaction.execute("DELETE FROM nodes WHERE name = ?1", [node.as_str()])?;
            transaction.commit()?;
            Ok(removed > 0)
        };
        revoke().map_err(|source| self.storage(source))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().expect("no holder of the lock panics")
    }

    fn storage(&self, source: rusqlite::Error) -> StoreError {
        SCHEMA.error(&self.path, source).into()
    }
}

fn state_in_words(wrong_proofs: u32, second_keys: u32, revoked: bool, bound: bool, expired: bool) -> String {
    let state = match () {
        _ if revoked => "revoked",
        _ if wrong_proofs >= WRONG_PROOFS_THAT_LOCK => "locked after too many wrong proofs",
        _ if bound => "used",
        _ if expired => "expired",
        _ => "open",
    };
    match (second_keys, wrong_proofs) {
        (0, 0) => state.to_owned(),
        (0, wrong) => format!("{state}; {wrong} wrong proofs"),
        (second, _) => format!("{state}; ANOTHER KEY TRIED IT {second} times"),
    }
}

fn instant(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::admission::Refusal;
    use muster_proto::token::KeyPin;

    struct Fixture {
        _folder: tempfile::TempDir,
        store: Store,
        token: EnrolmentToken,
        now: Timestamp,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("nodes.db")).unwrap();
        let (token, now) = (EnrolmentToken::generate(KeyPin::of(b"ca")).unwrap(), Timestamp::now());
        let expires = now + Duration::from_secs(900);
        store.add_token(&token, &"node-1".parse().unwrap(), expires, now).unwrap();
        Fixture { _folder: folder, store, token, now }
    }

    impl Fixture {
        fn enrol(&self, key: &[u8], right: bool) -> Decision {
            self.store.enrol(self.token.id(), key, self.now, |_| right, |_| ()).unwrap()
        }
    }

    #[test]
    fn a_token_is_bound_to_its_first_key_which_alone_may_come_again() {
        let it = fixture();
        assert_eq!(it.enrol(b"first", true).unwrap().as_str(), "node-1");
        assert_eq!(it.enrol(b"first", true).unwrap().as_str(), "node-1");
        assert_eq!(it.enrol(b"second", true), Err(Refusal::SecondKey("node-1".into())));
        assert!(it.store.tokens(it.now).unwrap()[0].state.contains("ANOTHER KEY"));
        assert_eq!(it.store.node_of(b"first").unwrap().unwrap().as_str(), "node-1");
        assert!(it.store.node_of(b"second").unwrap().is_none());
    }

    #[test]
    fn five_wrong_proofs_lock_a_token_for_the_right_one_too() {
        let it = fixture();
        for _ in 0..WRONG_PROOFS_THAT_LOCK {
            assert_eq!(it.enrol(b"thief", false), Err(Refusal::UnknownOrWrong));
        }
        assert_eq!(it.enrol(b"first", true), Err(Refusal::Locked));
        assert!(it.store.nodes().unwrap().is_empty());
    }

    #[test]
    fn four_wrong_proofs_do_not() {
        let it = fixture();
        for _ in 1..WRONG_PROOFS_THAT_LOCK {
            assert!(it.enrol(b"thief", false).is_err());
        }
        assert!(it.enrol(b"first", true).is_ok());
    }

    #[test]
    fn an_expired_token_enrols_nobody_not_even_its_first_key_again() {
        let mut it = fixture();
        it.enrol(b"first", true).unwrap();
        it.now += Duration::from_secs(900);
        assert_eq!(it.enrol(b"first", true), Err(Refusal::Expired("node-1".into())));
    }

    #[test]
    fn a_revoked_node_cannot_come_back_with_the_token_that_it_used() {
        let it = fixture();
        it.enrol(b"first", true).unwrap();
        assert!(it.store.revoke_node(&"node-1".parse().unwrap()).unwrap());
        assert!(!it.store.revoke_node(&"node-1".parse().unwrap()).unwrap());
        assert!(it.store.node_of(b"first").unwrap().is_none());
        assert_eq!(it.enrol(b"first", true), Err(Refusal::Revoked("node-1".into())));
    }

    #[test]
    fn a_name_is_never_taken_over_and_a_cloned_key_is_told_so() {
        let it = fixture();
        it.enrol(b"first", true).unwrap();
        let another = |node: &str| {
            let token = EnrolmentToken::generate(KeyPin::of(b"ca")).unwrap();
            it.store
                .add_token(&token, &node.parse().unwrap(), it.now + Duration::from_secs(9), it.now)
                .unwrap();
            token
        };
        let same_name = another("node-1");
        let decision = it.store.enrol(same_name.id(), b"other", it.now, |_| true, |_| ()).unwrap();
        assert_eq!(decision, Err(Refusal::NameTaken("node-1".into())));
        let same_key = another("node-2");
        let decision = it.store.enrol(same_key.id(), b"first", it.now, |_| true, |_| ()).unwrap();
        assert_eq!(decision, Err(Refusal::KeyTaken("node-1".into())));
    }

    #[test]
    fn what_was_enrolled_is_enrolled_after_a_restart() {
        let it = fixture();
        it.enrol(b"first", true).unwrap();
        let again = Store::open(&it.store.path).unwrap();
        assert_eq!(again.nodes().unwrap()[0].name, "node-1");
        assert!(!again.revoke_token(&"0000000000000000".parse().unwrap()).unwrap());
        assert!(again.revoke_token(it.token.id()).unwrap());
        assert_eq!(again.tokens(it.now).unwrap()[0].state, "revoked");
    }
}
