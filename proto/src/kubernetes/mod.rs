//! What is known of Kubernetes and of what belongs to it, once and pure: nothing here looks at a host. Whoever has to do
//! one thing for one version and another for the next asks the row of that version; nowhere else are versions compared.

pub mod files;
pub mod kernel;
pub mod network;
pub mod release;
pub mod runtime;
pub mod suits;
