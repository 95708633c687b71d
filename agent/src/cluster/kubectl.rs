//! The one use that Muster makes of the node's own kubectl, which has the right version by construction: applying.

use muster_proto::kubernetes::files::ADMIN_CONF;
use std::time::Duration;

use crate::host::change::{Change, Program, ProgramName};

const LIMIT: Duration = Duration::from_secs(120);

/// `kubectl apply` of a manifest, given on standard input. The cache lies where a reboot removes it: kubectl would put it
/// below the home of root, or below / in a unit that has no home.
pub fn apply(manifest: impl Into<String>) -> Change {
    let arguments =
        ["apply", "--kubeconfig", ADMIN_CONF, "--cache-dir=/run/muster-agent/kubectl", "--filename", "-"];
    Change::Run(Program::new(ProgramName::Kubectl, arguments, LIMIT).with_input(manifest))
}
