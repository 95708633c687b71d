"""What the lab needs of its host: packages, control groups of version 1, and a few kernel settings for its duration."""

import os
import subprocess
from pathlib import Path

from . import debian
from .cgroups import hierarchies
from .state import LabError, say

PACKAGES = ["btrfs-progs", "dnsmasq-base", "dpkg-dev", "gcc", "iproute2", "iptables", "kmod", "libc6-dev", "make", "mmdebstrap",
            "patch", "procps", "rsync", "systemd-container", "util-linux"]

# Settings that belong to the whole kernel, whichever machine writes them: Docker, the kubelet and the boot of a Debian
# system do. They are put back at `lab down`. Where there is a value, the lab itself sets it:
SETTINGS = {
    "net/netfilter/nf_conntrack_max": "131072",  # kube-proxy cannot write it from a machine, and finds it as it wants it
    "fs/inotify/max_user_instances": "8192",  # root's 128 are shared by all machines and used up by three
    "fs/protected_fifos": None, "fs/protected_hardlinks": None, "fs/protected_regular": None,
    "fs/protected_symlinks": None,
    "kernel/keys/root_maxbytes": None, "kernel/keys/root_maxkeys": None,
    "kernel/panic": None, "kernel/panic_on_oops": None, "kernel/pid_max": None,
    "vm/overcommit_memory": None, "vm/panic_on_oom": None, "vm/swappiness": None,
}


def check():
    """Say in one sentence what this host cannot do, before anything is changed on it."""
    if os.geteuid() != 0:
        raise LabError("the lab starts machines and makes namespaces: it must run as root")
    if not Path("/usr/bin/dpkg-query").exists():
        raise LabError("the lab builds on Debian's tools (apt, mmdebstrap): this host is not a Debian")
    needed = {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids"}
    have = {controller for name in hierarchies() for controller in name.split(",")}
    if not needed <= have:
        raise LabError("this host has no control groups of version 1 for " + ", ".join(sorted(needed - have)) +
                       ": the lab's recipe is for the v1 or hybrid layout (kernel argument"
                       " systemd.unified_cgroup_hierarchy=0)")
    kinds = Path("/proc/filesystems").read_text().split()
    for kind in ("btrfs", "overlay"):
        if kind not in kinds and subprocess.run(["modprobe", kind], stderr=subprocess.DEVNULL).returncode:
            raise LabError(f"this host's kernel has no {kind}")


def install_missing():
    """Install what the lab calls and the host lacks."""
    lacking = debian.missing(PACKAGES)
    if lacking:
        say(f"installing on this host: {' '.join(lacking)}")
        debian.install_on_host(lacking)


def has_sys_resource():
    """Whether processes here may hold CAP_SYS_RESOURCE; without it the machines need a wrapper around runc."""
    bounding = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd:"))
    return bool(int(bounding.split()[1], 16) >> 24 & 1)


def remember_settings():
    """The kernel settings as they are now, to be put back later."""
    before = {}
    for name in SETTINGS:
        try:
            before[name] = Path("/proc/sys", name).read_text().strip()
        except OSError:
            pass  # this kernel has no such setting
    return before


def apply_settings():
    """Set what the machines cannot set for themselves."""
    for name, value in SETTINGS.items():
        if value is not None and Path("/proc/sys", name).exists():
            Path("/proc/sys", name).write_text(value)


def restore_settings(before):
    """Put the kernel settings back where a machine or the lab changed them."""
    for name, value in before.items():
        path = Path("/proc/sys", name)
        if path.read_text().strip() != value:
            path.write_text(value)
