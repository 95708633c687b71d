//! `coordinator preflight -f cluster.yaml`: everything that would stop a bootstrap, on all nodes and between them, at once.
//! Changes nothing; bootstrap begins with the same.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::exit::WouldBlock;
use super::findings::show_findings;
use super::{ClientError, Failure, Output, admin, cluster_file};
use crate::preflight::Check;
use crate::settings::Paths;
use crate::spec::Problems;
use crate::view;
use crate::view::findings::Findings;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The cluster that is wanted
    #[arg(short, long, value_name = "FILE", default_value = "cluster.yaml")]
    file: PathBuf,
    /// Let this check only note what it finds; may be given several times. `steps` stands for what a step says, such as
    /// packages or images
    #[arg(long, value_name = "CHECK", value_parser = ignorable())]
    ignore_check: Vec<Check>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The checks by their words, which `--help` lists.
pub(super) fn ignorable() -> impl TypedValueParser<Value = Check> {
    PossibleValuesParser::new(Check::ALL.map(Check::word)).try_map(|word| word.parse::<Check>())
}

pub(super) async fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    let mut files = cluster_file::read(&arguments.file)?;
    files.ignored_checks = arguments.ignore_check.iter().map(|check| check.word().to_owned()).collect();
    let found = admin(paths).await?.preflight(files).await.map_err(ClientError::from)?.into_inner();
    let findings = Findings::from(&found);
    if arguments.output == Output::Json {
        anstream::println!("{}", view::json(&findings));
    }
    if let Some(problems) = found.problems {
        return Err(Problems::from(problems).into());
    }
    if arguments.output == Output::Text {
        show_findings(&findings);
    }
    if !findings.complaints.is_empty() {
        return Err(WouldBlock::Preflight(findings.complaints.len()).into());
    }
    if arguments.output == Output::Text {
        anstream::println!("nothing stands in the way of a bootstrap; nothing was changed");
    }
    Ok(())
}
