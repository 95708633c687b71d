//! The kubelet's certificate for the API server: a link that the kubelet leads to its newest one, in a folder that is root's.

use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::host::HostError;

/// Larger than any certificate with its key, and than a chain of them.
const ENOUGH: u64 = 64 << 10;

/// False where there is no file, or a link to none.
pub(super) async fn is_there(path: PathBuf) -> Result<bool, HostError> {
    let named = path.clone();
    let read = tokio::task::spawn_blocking(move || read(&named)).await;
    let read = read.map_err(|error| HostError::Unexpected {
        what: path.display().to_string(),
        message: error.to_string(),
    })?;
    match read {
        Ok(content) => Ok(is_whole(&content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(HostError::File { action: "reading it", path, source }),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    // A pipe in its place would be waited for.
    if std::fs::metadata(path)?.is_file() {
        std::fs::File::open(path)?.take(ENOUGH).read_to_end(&mut content)?;
    }
    Ok(content)
}

/// A loss of power leaves files empty or cut short.
pub(in crate::host) fn is_whole(content: &[u8]) -> bool {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(content).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::fake::CA_CERTIFICATE;

    #[tokio::test]
    async fn the_kubelets_link_is_followed_and_a_file_that_is_empty_or_cut_short_is_no_certificate() {
        let place = tempfile::tempdir().unwrap();
        let (newest, link) = (place.path().join("kubelet-client-2026.pem"), place.path().join("current.pem"));
        let there = |path: &Path| is_there(path.to_owned());
        assert!(!there(&link).await.unwrap());
        symlink(&newest, &link).unwrap();
        assert!(!there(&link).await.unwrap(), "a link to nothing");
        for (content, whole) in [("", false), (CA_CERTIFICATE, true), (&CA_CERTIFICATE[..300], false)] {
            std::fs::write(&newest, content).unwrap();
            assert_eq!(there(&link).await.unwrap(), whole, "{content:?}");
        }
        assert!(!there(place.path()).await.unwrap(), "a folder");
    }
}
