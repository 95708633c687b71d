//! Reading cluster.yaml and what it names, as the user who called the command and with that user's rights.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use muster_proto::coordinator::ClusterFiles;
use muster_proto::transport::MESSAGE_LIMIT;

use crate::spec::referenced_files;

#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{path} cannot be read")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is larger than {limit} MiB, which no manifest is", limit = MESSAGE_LIMIT / 2 / 1024 / 1024)]
    TooLarge { path: PathBuf },
}

/// The file and the files that it names, by the paths as they stand in it; relative ones are relative to the file.
/// A named file that is not there is left out: the coordinator says so with its line.
pub(super) fn read(path: &Path) -> Result<ClusterFiles, FileError> {
    let spec = text(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut files = BTreeMap::new();
    for name in referenced_files(&spec) {
        match text(&folder.join(&name)) {
            Ok(content) => {
                files.insert(name, content);
            }
            Err(FileError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ClusterFiles { spec, spec_path: path.display().to_string(), files, ignored_checks: Vec::new() })
}

fn text(path: &Path) -> Result<String, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > (MESSAGE_LIMIT / 2) as u64 {
        return Err(FileError::TooLarge { path: path.to_owned() });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares its own folder")]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_ten_megabytes_is_refused_by_its_size_and_so_is_a_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let (spec, manifest) = (folder.path().join("cluster.yaml"), folder.path().join("network.yaml"));
        std::fs::write(&manifest, vec![b'a'; 10_000_000]).unwrap();
        assert!(matches!(read(&manifest), Err(FileError::TooLarge { .. })));
        let text = "apiVersion: muster/v1\nkind: Cluster\nmetadata: {name: lab}\nspec:\n  kubernetesVersion: v1.20.2\n  nodes:\n    \
                    - {name: m1, role: control-plane}\n  networking: {podSubnet: 10.244.0.0/16, manifest: network.yaml}\n";
        std::fs::write(&spec, text).unwrap();
        assert!(matches!(read(&spec), Err(FileError::TooLarge { .. })));
    }
}
