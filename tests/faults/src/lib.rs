//! The fault matrix: two machines of namespaces with a real systemd each, the real agent and coordinator with failpoints in
//! them, stand-ins with memory for what is not Muster's, and one fault in every cell.
#![allow(clippy::disallowed_methods, reason = "test machines are built, broken and looked at from outside")]

pub mod machine;
pub mod pair;
pub mod stand_in;
pub mod tools;
