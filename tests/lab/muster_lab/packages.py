"""The packages of Kubernetes, made like those that its users had at the time, from the built programs: for 1.20 those of
apt.kubernetes.io, from 1.24 on those of pkgs.k8s.io, with Docker's own package of containerd beside them."""

import shutil
import subprocess
from pathlib import Path

from . import components, deb, debian, era, kubernetes
from .state import cached, digest, say

FILES = Path(__file__).parent.parent / "machine"

KUBELET_SERVICE = """\
[Unit]
Description=kubelet: The Kubernetes Node Agent
Documentation=https://kubernetes.io/docs/home/
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10

[Install]
WantedBy=multi-user.target
"""

KUBEADM_DROP_IN = """\
# Note: This dropin only works with kubeadm and kubelet v1.11+
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
# This is a file that "kubeadm init" and "kubeadm join" generates at runtime, populating the KUBELET_KUBEADM_ARGS variable dynamically
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
# This is a file that the user can use for overrides of the kubelet args as a last resort. Preferably, the user should use
# the .NodeRegistration.KubeletExtraArgs object in the configuration files instead. KUBELET_EXTRA_ARGS should be sourced from this file.
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""

ENABLE_KUBELET = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
	systemctl enable kubelet.service >/dev/null 2>&1 || true
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		systemctl restart kubelet.service || true
	fi
fi
"""

RELOAD = """\
#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
"""

START_CONTAINERD = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
	systemctl enable containerd.service >/dev/null 2>&1 || true
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		systemctl restart containerd.service || true
	fi
fi
"""

STOP_KUBELET = """\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	systemctl stop kubelet.service || true
	systemctl disable kubelet.service >/dev/null 2>&1 || true
fi
"""



def repository(made):
    """A directory with the packages of an era and their index: an apt repository."""
    build = _build_as_in_2021 if made == era.MANUAL else _build
    return cached(f"debs-{made.kubernetes}", key(made), lambda out: build(out, made))


def key(made):
    parts = [components.CRICTL.key(), components.CONTAINERD.key()] if made != era.MANUAL else []
    return digest(kubernetes.key(made), vars(made), Path(__file__), Path(deb.__file__), *parts,
                  *sorted(FILES.glob("containerd*")))


def _build_as_in_2021(out, made):
    """cri-tools, on which kubeadm's package depended too, is left out: with Docker kubeadm does not call it."""
    programs = kubernetes.programs(made)
    revision, cni_revision = f"{made.kubernetes}-00", "0.8.7-00"
    say(f"making the packages of Kubernetes {made.kubernetes}")
    work = out / "work"
    deb.package(out, work, "kubernetes-cni", cni_revision, "Kubernetes CNI", "",
                files={f"opt/cni/bin/{p.name}": p for p in _cni_plugins(work, made)})
    deb.package(out, work, "kubectl", revision, "Kubernetes Command Line Tool", "",
                files={"usr/bin/kubectl": programs / "kubectl"})
    deb.package(out, work, "kubelet", revision, "Kubernetes Node Agent",
                f"iptables (>= 1.4.21), kubernetes-cni (>= {cni_revision.split('-')[0]}), iproute2, socat, util-linux, mount, "
                "ebtables, ethtool, conntrack",
                files={"usr/bin/kubelet": programs / "kubelet", "lib/systemd/system/kubelet.service": KUBELET_SERVICE,
                       "etc/default/kubelet": "KUBELET_EXTRA_ARGS=\n"},
                scripts={"postinst": ENABLE_KUBELET, "prerm": STOP_KUBELET, "conffiles": "/etc/default/kubelet\n"})
    deb.package(out, work, "kubeadm", revision, "Kubernetes Cluster Bootstrapping Tool",
                "kubelet (>= 1.13.0), kubectl (>= 1.13.0), kubernetes-cni (>= 0.8.7)",
                files={"usr/bin/kubeadm": programs / "kubeadm",
                       "etc/systemd/system/kubelet.service.d/10-kubeadm.conf": KUBEADM_DROP_IN},
                scripts={"conffiles": "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf\n"})
    shutil.rmtree(work)
    deb.index(out)


def _build(out, made):
    """The kubelet is neither enabled nor started: whoever follows kubeadm's guide is told to do that, and may forget."""
    programs = kubernetes.programs(made)
    revision = f"{made.kubernetes}-1.1"
    say(f"making the packages of Kubernetes {made.kubernetes}")
    work = out / "work"
    deb.package(out, work, "kubernetes-cni", "1.8.0-1.1", "Container Network Interface plugins", "",
                files={f"opt/cni/bin/{p.name}": p for p in _cni_plugins(work, made)})
    deb.package(out, work, "cri-tools", f"{components.CRICTL_VERSION}-1.1", "Command-line utility for interacting with a container runtime",
                "", files={"usr/bin/crictl": components.CRICTL.built() / "crictl"})
    deb.package(out, work, "kubectl", revision, "Command-line utility for interacting with a Kubernetes cluster", "",
                files={"usr/bin/kubectl": programs / "kubectl"})
    deb.package(out, work, "kubelet", revision, "Node agent for Kubernetes clusters",
                "conntrack, ethtool, iproute2, iptables (>= 1.4.21), kubernetes-cni (>= 1.2.0), mount, util-linux",
                files={"usr/bin/kubelet": programs / "kubelet", "usr/lib/systemd/system/kubelet.service": KUBELET_SERVICE,
                       "etc/default/kubelet": "KUBELET_EXTRA_ARGS=\n", "etc/kubernetes/manifests/.kubelet-keep": "",
                       "var/lib/kubelet/.kubelet-keep": ""},
                scripts={"postinst": RELOAD, "prerm": STOP_KUBELET, "conffiles": "/etc/default/kubelet\n"})
    deb.package(out, work, "kubeadm", revision, "Command-line utility for administering a Kubernetes cluster",
                "cri-tools (>= 1.24.0)",
                files={"usr/bin/kubeadm": programs / "kubeadm",
                       "usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf": KUBEADM_DROP_IN},
                scripts={"postinst": RELOAD})
    if made.runtime == "containerd.io":
        built = components.CONTAINERD.built()
        deb.package(out, work, "containerd.io", f"{components.CONTAINERD_VERSION}-1~debian.13~trixie",
                    "An open and reliable container runtime", "runc",
                    files={**{f"usr/bin/{p.name}": p for p in sorted(built.iterdir())},
                           "usr/lib/systemd/system/containerd.service": (FILES / "containerd.service").read_text(),
                           "etc/containerd/config.toml": (FILES / "containerd.toml").read_text()},
                    scripts={"postinst": START_CONTAINERD, "conffiles": "/etc/containerd/config.toml\n"},
                    more=["Provides: containerd", "Conflicts: containerd", "Replaces: containerd"])
    shutil.rmtree(work)
    deb.index(out)


def _cni_plugins(work, made):
    """The CNI plugins, taken from Debian's package; the Kubernetes project's package puts the same ones elsewhere."""
    work.mkdir()
    environment = debian.private_apt(made.debian)
    subprocess.run(["apt-get", "-qq", "update"], env=environment, check=True)
    subprocess.run(["apt-get", "-qq", "download", "containernetworking-plugins"], cwd=work, env=environment, check=True)
    [package] = work.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, work / "cni"], check=True)
    return sorted((work / "cni/usr/lib/cni").iterdir())
