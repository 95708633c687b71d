"""The base: one prepared machine, of which every machine of a lab is a snapshot.

One for each era. Made in two stages, so that a change of the lab's own files does not fetch Debian again: the Debian tree,
and on top of it the Kubernetes packages, the images in the runtime, the user, and what stands in for hardware.
"""

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

from . import components, debian, disk, era, host, images, machine, network, packages
from .state import LabError, digest, say

FILES = Path(__file__).parent.parent / "machine"
NAME = "base"

PACKAGES = [
    # what any small Debian virtual machine has
    "adduser", "bash-completion", "ca-certificates", "curl", "dbus", "hostname", "iproute2", "iputils-ping", "kmod",
    "libpam-systemd", "login", "mount", "netbase", "passwd", "procps", "sudo", "systemd", "systemd-sysv", "udev", "ufw",
    "util-linux",
    # what the kubelet's package depends on
    "conntrack", "ebtables", "ethtool", "iptables", "runc", "socat",
    # for the tests
    "jq", "netcat-openbsd", "python3", "python3-grpcio", "strace",
]

# The runtime, where it is Debian's own.
RUNTIMES = {"docker": ["containerd", "docker.io"], "containerd.io": []}

HOSTS = """\
127.0.0.1\tlocalhost
127.0.1.1\tdebian

# The following lines are desirable for IPv6 capable hosts
::1     localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
"""

# Kernel options and the modules they become; on a host whose kernel has all built in, modprobe must know that.
BUILT_IN = {
    "BRIDGE": "bridge", "BRIDGE_NETFILTER": "br_netfilter", "IP_VS": "ip_vs", "IP_VS_RR": "ip_vs_rr",
    "IP_VS_SH": "ip_vs_sh", "IP_VS_WRR": "ip_vs_wrr", "NF_CONNTRACK": "nf_conntrack", "OVERLAY_FS": "overlay",
    "VETH": "veth", "VXLAN": "vxlan", "IKCONFIG": "configs",
}


def ensure(made):
    """The name of the era's base on the disk, which must be attached; makes it if need be."""
    tree = f"tree-{made.debian}-{made.runtime}-{_tree_key(made)}"
    base = f"base-{made.kubernetes}-{_base_key(made)}"
    if disk.subvolume(base).exists():
        return base
    repository, archive = packages.repository(made), images.archive(made)
    if not disk.subvolume(tree).exists():
        _drop(f"tree-{made.debian}-{made.runtime}-")
        say(f"making the Debian tree of the machines ({made.debian})")
        debian.bootstrap(disk.create("unfinished-tree"), made.debian, "minbase", PACKAGES + RUNTIMES[made.runtime])
        disk.rename("unfinished-tree", tree)
    _drop(f"base-{made.kubernetes}-")
    say(f"making the base machine of Kubernetes {made.kubernetes}")
    root = disk.snapshot(tree, "unfinished-base")
    _furnish(root, made, repository)
    _boot_and_load(made, archive)
    _make_anonymous(root)
    disk.rename("unfinished-base", base)
    disk.trim()
    return base


def _drop(prefix):
    """Earlier ones are of no use: they were made from something else."""
    for name in disk.names(prefix):
        if "-" not in name.removeprefix(prefix):
            disk.delete(name)


def _tree_key(made):
    return digest(PACKAGES, RUNTIMES[made.runtime], made.debian)


def _base_key(made):
    return digest(_tree_key(made), Path(__file__), packages.key(made), images.key(made), *sorted(FILES.iterdir()),
                  os.uname().release, host.has_sys_resource())


def _furnish(root, made, repository):
    """Put in what the base has beyond Debian, with nothing of it running yet."""
    (root / "etc/hostname").write_text("debian\n")
    (root / "etc/hosts").write_text(HOSTS)
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text(f"nameserver {network.GATEWAY}\n")
    (root / "etc/default/locale").write_text("LANG=C.UTF-8\n")
    _no_mirrors(root, repository)
    library = root / "usr/lib/muster-lab"
    library.mkdir(parents=True)
    for script in ("muster-lab-hardware", "muster-lab-swap"):
        shutil.copy(FILES / script, library)
        (library / script).chmod(0o755)
    shutil.copy(FILES / "muster-lab-hardware.service", root / "etc/systemd/system")
    journal = root / "etc/systemd/journald.conf.d/lab.conf"
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.write_text("[Journal]\nReadKMsg=no\nSystemMaxUse=64M\n")  # the kernel's log is the host's
    if not host.has_sys_resource():
        _wrap_runc(root)
    _declare_built_in_modules(root)
    _in_tree(root, "useradd", "--create-home", "--uid", "1000", "--shell", "/bin/bash", "--groups", "sudo", machine.USER)
    (root / "etc/sudoers.d/student").write_text(f"{machine.USER} ALL=(ALL) NOPASSWD: ALL\n")
    (root / "etc/sudoers.d/student").chmod(0o440)
    # As a person would have fetched it beforehand.
    shutil.copy(components.FLANNEL.built() / "kube-flannel.yml", root / "usr/share/muster-lab")
    _in_tree(root, "systemctl", "enable", "-q", "muster-lab-hardware.service")
    # They would call for mirrors that no machine reaches, and hold dpkg's lock meanwhile.
    _in_tree(root, "systemctl", "mask", "-q", "apt-daily.timer", "apt-daily-upgrade.timer")


def _no_mirrors(root, repository):
    """apt inside knows one repository, the lab's own with the Kubernetes packages, and so works without a network."""
    for path in [root / "etc/apt/sources.list", *(root / "etc/apt/sources.list.d").iterdir()]:
        path.unlink(missing_ok=True)
    shutil.copytree(repository, root / "usr/share/muster-lab/apt")
    (root / "etc/apt/sources.list.d/kubernetes.list").write_text("deb [trusted=yes] file:/usr/share/muster-lab/apt ./\n")


def _wrap_runc(root):
    """Where containers may not have CAP_SYS_RESOURCE, runc must not be asked for it; see runc.c."""
    _in_tree(root, "dpkg-divert", "--quiet", "--local", "--rename", "--divert", "/usr/sbin/runc.real", "--add",
             "/usr/sbin/runc")
    subprocess.run(["gcc", "-static", "-Os", "-o", root / "usr/sbin/runc", FILES / "runc.c"], check=True)


def _declare_built_in_modules(root):
    """Where the host has no /lib/modules, say what its kernel has built in: `modprobe overlay` then succeeds, as it should."""
    release = os.uname().release
    if Path("/lib/modules", release).is_dir() or not Path("/proc/config.gz").exists():
        return
    enabled = set(re.findall(r"^CONFIG_(\w+)=y$", gzip.open("/proc/config.gz", "rt").read(), re.MULTILINE))
    directory = root / "usr/lib/modules" / release
    directory.mkdir(parents=True)
    (directory / "modules.order").write_text("")
    (directory / "modules.builtin").write_text(
        "".join(f"kernel/{module}.ko\n" for option, module in BUILT_IN.items() if option in enabled))
    _in_tree(root, "depmod", release)


def _in_tree(root, *command):
    done = subprocess.run(["chroot", root, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise LabError(f"`{' '.join(command)}` failed in the base machine: {done.stdout.strip()}")


def _boot_and_load(made, archive):
    """What only a running system can do: the packages' own scripts, and the images into the runtime."""
    # On btrfs Docker would choose its btrfs driver. What it has used once it goes on using: no setting stays behind.
    once = disk.subvolume("unfinished-base") / "etc/systemd/system/docker.service.d/once.conf"
    once.parent.mkdir(parents=True)
    once.write_text("[Service]\nEnvironment=DOCKER_DRIVER=overlay2\n")
    machine.configure(NAME, index=100, nat_trap=False, subvolume="unfinished-base")
    machine.start(NAME)
    machine.wait_until_up(NAME)
    _inside("apt-get", "-qq", "update")
    wanted = ["kubelet", "kubeadm", "kubectl", "kubernetes-cni"]
    if made.runtime == "containerd.io":
        wanted.append("containerd.io")
    _inside("sh", "-c", f"DEBIAN_FRONTEND=noninteractive apt-get -qq -y install {' '.join(wanted)}")
    load = ["docker", "load", "--quiet"] if made.runtime == "docker" else ["ctr", "-n", "k8s.io", "images", "import", "-"]
    with open(archive, "rb") as images_tar:
        _inside(*load, stdin=images_tar)
    _inside("systemctl", "poweroff")
    machine.wait_until_off(NAME, deadline=90)
    shutil.rmtree(once.parent)
    shutil.rmtree(machine.MACHINES / NAME)


def _inside(*command, **options):
    done = machine.run(NAME, command, **options)
    if done.returncode:
        raise LabError(f"`{' '.join(command)}` failed in the base machine: {done.stdout.strip()}")


def _make_anonymous(root):
    """Remove what the first boot wrote and no two machines may share."""
    (root / "etc/machine-id").write_text("")
    for path in ("var/lib/dbus/machine-id", "etc/docker/key.json", "var/lib/systemd/random-seed"):
        (root / path).unlink(missing_ok=True)
    for directory in (root / "var/log/journal", root / "var/lib/docker/network"):
        shutil.rmtree(directory, ignore_errors=True)
