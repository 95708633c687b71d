"""Undoing: after a reset the machines are as they were before the bootstrap, and the same bootstrap makes the cluster again."""

import re
import time

from harness.cluster import HOME, enrolled
from harness.lab import Failed, lab, run
from harness.snapshot import Tolerated, expect_equal, take

# What a reset leaves or does not put back, all of it, with its reason; each must occur. On every machine:
LEFT_EVERYWHERE = [
    Tolerated("files", r"\+ /etc/kubernetes d 755 root:root", "kubeadm reset empties its folders and leaves them"),
    Tolerated("files", r"\+ /etc/kubernetes/pki d 755 root:root", "the same"),
    Tolerated("running", r"- kubelet\.service loaded activating auto-restart",
              "kubeadm reset stops the kubelet, which would do nothing without a configuration"),
    Tolerated("running", r"\+ kubelet\.service loaded inactive dead", "the same"),
    Tolerated("running", r"\+ run-docker-netns-default\.mount loaded active mounted",
              "Docker's, from the first container in the machine's own network on until the next reboot"),
    Tolerated("rules", r"\+ iptables nft \*mangle: (\*mangle|COMMIT|:[A-Z]+ ACCEPT)",
              "an empty table that kube-proxy made; the kernel shows it until its next boot"),
    *(Tolerated("sysctls", re.escape(line), f"set by {program} itself, until the next reboot")
      for name, before, after, program in [
          ("kernel.panic", 1, 10, "the kubelet"),
          ("kernel.panic_on_oops", 0, 1, "the kubelet"),
          ("vm.overcommit_memory", 0, 1, "the kubelet"),
          ("net.ipv4.conf.all.route_localnet", 0, 1, "kube-proxy"),
          ("net.netfilter.nf_conntrack_tcp_timeout_close_wait", 60, 3600, "kube-proxy"),
          ("net.netfilter.nf_conntrack_tcp_timeout_established", 432000, 86400, "kube-proxy"),
      ] for line in (f"- {name} = {before}", f"+ {name} = {after}")),
]
LEFT_ON_THE_MASTER = [
    Tolerated("files", r"\+ /etc/kubernetes/manifests d 700 root:root", "kubeadm reset empties its folders and leaves them"),
    Tolerated("files", r"\+ /home/student/\.kube d 700 student:student", "the user's kubectl has its cache in it"),
    Tolerated("files", r"\+ /home/student/\.kube/cache(/\S+)? [df] \d+ student:student( [0-9a-f]{64})?",
              "written by the user's kubectl"),
]
LEFT_BY_THE_DRIVER_SYSTEMD = [
    Tolerated("units", r"\+ kubepods(-besteffort|-burstable)?(-pod[0-9a-f_]+)?\.slice transient -",
              "the kubelet's own, empty, until the next reboot"),
]


# Stands in for the service of zram-tools: compressed swap cannot be had by one machine of the lab alone.
ZRAM = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
"""


def reset_all(report):
    cluster = enrolled(2, report)
    # Something to put back of every kind: swap, a service that makes swap, a firewall, Docker's settings.
    run("w1", "tee", "/etc/systemd/system/zramswap.service", input=ZRAM)
    run("w1", "systemctl", "--quiet", "enable", "--now", "zramswap")
    lab("swap", "w1", "on")
    # Its first time leaves out two rules for IPv6 that every later time sets.
    for what in (["--force", "enable"], ["disable"], ["--force", "enable"]):
        run("w1", "ufw", *what)
    run("m1", "sed", "-i", "s/^    # cgroupDriver: systemd$/    cgroupDriver: systemd/", f"{HOME}/cluster.yaml")
    before = snapshot(*cluster.nodes)
    planned = run("m1", "coordinator", "plan", "-f", f"{HOME}/cluster.yaml").stdout
    if "kubeadm-init" not in planned:
        raise Failed(f"the plan does not name kubeadm-init:\n{planned}")
    expect_equal("a plan", before)
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)
    cluster.expect_whole()
    if run("w1", "systemctl", "is-active", "zramswap", check=False).stdout.strip() != "inactive":
        raise Failed("after the bootstrap a service still makes swap")
    name = cluster.name()

    refused = run("m1", "coordinator", "reset", "--all", check=False)
    if refused.returncode == 0 or f"--confirm {name}" not in refused.stderr:
        raise Failed(f"a reset that nobody confirmed said: {refused.stdout}{refused.stderr}")

    began = time.monotonic()
    said = run("m1", "coordinator", "reset", "--all", "--confirm", name, timeout=400, check=False)
    (report.folder / "reset.txt").write_text(said.stdout + said.stderr)
    if said.returncode:
        raise Failed(f"the reset ended with {said.returncode}:\n{said.stdout}{said.stderr}")
    report.figure(f"reset {time.monotonic() - began:.0f} s")
    found = expect_equal("the reset", before, LEFT_EVERYWHERE + LEFT_ON_THE_MASTER + LEFT_BY_THE_DRIVER_SYSTEMD)
    (report.folder / "left.txt").write_text("".join(
        f"{machine}: {kind}: {line}\n" for machine, its in found.items() for kind, line in its))
    again = run("m1", "coordinator", "reset", "--all", "--confirm", name, timeout=120).stdout
    if "nothing to do" not in again:
        raise Failed(f"the second reset said:\n{again}")

    began = time.monotonic()
    with report.log("bootstrap-again.txt") as log:
        cluster.bootstrap(log)
    cluster.expect_whole()
    report.figure(f"bootstrap again {time.monotonic() - began:.0f} s")


def remove_and_return(report):
    """A worker leaves, and comes back under its name with a new token; then the smoke test's pods leave for good."""
    cluster = enrolled(2, report)
    before = snapshot("w1")
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)
    cluster.expect_whole()
    worker = cluster.nodes["w1"]
    run("m1", "coordinator", "nodes", "remove", worker, "--confirm", cluster.name(), timeout=400)
    nodes = cluster.kubectl("get", "nodes", "-o", "name").stdout
    if worker in nodes or cluster.nodes["m1"] not in nodes:
        raise Failed(f"after the removal of {worker} the nodes are: {nodes}")
    if worker in run("m1", "coordinator", "nodes", "list").stdout:
        raise Failed(f"{worker} was removed and is still enrolled")
    expect_equal("the removal", before, LEFT_EVERYWHERE)
    cluster.enrol_worker("w1")
    with report.log("bootstrap-again.txt") as log:
        cluster.bootstrap(log)
    cluster.expect_whole(within=60)

    # Once the file says so, the smoke test's web servers go, and stay away.
    run("m1", "sed", "-i", "s/^    keep: true$/    keep: false/", f"{HOME}/cluster.yaml")
    with report.log("bootstrap-without-keeping.txt") as log:
        cluster.bootstrap(log)
    deployments = cluster.kubectl("get", "deployments", "-o", "name").stdout
    if "smoke-test" in deployments:
        raise Failed(f"with keep: false there is still {deployments}")
    with report.log("bootstrap-without-keeping-again.txt") as log:
        cluster.bootstrap(log)
    said = (report.folder / "bootstrap-without-keeping-again.txt").read_text()
    if "nothing to do" not in said:
        raise Failed(f"the same file once more, with keep: false:\n{said}")


def snapshot(*machines):
    """The machines as they are, with what the kubelet sets in the kernel otherwise than it will: these three are the host's,
    whatever it has there, and `lab down` puts them back."""
    run(machines[0], "sysctl", "-q", "-w", "kernel.panic=1", "kernel.panic_on_oops=0", "vm.overcommit_memory=0")
    return take(machines)


SCENARIOS = [reset_all, remove_and_return]
