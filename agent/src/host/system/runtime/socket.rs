//! A gRPC connection to a runtime's socket. Nothing is kept: each question opens its own, so that a runtime that was started
//! anew is found again.

use std::path::Path;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// A runtime that starts answers after seconds; one that hangs does not.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// The list of images of a machine with many of them is larger than what tonic takes by itself.
pub(super) const LARGEST: usize = 16 * 1024 * 1024;

/// None when nobody listens there.
pub(super) async fn connect(path: &Path) -> Option<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", path.display())).ok()?;
    endpoint.connect_timeout(LIMIT).timeout(LIMIT).connect().await.ok()
}
