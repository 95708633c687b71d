//! kubeadm, kubectl, kubelet, Docker and the beginning of a machine, by the name that it is called by.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster_proto::transport::install_cryptography();
    muster_faults::stand_in::run()
}
