//! `coordinator journal`: what was sent to the nodes and what they reported, out of the file; the daemon need not run.

use std::io;
use std::path::PathBuf;

use muster_proto::journal::Journal;
use muster_proto::listing::{self, Form};

use super::Failure;
use super::Output;
use crate::settings::Paths;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Read this file, for instance a copy from another machine. Of a service that runs, copy FILE-wal with it: without that the
    /// copy ends with the last step that ended
    #[arg(long)]
    file: Option<PathBuf>,
    /// How to print; json is one object a line
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    let journal = Journal::read_only(&arguments.file.unwrap_or_else(|| paths.journal()))?;
    let form = match arguments.output {
        Output::Text => Form::Text,
        Output::Json => Form::Json,
    };
    Ok(listing::list(&journal, form, &mut io::stdout().lock())?)
}
