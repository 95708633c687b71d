//! Every path that kubeadm and the kubelet make or leave on a node, each once
//! (kubernetes 1.13 to 1.36: cmd/kubeadm/app/constants/constants.go, cmd/kubeadm/app/cmd/phases/reset).

pub const FOLDER: &str = "/etc/kubernetes";
/// With it kubectl and kubeadm act as administrator.
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
/// From 1.29 on beside it; no rule of the cluster can take its rights away.
pub const SUPER_ADMIN_CONF: &str = "/etc/kubernetes/super-admin.conf";
pub const CONTROLLER_MANAGER_CONF: &str = "/etc/kubernetes/controller-manager.conf";
pub const SCHEDULER_CONF: &str = "/etc/kubernetes/scheduler.conf";
/// The kubelet's identity; a node that has it is a member of a cluster.
pub const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";
/// Holds the token while a join runs; kubeadm removes it at its end.
pub const BOOTSTRAP_CONF: &str = "/etc/kubernetes/bootstrap-kubelet.conf";

/// Static pods.
pub const MANIFESTS: &str = "/etc/kubernetes/manifests";
pub const ETCD_MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";
pub const API_SERVER_MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
pub const CONTROLLER_MANAGER_MANIFEST: &str = "/etc/kubernetes/manifests/kube-controller-manager.yaml";
pub const SCHEDULER_MANIFEST: &str = "/etc/kubernetes/manifests/kube-scheduler.yaml";

pub const PKI: &str = "/etc/kubernetes/pki";
/// On every node; its key on control planes only.
pub const CA_CERTIFICATE: &str = "/etc/kubernetes/pki/ca.crt";

pub const KUBELET_FOLDER: &str = "/var/lib/kubelet";
/// The KubeletConfiguration.
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// `KUBELET_KUBEADM_ARGS="..."`.
pub const KUBELET_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
/// From 1.34 on the socket of the node's runtime, which stood among the flags before.
pub const INSTANCE_CONFIG: &str = "/var/lib/kubelet/instance-config.yaml";

pub const ETCD_FOLDER: &str = "/var/lib/etcd";
/// etcd's data: what a member of etcd cannot do without.
pub const ETCD_MEMBER: &str = "/var/lib/etcd/member";

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A control plane that is complete has it, in every version.
    ControlPlane,
    /// A control plane may have it, by its version.
    ControlPlaneOfSome,
    /// Every member has it.
    Member,
    /// A member may have it, by its version or while it joins.
    MemberOfSome,
}

/// A file or folder that a reset has to take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    pub path: &'static str,
    /// A folder that stays, empty.
    pub folder: bool,
    pub part: Part,
    /// Its content may go nowhere.
    pub secret: bool,
}

const fn file(path: &'static str, part: Part, secret: bool) -> Made {
    Made { path, folder: false, part, secret }
}

const fn folder(path: &'static str, part: Part) -> Made {
    Made { path, folder: true, part, secret: true }
}

/// All of them; etcd's data apart, which kubeadm removes only under conditions.
pub const MADE: [Made; 16] = [
    file(CA_CERTIFICATE, Part::Member, false),
    file(ADMIN_CONF, Part::ControlPlane, true),
    file(SUPER_ADMIN_CONF, Part::ControlPlaneOfSome, true),
    file(KUBELET_CONF, Part::Member, true),
    file(BOOTSTRAP_CONF, Part::MemberOfSome, true),
    file(CONTROLLER_MANAGER_CONF, Part::ControlPlane, true),
    file(SCHEDULER_CONF, Part::ControlPlane, true),
    file(ETCD_MANIFEST, Part::ControlPlane, false),
    file(API_SERVER_MANIFEST, Part::ControlPlane, false),
    file(CONTROLLER_MANAGER_MANIFEST, Part::ControlPlane, false),
    file(SCHEDULER_MANIFEST, Part::ControlPlane, false),
    file(KUBELET_CONFIG, Part::Member, false),
    file(KUBELET_FLAGS, Part::Member, false),
    file(INSTANCE_CONFIG, Part::MemberOfSome, false),
    folder(MANIFESTS, Part::MemberOfSome),
    folder(PKI, Part::Member),
];

/// The files below /etc/kubernetes that a complete `kubeadm init` of every version leaves.
pub fn of_a_control_plane() -> impl Iterator<Item = &'static str> {
    let complete = |made: &&Made| {
        !made.folder
            && made.path.starts_with(FOLDER)
            && matches!(made.part, Part::ControlPlane | Part::Member)
    };
    MADE.iter().filter(complete).map(|made| made.path)
}

/// The files that are left when a reset was not done or not to its end, those inside of `folders_to_empty` apart.
pub fn files_to_remove() -> impl Iterator<Item = &'static str> {
    let inside = |path: &str| folders_to_empty().any(|folder| is_below(path, folder));
    MADE.iter().filter(move |made| !made.folder && !inside(made.path)).map(|made| made.path)
}

/// The folders that are empty when a reset is done.
pub fn folders_to_empty() -> impl Iterator<Item = &'static str> {
    MADE.iter().filter(|made| made.folder).map(|made| made.path)
}

/// Whether kubeadm removes this path by itself.
pub fn is_kubeadms(path: &str) -> bool {
    [FOLDER, KUBELET_FOLDER].into_iter().any(|folder| path == folder || is_below(path, folder))
}

/// Whether what stands at this path may go nowhere: keys and tokens, also in files that kubeadm makes beside the known ones.
pub fn is_secret(path: &str) -> bool {
    let known = MADE.iter().find(|made| !made.folder && made.path == path);
    known.map_or_else(|| is_below(path, FOLDER), |made| made.secret)
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_is_complete_with_nine_files_and_what_only_some_versions_make_is_no_condition() {
        let files: Vec<&str> = of_a_control_plane().collect();
        assert_eq!(files.len(), 9);
        assert!(!files.contains(&SUPER_ADMIN_CONF) && !files.contains(&BOOTSTRAP_CONF));
    }

    #[test]
    fn what_a_reset_has_to_take_away_is_named_once() {
        let files: Vec<&str> = files_to_remove().collect();
        assert!(files.contains(&SUPER_ADMIN_CONF) && files.contains(&INSTANCE_CONFIG));
        assert!(!files.contains(&CA_CERTIFICATE) && !files.contains(&ETCD_MANIFEST), "in a folder");
        assert_eq!(folders_to_empty().collect::<Vec<_>>(), [MANIFESTS, PKI]);
    }

    #[test]
    fn keys_are_secret_and_files_that_only_begin_alike_are_not_kubeadms() {
        assert!(is_secret(SUPER_ADMIN_CONF) && is_secret("/etc/kubernetes/pki/ca.key"));
        assert!(!is_secret(KUBELET_CONFIG) && !is_secret("/etc/hosts"));
        assert!(is_kubeadms(INSTANCE_CONFIG) && !is_kubeadms("/etc/kubernetes-old/x"));
    }
}
