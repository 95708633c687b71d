//! What Muster changed on this host, and what stood there before.

pub mod ledger;
