//! `coordinator report`: what was done, to hand in; out of the files, the daemon need not run.

use std::io::{self, Write};
use std::path::PathBuf;

use super::Failure;
use crate::report::words::Language;
use crate::report::{Sources, Which, html, markdown, report};
use crate::settings::Paths;
use crate::view;

/// The forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// One file that a browser shows and prints
    Html,
    /// A lab report
    Md,
    /// For scripts
    Json,
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Form::Html)]
    output: Form,
    /// Of this run; of the newest one if none is given
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    run: Option<String>,
    /// Of all runs, oldest first
    #[arg(long)]
    all: bool,
    /// In English or Chinese [default: as LC_ALL, LC_MESSAGES or LANG say]
    #[arg(long, value_enum)]
    lang: Option<Language>,
    /// Read a copied journal.db, or the folder that it was copied into; a copy of runs.db beside it tells more. Of a service that runs, copy
    /// the files that end with -wal too
    #[arg(long, value_name = "PATH")]
    database: Option<PathBuf>,
}

pub(super) fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    let sources = match &arguments.database {
        Some(path) => Sources::at(path),
        None => Sources { journal: paths.journal(), record: paths.runs() },
    };
    let which = match arguments.run {
        Some(id) => Which::Named(id),
        None if arguments.all => Which::All,
        None => Which::Newest,
    };
    let told = report(&sources, &which)?;
    let language = arguments.lang.unwrap_or_else(|| Language::of_locale(&locale()));
    let text = match arguments.output {
        Form::Html => html::html(&told, language),
        Form::Md => markdown::markdown(&told, language),
        Form::Json => view::json(&told),
    };
    match io::stdout().lock().write_all(format!("{}\n", text.trim_end()).as_bytes()) {
        // Whoever read has read enough, as with `| head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// The first that is set counts.
fn locale() -> String {
    let set = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
    set.into_iter().find(|value| !value.is_empty()).unwrap_or_default()
}
