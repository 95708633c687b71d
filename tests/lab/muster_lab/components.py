"""What is built from Go modules, one entry for each folder of ../modules."""

from .modules import Module

# The Go that each version of Kubernetes was released with, or the last of the same minor version. A 1.24 built with today's
# refuses its own preflight: the parser of URLs has become stricter.
GO = {"1.36.3": "1.26.8"}
KUBERNETES = ["kubeadm", "kubelet", "kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"]
CONTAINERD_VERSION, CRICTL_VERSION, FLANNEL_VERSION = "2.4.2", "1.37.0", "0.28.9"

ETCD = Module("etcd-3.6.13", "1.26.8", {"go.etcd.io/etcd/server/v3": "etcd"})
# By the version of Kubernetes that names it: newer ones than 1.7.0 ask 1.20's API server for what its kubeadm does not let them see.
COREDNS = {version: Module(f"coredns-{own}", go, {"github.com/coredns/coredns": "coredns"})
           for version, own, go in [("1.20.2", "1.7.0", "1.19.13"), ("1.36.3", "1.14.2", "1.26.8")]}
CRICTL = Module(f"crictl-{CRICTL_VERSION}", "1.26.8", {"sigs.k8s.io/cri-tools/cmd/crictl": "crictl"},
                {"sigs.k8s.io/cri-tools/pkg/version.Version": f"v{CRICTL_VERSION}"})
CONTAINERD = Module(
    f"containerd-{CONTAINERD_VERSION}", "1.26.8",
    {f"github.com/containerd/containerd/v2/cmd/{name}": name for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
    {"github.com/containerd/containerd/v2/version.Version": f"v{CONTAINERD_VERSION}"})
FLANNEL = Module(
    f"flannel-{FLANNEL_VERSION}", "1.26.8",
    {"github.com/flannel-io/flannel": "flanneld", "github.com/flannel-io/flannel/cmd/install_conf": "install-conf"},
    {"github.com/flannel-io/flannel/pkg/version.Version": f"v{FLANNEL_VERSION}"},
    c=True, emptied=("github.com/flannel-io/flannel/pkg/backend/tencentvpc",),
    files={"github.com/flannel-io/flannel//Documentation/kube-flannel.yml": "kube-flannel.yml"})
# The last version of the plugins that has flannel's; its own module is not to be had.
FLANNEL_PLUGIN = Module("flannel-cni-plugin-0.9.1", "1.26.8",
                        {"github.com/containernetworking/plugins/plugins/meta/flannel": "flannel"})


def kubernetes(version):
    """The seven programs of a version."""
    major, minor, _ = version.split(".")
    stamps = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean",
              "gitCommit": "0" * 40, "buildDate": "1970-01-01T00:00:00Z"}
    return Module(f"kubernetes-{version}", GO[version], {f"k8s.io/kubernetes/cmd/{name}": name for name in KUBERNETES},
                  {f"{package}.{name}": value for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
                   for name, value in stamps.items()})
