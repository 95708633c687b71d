//! The fault matrix: two machines of namespaces with a real systemd each, the real agent and coordinator with failpoints in
//! them, stand-ins with memory for what is not Muster's, and one fault in every cell.
#![allow(clippy::disallowed_methods, reason = "test machines are built, broken and looked at from outside")]

pub mod arm;
pub mod backwards;
pub mod cell;
pub mod converge;
pub mod during;
pub mod enumeration;
pub mod first;
pub mod judgement;
pub mod machine;
pub mod matrix;
pub mod pair;
pub mod proof;
pub mod runs;
pub mod scenario;
pub mod snapshot;
pub mod stand_in;
pub mod strike;
pub mod survey;
pub mod this_machine;
pub mod tools;
pub mod watcher;
pub mod world;
