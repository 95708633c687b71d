//! The version handshake: both sides state what they speak, a mismatch is refused in one sentence.

/// The version of the messages between agent and coordinator; raised by every incompatible change.
pub const PROTOCOL: u32 = 2;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// ALPN of a connection over which an enrolled agent is commanded; needs a client certificate.
pub const ALPN_AGENT: &[u8] = b"muster-agent/1";

/// ALPN of a connection that serves nothing but enrolment.
pub const ALPN_ENROL: &[u8] = b"muster-enroll/1";

/// The one name in the coordinator's server certificate; addresses change, this does not.
pub const SERVER_NAME: &str = "coordinator.muster.internal";

/// The TCP port that agents dial when nothing else is said.
pub const DEFAULT_PORT: u16 = 7443;

/// Two sides that cannot understand each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the coordinator speaks protocol {coordinator} (version {coordinator_version}) and the agent on {node} speaks protocol {agent} \
     (version {agent_version}): install the same version of muster-agent and muster-coordinator on both"
)]
pub struct Mismatch {
    pub node: String,
    pub coordinator: u32,
    pub coordinator_version: String,
    pub agent: u32,
    pub agent_version: String,
}
