//! Where the coordinator meets everybody else: its port and who may come in there (listener, enrolment, admission,
//! authority, tls), who is enrolled (store), who is connected (fleet) and was given what (contents), what is asked of an agent and
//! taken of its answer (answers), and the unix sockets of people and scripts.

pub mod admission;
pub mod answers;
pub mod authority;
mod contents;
pub mod enrolment;
pub mod fleet;
pub mod listener;
pub mod sockets;
pub mod store;
pub mod tls;
