//! Whether a machine is let in with a token: every reason for a refusal, and the one decision.

use std::fmt;

use jiff::Timestamp;
use muster_proto::names::NodeName;
use muster_proto::token::{ProofKey, TokenId};
use rusqlite::{Connection, OptionalExtension, params};

/// So many wrong proofs lock a token for good.
pub const WRONG_PROOFS_THAT_LOCK: u32 = 5;

/// Why an enrolment is refused. The sentence goes to the agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    // One sentence for both: a stranger does not learn which ids exist.
    #[error("the coordinator does not accept this token: make a new one with `coordinator token create`")]
    UnknownOrWrong,
    #[error(
        "this token is locked after too many wrong proofs: make a new one with `coordinator token create`"
    )]
    Locked,
    #[error("this token has expired: make a new one with `coordinator token create --node {0}`")]
    Expired(String),
    #[error("this token was revoked: make a new one with `coordinator token create --node {0}`")]
    Revoked(String),
    #[error(
        "this token was used already, by another machine or another key: if that was not you, run `coordinator nodes revoke {0}`; then make a new token"
    )]
    SecondKey(String),
    #[error(
        "{0} is enrolled already, with another key: if that machine is gone or was installed anew, run `coordinator nodes revoke {0}` on the master, make a new token and enrol again"
    )]
    NameTaken(String),
    #[error(
        "the key of this machine is enrolled as {0} already: if this VM is a clone, remove /var/lib/muster-agent/identity here and enrol again; otherwise run `coordinator nodes revoke {0}` on the master first"
    )]
    KeyTaken(String),
}

/// An attempt to enrol, answered in full.
pub type Decision = Result<NodeName, Refusal>;

/// A refused attempt that counted against a token: what the owner of the cluster has to know. The sentence goes into the
/// journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// The name that the token was made for.
    pub node: String,
    pub token: TokenId,
    pub kind: IncidentKind,
    /// Which one of its kind this is for the token, from 1.
    pub count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncidentKind {
    WrongProof,
    SecondKey,
}

impl Incident {
    /// Whether it is written down. Who holds a token's secret may come with new keys without end, and shall not fill the
    /// disk: of those the 1st, 2nd, 4th, 8th and so on are. Wrong proofs end by themselves: they lock the token.
    pub fn is_recorded(&self) -> bool {
        self.kind == IncidentKind::WrongProof || self.count.is_power_of_two()
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, token, kind, count } = self;
        match kind {
            IncidentKind::WrongProof if *count >= WRONG_PROOFS_THAT_LOCK => {
                write!(f, "wrong proof number {count} for token {token} of {node}: it is locked now")
            }
            IncidentKind::WrongProof => write!(f, "wrong proof number {count} for token {token} of {node}"),
            IncidentKind::SecondKey => write!(
                f,
                "another key than the one that enrolled came with the right secret of token {token} of {node}, for the {count}. \
                 time: if that was not you, run `coordinator nodes revoke {node}` and make a new token"
            ),
        }
    }
}

/// Binds the token to the first public key that comes with a right proof, and enrols the node with it. Belongs into one
/// transaction, which is committed after a refusal too: that may have counted.
pub(crate) fn decide(
    connection: &Connection,
    token: &TokenId,
    public_key: &[u8],
    now: Timestamp,
    proves: impl FnOnce(&ProofKey) -> bool,
) -> rusqlite::Result<(Decision, Option<Incident>)> {
    type Row = (String, Vec<u8>, i64, u32, bool, Option<Vec<u8>>, u32);
    let row: Option<Row> = connection
        .query_row(
            "SELECT node, proof_key, expires, wrong_proofs, revoked, bound_key, second_keys FROM tokens WHERE id = ?1",
            [token.as_str()],
            |row| row.try_into(),
        )
        .optional()?;
    let refused = |refusal| Ok((Err(refusal), None));
    let Some((node, proof_key, expires, wrong_proofs, revoked, bound_key, second_keys)) = row else {
        return refused(Refusal::UnknownOrWrong);
    };
    let incident = |kind, count| Some(Incident { node: node.clone(), token: token.clone(), kind, count });
    if wrong_proofs >= WRONG_PROOFS_THAT_LOCK {
        return refused(Refusal::Locked);
    }
    // Only who proves the secret learns more about the token than that it is not accepted.
    if !ProofKey::from_stored(&proof_key).is_some_and(|key| proves(&key)) {
        connection
            .execute("UPDATE tokens SET wrong_proofs = wrong_proofs + 1 WHERE id = ?1", [token.as_str()])?;
        let incident = incident(IncidentKind::WrongProof, wrong_proofs + 1);
        return Ok((Err(Refusal::UnknownOrWrong), incident));
    }
    if revoked {
        return refused(Refusal::Revoked(node));
    }
    if expires <= now.as_second() {
        return refused(Refusal::Expired(node));
    }
    if bound_key.as_deref().is_some_and(|bound| bound != public_key) {
        connection
            .execute("UPDATE tokens SET second_keys = second_keys + 1 WHERE id = ?1", [token.as_str()])?;
        let incident = incident(IncidentKind::SecondKey, second_keys.saturating_add(1));
        return Ok((Err(Refusal::SecondKey(node)), incident));
    }
    let enrolled_key: Option<Vec<u8>> = connection
        .query_row("SELECT public_key FROM nodes WHERE name = ?1", [&node], |row| row.get(0))
        .optional()?;
    if enrolled_key.as_deref().is_some_and(|enrolled| enrolled != public_key) {
        return refused(Refusal::NameTaken(node));
    }
    let other: Option<String> = connection
        .query_row(
            "SELECT name FROM nodes WHERE public_key = ?1 AND name <> ?2",
            params![public_key, node],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(other) = other {
        return refused(Refusal::KeyTaken(other));
    }
    let Ok(name) = node.parse::<NodeName>() else { return refused(Refusal::UnknownOrWrong) };
    connection
        .execute("UPDATE tokens SET bound_key = ?2 WHERE id = ?1", params![token.as_str(), public_key])?;
    connection.execute(
        "INSERT INTO nodes (name, public_key, enrolled) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO NOTHING",
        params![node, public_key, now.as_second()],
    )?;
    Ok((Ok(name), None))
}
