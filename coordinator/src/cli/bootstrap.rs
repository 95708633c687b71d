//! `coordinator bootstrap -f cluster.yaml`: starts the run, or attaches to it, and shows it live. Ctrl-C detaches.

use std::path::PathBuf;

use super::follow::{Words, follow};
use super::preflight::ignorable;
use super::{ClientError, Failure, admin, cluster_file};
use crate::preflight::Check;
use crate::settings::Paths;

const WORDS: Words =
    Words { nothing: "nothing to do: the cluster is as the file says", name: "the bootstrap" };

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The cluster that is wanted
    #[arg(short, long, value_name = "FILE", default_value = "cluster.yaml")]
    file: PathBuf,
    /// Begin although this check complains (see `coordinator preflight`); may be given several times. `steps` stands for
    /// what a step says, such as packages or images
    #[arg(long, value_name = "CHECK", value_parser = ignorable())]
    ignore_check: Vec<Check>,
}

pub(super) async fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    let mut files = cluster_file::read(&arguments.file)?;
    files.ignored_checks = arguments.ignore_check.iter().map(|check| check.word().to_owned()).collect();
    let mut client = admin(paths).await?;
    let stream = client.bootstrap(files).await.map_err(ClientError::from)?.into_inner();
    follow(stream, &WORDS).await.map(|_| ())
}
