//! What kubeadm join reads: its configuration, which holds the token, and the server with its CA certificate.

use base64::prelude::{BASE64_STANDARD, Engine};
use secrecy::ExposeSecret;
use serde_json::json;

use super::KubeadmJoin;
use crate::cluster::kubeadm::{Dialect, Registration, file_of};
use crate::cluster::ticket::{DISCOVERY_FILE, PinnedCa, Ticket};

/// Whoever made the ticket has just spoken to the API server, so that this is time to open a firewall; kubeadm would wait 5
/// minutes.
const DISCOVERY: &str = "2m0s";

impl KubeadmJoin {
    /// A kubeconfig in the form of the one in cluster-info: one cluster without a name, no user and no context.
    pub(super) fn discovery(&self, ca: &PinnedCa) -> String {
        let cluster = json!({
            "certificate-authority-data": BASE64_STANDARD.encode(ca.pem()),
            "server": format!("https://{}", self.endpoint),
        });
        file_of(&[json!({
            "apiVersion": "v1",
            "clusters": [{"cluster": cluster, "name": ""}],
            "contexts": [],
            "current-context": "",
            "kind": "Config",
            "preferences": {},
            "users": [],
        })])
    }

    /// The configuration; holds the token. All versions from v1beta1 (kubeadm 1.13) on read these fields.
    pub(super) fn render(&self, kubeadm: Dialect, on_cgroup_v1: bool, ticket: &Ticket) -> String {
        let registration = Registration {
            name: &self.node,
            address: self.address,
            runtime: self.runtime,
            cgroup_v1: self.cgroup_v1 && on_cgroup_v1,
        };
        let mut fields = json!({
            "discovery": {
                "file": {"kubeConfigPath": DISCOVERY_FILE},
                "tlsBootstrapToken": ticket.token.expose_secret(),
            },
            "nodeRegistration": kubeadm.node_registration(&registration),
        });
        if kubeadm.release().config_api.has_timeouts() {
            fields["timeouts"] = json!({"discovery": DISCOVERY});
        } else {
            fields["discovery"]["timeout"] = json!(DISCOVERY);
        }
        file_of(&[kubeadm.document("JoinConfiguration", fields)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ticket;
    use super::*;
    use crate::cluster::membership::Membership;
    use crate::host::fake::CA_HASH;
    use crate::steps::rehearsal::join_of_w1;

    #[test]
    fn the_discovery_time_out_stands_where_each_version_looks_for_it() {
        let join = KubeadmJoin::parse(&join_of_w1()).unwrap();
        let file = |kubeadm: &str| {
            let kubeadm = Dialect::of(kubeadm.parse().unwrap()).unwrap();
            serde_saphyr::from_str::<serde_json::Value>(&join.render(kubeadm, true, &ticket())).unwrap()
        };
        let (old, new) = (file("v1.20.2"), file("v1.36.3"));
        assert_eq!(old["discovery"]["timeout"], "2m0s");
        assert_eq!((&new["timeouts"]["discovery"], new["discovery"].get("timeout")), (&json!("2m0s"), None));
        assert_eq!(new["nodeRegistration"]["kubeletExtraArgs"][1]["value"], "10.88.0.12");
    }

    #[test]
    fn the_configuration_is_the_one_that_kubeadm_1_20_2_was_seen_to_read() {
        // Given to `kubeadm config migrate` of 1.20.2, which read every field, and to its `join phase preflight`, which
        // found the API server by the file and went on with the token.
        let join = KubeadmJoin::parse(&join_of_w1()).unwrap();
        let expected = r#"{
  "apiVersion": "kubeadm.k8s.io/v1beta2",
  "discovery": {
    "file": {
      "kubeConfigPath": "/run/muster-agent/join-discovery.conf"
    },
    "timeout": "2m0s",
    "tlsBootstrapToken": "bynk2r.ds9fu7perja4osn8"
  },
  "kind": "JoinConfiguration",
  "nodeRegistration": {
    "criSocket": "/var/run/dockershim.sock",
    "kubeletExtraArgs": {
      "hostname-override": "w1",
      "node-ip": "10.88.0.12"
    },
    "name": "w1"
  }
}
"#;
        let kubeadm = Dialect::of("v1.20.2".parse().unwrap()).unwrap();
        assert_eq!(join.render(kubeadm, true, &ticket()), expected);
        let discovery = join.discovery(ticket().ca.as_ref().unwrap());
        let membership = Membership::read(&discovery).unwrap();
        assert_eq!(membership.server, "https://10.88.0.11:6443");
        assert_eq!(membership.ca_hashes, [CA_HASH.parse().unwrap()]);
        assert!(!discovery.contains("bynk2r"), "{discovery}");
    }
}
