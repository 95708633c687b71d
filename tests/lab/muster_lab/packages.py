"""The packages kubelet, kubeadm, kubectl and kubernetes-cni, made like those of 1.20's time, from the built programs."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from . import debian, kubernetes
from .state import cached, digest, say

REVISION = f"{kubernetes.VERSION}-00"
CNI_REVISION = "0.8.7-00"

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

STOP_KUBELET = """\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	systemctl stop kubelet.service || true
	systemctl disable kubelet.service >/dev/null 2>&1 || true
fi
"""


def repository():
    """A directory with the packages and their index: an apt repository."""
    return cached("packages", digest(kubernetes.key(), Path(__file__)), _build)


def _build(out):
    """cri-tools, on which kubeadm's package depended too, is not in Debian; with Docker kubeadm does not call it."""
    programs = kubernetes.programs()
    say("making the Kubernetes packages")
    work = out / "work"
    _package(out, work, "kubernetes-cni", CNI_REVISION, "Kubernetes CNI", "",
             files={f"opt/cni/bin/{p.name}": p for p in _cni_plugins(work)})
    _package(out, work, "kubectl", REVISION, "Kubernetes Command Line Tool", "",
             files={"usr/bin/kubectl": programs / "kubectl"})
    _package(out, work, "kubelet", REVISION, "Kubernetes Node Agent",
             f"iptables (>= 1.4.21), kubernetes-cni (>= {CNI_REVISION.split('-')[0]}), iproute2, socat, util-linux, mount, "
             "ebtables, ethtool, conntrack",
             files={"usr/bin/kubelet": programs / "kubelet", "lib/systemd/system/kubelet.service": KUBELET_SERVICE,
                    "etc/default/kubelet": "KUBELET_EXTRA_ARGS=\n"},
             scripts={"postinst": ENABLE_KUBELET, "prerm": STOP_KUBELET, "conffiles": "/etc/default/kubelet\n"})
    _package(out, work, "kubeadm", REVISION, "Kubernetes Cluster Bootstrapping Tool",
             "kubelet (>= 1.13.0), kubectl (>= 1.13.0), kubernetes-cni (>= 0.8.7)",
             files={"usr/bin/kubeadm": programs / "kubeadm",
                    "etc/systemd/system/kubelet.service.d/10-kubeadm.conf": KUBEADM_DROP_IN},
             scripts={"conffiles": "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf\n"})
    shutil.rmtree(work)
    index = subprocess.run(["dpkg-scanpackages", "-m", "."], cwd=out, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           check=True).stdout
    (out / "Packages").write_bytes(index)
    (out / "Release").write_text(f"Suite: lab\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} Packages\n")


def _cni_plugins(work):
    """The CNI plugins, taken from Debian's package; the Kubernetes project's package puts the same ones elsewhere."""
    work.mkdir()
    environment = debian.private_apt()
    subprocess.run(["apt-get", "-qq", "update"], env=environment, check=True)
    subprocess.run(["apt-get", "-qq", "download", "containernetworking-plugins"], cwd=work, env=environment, check=True)
    [deb] = work.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", deb, work / "cni"], check=True)
    return sorted((work / "cni/usr/lib/cni").iterdir())


def _package(out, work, name, version, summary, depends, files, scripts=None):
    """One binary package. A file's content is a text or the path of a program to copy."""
    tree = work / name
    architecture = subprocess.run(["dpkg", "--print-architecture"], stdout=subprocess.PIPE, text=True,
                                  check=True).stdout.strip()
    control = [f"Package: {name}", f"Version: {version}", f"Architecture: {architecture}",
               "Maintainer: The lab of Muster <root@localhost>", "Section: misc", "Priority: optional",
               f"Description: {summary}", " Built by the lab of Muster from Debian's source package."]
    if depends:
        control.insert(3, f"Depends: {depends}")
    for path, content in {"DEBIAN/control": "\n".join(control) + "\n", **files}.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copy(content, target)
            target.chmod(0o755)
        else:
            target.write_text(content)
            target.chmod(0o644)
    for script, content in (scripts or {}).items():
        (tree / "DEBIAN" / script).write_text(content)
        (tree / "DEBIAN" / script).chmod(0o644 if script == "conffiles" else 0o755)
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", tree, out], check=True,
                   stdout=subprocess.DEVNULL)
