//! kubeadm's own last words: the errors of discovery and of a join, which name their cause though in riddles.

use std::sync::LazyLock;

use regex::Regex;

use super::kubelet;
use super::sign::{Cause, Sign};

const PLACE: &str = "kubeadm";

static DIAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"dial tcp (\S+:\d+): (?:connect: )?([a-z/ ]+)").expect("the pattern is constant and valid")
});
static HASH: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"none of the public keys "(sha256:[0-9a-f]{64})" are pinned"#)
        .expect("the pattern is constant and valid")
});

/// The cause that kubeadm's error line names; none when it only says that it waited in vain.
pub(super) fn sign(output: &str) -> Option<Sign> {
    let line = error_line(output)?;
    let has = |text: &str| line.contains(text);
    let discovery = has("cluster-info") || has("validate the identity of the API Server");
    let (cause, sentence) = if has("are pinned") {
        let found = HASH.captures(line).map(|found| format!(": it has {}", &found[1])).unwrap_or_default();
        (Cause::WrongCa, format!("the cluster that answers has another CA than the join ticket says{found}"))
    } else if has("could not find a JWS signature") {
        (
            Cause::TokenUnknown,
            "the cluster does not know the join token: it has expired or was deleted".to_owned(),
        )
    } else if has("failed to verify JWS signature") {
        (Cause::TokenSecret, "the join token's secret is not the cluster's".to_owned())
    } else if has("already exists in the cluster") {
        (Cause::AlreadyMember, "the cluster has a node of this name that is Ready already".to_owned())
    } else if has("x509: certificate has expired or is not yet valid") {
        (Cause::ClockWrong, kubelet::clock(line))
    } else if has("proxyconnect tcp") {
        (Cause::Proxied, "kubeadm speaks to the cluster through a proxy".to_owned())
    } else if has("Unauthorized") {
        (
            Cause::Unauthorized,
            "the API server does not accept the join token: it has expired or was deleted".to_owned(),
        )
    } else if let Some(found) = DIAL.captures(line).filter(|_| discovery) {
        let why = found[2].trim();
        (
            Cause::ApiUnreachable,
            format!("the API server at {} cannot be reached from this node: {why}", &found[1]),
        )
    } else if has("certificate signed by unknown authority") {
        (
            Cause::WrongCa,
            "another cluster answers: its certificate is not of the CA that the join ticket holds".into(),
        )
    } else if discovery
        && (has("context deadline exceeded") || has("request canceled") || has("Client.Timeout"))
    {
        (Cause::ApiUnreachable, "the API server cannot be reached from this node: no answer".to_owned())
    } else if has("Abort reading the cluster-info ConfigMap") {
        // 1.20.2 does not say what it waited for in vain; what the watch saw is deeper than this.
        (
            Cause::ApiUnproved,
            "the API server did not show kubeadm a certificate of this cluster's CA in time".into(),
        )
    } else {
        return None;
    };
    Some(Sign::new(cause, sentence, PLACE, line))
}

/// The line in which kubeadm, kubectl or another program says why it ended.
pub(super) fn error_line(output: &str) -> Option<&str> {
    let is_error = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("error")
            || line.starts_with("Error")
            || line.starts_with("The connection to the server")
    };
    output.lines().rev().find(is_error).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &str) -> (Cause, String) {
        let sign = sign(&format!(
            "[preflight] Running pre-flight checks\n{error}\nTo see the stack trace of this error execute with --v=5 or higher\n"
        ));
        let sign = sign.unwrap_or_else(|| panic!("no cause in {error}"));
        (sign.cause, sign.sentence)
    }

    #[test]
    fn discovery_that_fails_is_told_by_its_cause() {
        let prefix = "error execution phase preflight: couldn't validate the identity of the API Server: ";
        let hash = format!("sha256:{}", "5".repeat(64));
        for (text, cause, sentence) in [
            (
                format!("cluster CA found in cluster-info ConfigMap is invalid: none of the public keys \"{hash}\" are pinned"),
                Cause::WrongCa,
                format!("the cluster that answers has another CA than the join ticket says: it has {hash}"),
            ),
            (
                "could not find a JWS signature in the cluster-info ConfigMap for token ID \"z5rppa\"".into(),
                Cause::TokenUnknown,
                "the cluster does not know the join token: it has expired or was deleted".into(),
            ),
            (
                "failed to verify JWS signature of received cluster info object, can't trust this API Server".into(),
                Cause::TokenSecret,
                "the join token's secret is not the cluster's".into(),
            ),
            (
                "Get \"https://10.88.0.11:6444/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s\": dial tcp 10.88.0.11:6444: connect: connection refused".into(),
                Cause::ApiUnreachable,
                "the API server at 10.88.0.11:6444 cannot be reached from this node: connection refused".into(),
            ),
            (
                "Get \"https://10.88.0.11:6443/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s\": dial tcp 10.88.0.11:6443: i/o timeout".into(),
                Cause::ApiUnreachable,
                "the API server at 10.88.0.11:6443 cannot be reached from this node: i/o timeout".into(),
            ),
            (
                "failed to request the cluster-info ConfigMap: Get \"https://10.89.0.99:6443/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s\": dial tcp 10.89.0.99:6443: connect: no route to host".into(),
                Cause::ApiUnreachable,
                "the API server at 10.89.0.99:6443 cannot be reached from this node: no route to host".into(),
            ),
            (
                "Abort reading the cluster-info ConfigMap after timeout of 1m0s".into(),
                Cause::ApiUnproved,
                "the API server did not show kubeadm a certificate of this cluster's CA in time".into(),
            ),
            (
                "Abort reading the cluster-info ConfigMap after timeout of 1m0s: Get \"https://10.88.0.11:6443/api\": x509: certificate signed by unknown authority".into(),
                Cause::WrongCa,
                "another cluster answers: its certificate is not of the CA that the join ticket holds".into(),
            ),
            (
                "Get \"https://10.88.0.11:6443/api\": x509: certificate has expired or is not yet valid: current time 2026-11-22T09:00:00Z is before 2026-11-22T10:00:00Z".into(),
                Cause::ClockWrong,
                "the clock of this node is behind: the cluster's certificate is not yet valid here".into(),
            ),
        ] {
            assert_eq!(told(&format!("{prefix}{text}")), (cause, sentence.clone()));
            // 1.34 and later put one more word in front.
            assert_eq!(told(&format!("error: {prefix}{text}")), (cause, sentence));
        }
    }

    #[test]
    fn a_refused_token_and_a_name_that_is_taken_are_told_apart() {
        let refused = "error execution phase preflight: unable to fetch the kubeadm-config ConfigMap: failed to get config map: Unauthorized";
        assert_eq!(told(refused).0, Cause::Unauthorized);
        let taken = "error execution phase kubelet-start: a Node with name \"w1\" and status \"Ready\" already exists in the cluster. You must delete the existing Node or change the name of this new joining Node";
        assert_eq!(told(taken).0, Cause::AlreadyMember);
    }

    #[test]
    fn an_init_that_only_waited_names_no_cause() {
        for error in [
            "error execution phase wait-control-plane: couldn't initialize a Kubernetes cluster",
            "error: error execution phase wait-control-plane: cannot obtain client without bootstrap: could not bootstrap the admin user in file admin.conf: unable to create ClusterRoleBinding: Post \"https://10.89.0.11:6443/apis/rbac.authorization.k8s.io/v1/clusterrolebindings?timeout=10s\": dial tcp 10.89.0.11:6443: connect: connection refused",
        ] {
            assert_eq!(sign(error), None);
        }
    }
}
