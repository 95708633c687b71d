"""The container images, made without a registry: one archive in the format of `docker save`, under the names kubeadm asks for.

The images that need more than one static program share one Debian layer; each program is a thin layer on top.
"""

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from . import components, debian, era, kubernetes
from .state import cached, digest, say

PAUSE_C = Path(__file__).parent.parent / "machine" / "pause.c"
PACKAGES = ["ca-certificates", "conntrack", "iproute2", "iptables", "ipset", "kmod", "nginx-light"]
PACKAGES_OF_1_20 = ["etcd-server"]
NGINX = "nginx:1.22"

# nginx as its own image configures it: port 80, its welcome page, logs where `kubectl logs` finds them.
NGINX_SITE = """\
server {
	listen 80;
	root /usr/share/nginx/html;
	access_log /dev/stdout;
	error_log /dev/stderr;
}
"""


def archive(made):
    """The path of the archive with all images of an era."""
    return cached(f"archive-{made.kubernetes}", key(made), lambda out: _build(out, made)) / "images.tar"


def key(made):
    parts = [components.FLANNEL.key(), components.FLANNEL_PLUGIN.key(), components.COREDNS[made.kubernetes].key()]
    if made != era.MANUAL:
        parts.append(components.ETCD.key())
    return digest(kubernetes.key(made), vars(made), Path(__file__), PAUSE_C, *parts)


def names(made):
    """What kubeadm itself says it wants, by the last part of the name."""
    said = subprocess.run([kubernetes.programs(made) / "kubeadm", "config", "images", "list", "--kubernetes-version",
                           f"v{made.kubernetes}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return {name.rsplit("/", 1)[1].split(":")[0]: name for name in said.stdout.split()}


def _build(out, made):
    programs, name = kubernetes.programs(made), names(made)
    manual = made == era.MANUAL
    flannel, plugin = components.FLANNEL.built(), components.FLANNEL_PLUGIN.built()
    coredns = components.COREDNS[made.kubernetes].built()
    say(f"making the container images of Kubernetes {made.kubernetes}")
    debian.bootstrap(out / "debian.tar", made.debian, "essential", PACKAGES + (PACKAGES_OF_1_20 if manual else []), slim=True)
    subprocess.run(["gcc", "-static", "-Os", "-o", out / "pause", PAUSE_C], check=True)
    with tarfile.open(out / "images.tar", "w") as tar:
        archive_file = _Archive(tar, out)
        base = archive_file.layer_of(out / "debian.tar")

        def program(path, source, below=(), **config):
            archive_file.image(config.pop("name"), [*below, archive_file.layer({path: source})], **config)
        for each in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
            program(f"usr/local/bin/{each}", programs / each, name=name[each])
        program("usr/local/bin/kube-proxy", programs / "kube-proxy", [base], name=name["kube-proxy"])
        program("pause", out / "pause", name=name["pause"], Entrypoint=["/pause"])
        if manual:
            archive_file.image(name["etcd"], [base])
        else:
            program("usr/local/bin/etcd", components.ETCD.built() / "etcd", name=name["etcd"])
        program("coredns", coredns / "coredns", name=name["coredns"], Entrypoint=["/coredns"])
        for image in flannel_images(flannel):
            if "cni-plugin" in image:
                program("flannel", plugin / "flannel", [base], name=image)
            else:
                layer = archive_file.layer({f"opt/bin/{each}": flannel / each for each in ("flanneld", "install-conf")})
                archive_file.image(image, [base, layer])
        program("etc/nginx/sites-available/default", NGINX_SITE, [base], name=NGINX, Cmd=["nginx", "-g", "daemon off;"],
                StopSignal="SIGQUIT", ExposedPorts={"80/tcp": {}})
        archive_file.finish()
    (out / "debian.tar").unlink()
    (out / "pause").unlink()


def flannel_images(flannel):
    """The images that flannel's own manifest names."""
    lines = (flannel / "kube-flannel.yml").read_text().splitlines()
    return sorted({line.split("image:")[1].strip() for line in lines if "image:" in line})


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
