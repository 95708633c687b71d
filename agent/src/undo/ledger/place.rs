//! Where a file of ours is.

use std::path::PathBuf;

use muster_proto::names::UserName;

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Host(PathBuf),
    Home(UserName, PathBuf),
}
