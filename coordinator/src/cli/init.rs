//! `coordinator init`: placeholder.
use std::path::Path;
use super::Failure;
#[derive(Debug, clap::Args)]
pub struct Arguments {}
pub async fn run(_root: &Path, _arguments: Arguments) -> Result<(), Failure> { Ok(()) }
