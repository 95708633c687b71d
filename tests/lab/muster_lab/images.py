"""The container images, made without a registry: one archive that `docker load` takes, under the names kubeadm asks for.

All images share one Debian layer; each program is a thin layer on top.
"""

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from . import debian, kubernetes
from .state import cached, digest, say

PAUSE_C = Path(__file__).parent.parent / "machine" / "pause.c"
PACKAGES = ["ca-certificates", "conntrack", "etcd-server", "iproute2", "iptables", "ipset", "kmod", "nginx-light"]
POD_NETWORK = "muster-lab/pod-network:1"

# nginx as its own image configures it: port 80, its welcome page, logs where `kubectl logs` finds them.
NGINX_SITE = """\
server {
	listen 80;
	root /usr/share/nginx/html;
	access_log /dev/stdout;
	error_log /dev/stderr;
}
"""


def archive():
    """The path of the archive with all images."""
    return cached("images", digest(kubernetes.key(), Path(__file__), PAUSE_C), _build) / "images.tar"


def _build(out):
    programs = kubernetes.programs()
    say("making the container images")
    debian.bootstrap(out / "debian.tar", "essential", PACKAGES, slim=True)
    subprocess.run(["gcc", "-static", "-Os", "-o", out / "pause", PAUSE_C], check=True)
    with tarfile.open(out / "images.tar", "w") as tar:
        archive_file = _Archive(tar, out)
        base = archive_file.layer_of(out / "debian.tar")
        for program in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"):
            layer = archive_file.layer({f"usr/local/bin/{program}": programs / program})
            archive_file.image(f"k8s.gcr.io/{program}:v{kubernetes.VERSION}", [base, layer])
        kubectl = archive_file.layer({"usr/local/bin/kubectl": programs / "kubectl"})
        archive_file.image(POD_NETWORK, [base, kubectl])
        archive_file.image("k8s.gcr.io/etcd:3.4.13-0", [base])
        site = archive_file.layer({"etc/nginx/sites-available/default": NGINX_SITE})
        archive_file.image("nginx:1.22", [base, site], Cmd=["nginx", "-g", "daemon off;"], StopSignal="SIGQUIT",
                           ExposedPorts={"80/tcp": {}})
        pause = archive_file.layer({"pause": out / "pause"})
        archive_file.image("k8s.gcr.io/pause:3.2", [pause], Entrypoint=["/pause"])
        # CoreDNS is not in Debian. kubeadm 1.20 demands its image even when told to skip the add-on: this one idles.
        archive_file.image("k8s.gcr.io/coredns:1.7.0", [pause], Entrypoint=["/pause"])
        archive_file.finish()
    (out / "debian.tar").unlink()
    (out / "pause").unlink()


class _Archive:
    """The format of `docker save`: layers, one configuration per image, and a manifest that ties them to names."""

    def __init__(self, tar, scratch):
        self.tar, self.scratch, self.manifest, self.layers = tar, scratch, [], {}

    def layer_of(self, path):
        """Add a file system archive as a layer and return the layer's identity, the digest of its bytes."""
        with open(path, "rb") as file:
            identity = hashlib.file_digest(file, "sha256").hexdigest()
        if identity not in self.layers:
            self.layers[identity] = f"{identity}/layer.tar"
            self.tar.add(path, self.layers[identity])
        return identity

    def layer(self, files):
        """Add a layer of root's files, all executable; a content is a text or the path of a program."""
        path = self.scratch / "layer.tar"
        with tarfile.open(path, "w") as tar:
            for name, content in files.items():
                data = content.read_bytes() if isinstance(content, Path) else content.encode()
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(data), 0o755
                tar.addfile(member, io.BytesIO(data))
        identity = self.layer_of(path)
        path.unlink()
        return identity

    def image(self, name, layers, **config):
        """Add an image of these layers under a name; `config` is what a Dockerfile's CMD, ENTRYPOINT, ... would set."""
        text = json.dumps({
            "architecture": "amd64", "os": "linux", "created": "2021-01-13T00:00:00Z",
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], **config},
            # The name is in it so that every name is an image of its own, as in real life, even where contents agree.
            "comment": name,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}" for layer in layers]},
        }).encode()
        file = hashlib.sha256(text).hexdigest() + ".json"
        self._add(file, text)
        self.manifest.append({"Config": file, "RepoTags": [name], "Layers": [self.layers[layer] for layer in layers]})

    def finish(self):
        self._add("manifest.json", json.dumps(self.manifest).encode())

    def _add(self, name, data):
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self.tar.addfile(member, io.BytesIO(data))
