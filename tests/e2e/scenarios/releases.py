"""The packages on other releases of Debian: both programs start, a machine enrols, a user is resolved.

Trees, not machines: the programs run in a chroot, without systemd and without a cluster. What follows for Ubuntu follows
from the documented minimum (glibc 2.17, which `make packages` checks), not from here.
"""

import json
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

from harness.lab import ROOT, Failed

sys.path.insert(0, str(ROOT / "tests/lab"))
from muster_lab import debian  # noqa: E402
from muster_lab.state import CACHE  # noqa: E402

RELEASES = ["bullseye", "bookworm", "trixie"]
NODE = "node-20251234"
PORT = "7499"


def other_releases(report):
    for release in RELEASES:
        tree = tree_of(release)
        try:
            report.figure(starts_and_enrols(release, tree, report))
        finally:
            shutil.rmtree(tree, ignore_errors=True)


def tree_of(release):
    """A fresh tree of the release with both packages installed by its own apt."""
    cached = CACHE / "releases" / f"{release}.tar"
    if not cached.exists():
        make_tree(release, cached)
    tree = CACHE / "releases" / f"{release}-in-use"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    subprocess.run(["tar", "--extract", "--numeric-owner", "--directory", tree, "--file", cached], check=True)
    for package in ["muster-agent", "muster-coordinator"]:
        (file,) = (ROOT / "dist").glob(f"{package}_*.deb")
        shutil.copy(file, tree / "root" / f"{package}.deb")
    inside(tree, "apt-get", "-qq", "-y", "--no-install-recommends", "install",
           "/root/muster-agent.deb", "/root/muster-coordinator.deb")
    inside(tree, "useradd", "--create-home", "student")
    return tree


def make_tree(release, target):
    """From the mirror that this host uses for its own release; the three stand on the same one."""
    entry = next(entry for entry in debian.host_entries(debian.RELEASES[0])
                 if debian.RELEASES[0] in entry["suites"].split())
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"unfinished-{target.name}")
    keys = [f"--keyring={entry['signed-by']}"] if "signed-by" in entry else []
    done = subprocess.run(
        ["mmdebstrap", "--mode=root", "--variant=minbase", "--include=systemd,dbus,adduser", *keys, release, unfinished,
         entry["uris"].split()[0]],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
    if done.returncode:
        raise Failed(f"no tree of {release}:\n{done.stdout[-2000:]}")
    unfinished.rename(target)


def starts_and_enrols(release, tree, report):
    """The coordinator and the agent of this release with each other, over the real port and sockets."""
    version = inside(tree, "agent", "--version").strip()
    (tree / "etc/muster").mkdir(exist_ok=True)
    (tree / "etc/muster/coordinator.toml").write_text(f'address = "127.0.0.1"\nport = {PORT}\n')
    for folder in ["run/muster-coordinator", "run/muster-agent"]:
        (tree / folder).mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        running.enter_context(mounts(tree))
        running.enter_context(serving(tree, report.log(f"{release}-coordinator.txt"), "coordinator", "serve"))
        until(lambda: (tree / "run/muster-coordinator/admin.sock").exists(), f"{release}: the coordinator serves")
        token = inside(tree, "coordinator", "token", "create", "--node", NODE, "--token-only")
        inside(tree, "agent", "enroll", "--coordinator", f"127.0.0.1:{PORT}", "--token-file", "/dev/stdin",
               "--no-start", input=token)
        running.enter_context(serving(tree, report.log(f"{release}-agent.txt"), "agent", "serve"))
        until(lambda: " yes " in inside(tree, "coordinator", "nodes", "list"), f"{release}: the agent is connected")
        expect_user_resolved(tree)
    glibc = inside(tree, "ldd", "--version").splitlines()[0].rsplit(" ", 1)[-1]
    return f"{release} (glibc {glibc}): {version} starts, enrols, connects and resolves a user"


def expect_user_resolved(tree):
    """The agent's own look at a user that is there and at one that is not, through the very look-up of a bootstrap."""
    (tree / "root/cluster.yaml").write_text(json.dumps({
        "apiVersion": "muster/v1", "kind": "Cluster", "metadata": {"name": "releases"},
        "spec": {"kubernetesVersion": "v1.20.2", "nodes": [{"name": NODE, "role": "control-plane"}],
                 "controlPlane": {"runsPods": True}, "kubectlUsers": ["student", "nobody-such"],
                 "networking": {"podSubnet": "10.244.0.0/16", "manifest": "network.yaml"}}}))
    (tree / "root/network.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: none}\n")
    said = inside(tree, "coordinator", "preflight", "-f", "/root/cluster.yaml", check=False)
    if "there is no user nobody-such" not in said or "no user student" in said:
        raise Failed(f"of the user that is there and the one that is not, preflight says:\n{said}")


def inside(tree, *command, input=None, check=True):
    """Run a command in the tree; its standard output, and all that it said where it may fail."""
    done = subprocess.run(["chroot", tree, *command], input=input or "", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=300, env=ENVIRONMENT)
    if check and done.returncode:
        raise Failed(f"`{' '.join(command)}` in {tree.name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout if check else done.stdout + done.stderr


ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C",
               "DEBIAN_FRONTEND": "noninteractive"}


@contextmanager
def mounts(tree):
    subprocess.run(["mount", "-t", "proc", "proc", tree / "proc"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", tree / "proc"], check=False)


@contextmanager
def serving(tree, log, *command):
    process = subprocess.Popen(["chroot", tree, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                               env=ENVIRONMENT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


def until(true, what, within=20):
    end = time.monotonic() + within
    while not true():
        if time.monotonic() > end:
            raise Failed(f"not within {within} s: {what}")
        time.sleep(0.2)


SCENARIOS = [other_releases]
