//! `coordinator init`: placeholder.
use super::Failure;
use std::path::Path;
#[derive(Debug, clap::Args)]
pub struct Arguments {}
pub async fn run(_root: &Path, _arguments: Arguments) -> Result<(), Failure> {
    Ok(())
}
