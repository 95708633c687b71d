//! `coordinator bootstrap -f cluster.yaml`: starts the run, or attaches to it, and shows it live. Ctrl-C detaches.

use std::path::PathBuf;

use muster_proto::coordinator::admin_client::AdminClient;
use tonic::transport::Channel;

use super::follow::Words;
use super::preflight::ignorable;
use super::reattach::{Patience, follow_to_the_end};
use super::{Failure, cluster_file};
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
    #[command(flatten)]
    patience: Patience,
}

pub(super) async fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    let mut files = cluster_file::read(&arguments.file)?;
    files.ignored_checks = arguments.ignore_check.iter().map(|check| check.word().to_owned()).collect();
    let ask = async |mut client: AdminClient<Channel>| client.bootstrap(files.clone()).await;
    follow_to_the_end(paths, &arguments.patience, &WORDS, ask).await.map(|_| ())
}
