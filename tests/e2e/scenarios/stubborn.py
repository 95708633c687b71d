"""Machines that somebody used before: swap, a firewall, another cluster's kubeconfig, Docker with another cgroup driver;
and a person who presses Ctrl-C in the middle."""

import subprocess
import time

from harness.cluster import HOME, USER, enrolled
from harness.lab import Failed, command_line, lab, run

FOREIGN = """apiVersion: v1
kind: Config
clusters:
- name: work
  cluster: {server: "https://work.example:6443", insecure-skip-tls-verify: true}
users:
- name: me
  user: {token: not-a-secret-of-this-cluster}
contexts:
- name: work
  context: {cluster: work, user: me}
current-context: work
"""


def stubborn_hosts(report):
    cluster = enrolled(2, report, before=used_by_somebody)
    run("m1", "sed", "-i", "s/^    # cgroupDriver: systemd$/    cgroupDriver: systemd/", f"{HOME}/cluster.yaml")

    detach_in_the_middle(report)
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)  # attaches, or finds all of it done
    expect_prepared(cluster)
    expect_merged()
    # The student's own cluster stays the current one; theirs is asked for by its name.
    run("m1", "kubectl", "config", "use-context", context(), user=USER)
    cluster.expect_whole()
    cluster.expect_prepared()
    cluster.expect_nothing_to_do()


def used_by_somebody(_):
    lab("swap", "w1", "on")
    run("w1", "ufw", "--force", "enable")
    run("m1", "mkdir", "-p", f"/home/{USER}/.kube", user=USER)
    run("m1", "tee", f"/home/{USER}/.kube/config", input=FOREIGN, user=USER)


def detach_in_the_middle(report):
    """Ctrl-C detaches: the command ends well, the work goes on."""
    command = command_line("m1", ["coordinator", "bootstrap", "-f", f"{HOME}/cluster.yaml"])
    with report.log("detached.txt") as log:
        bootstrap = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        time.sleep(10)
        run("m1", "pkill", "--signal", "INT", "--full", "^coordinator bootstrap")
        code = bootstrap.wait(timeout=20)
    said = (report.folder / "detached.txt").read_text()
    if code != 0 or "detached; the work goes on" not in said:
        raise Failed(f"Ctrl-C ended with {code}:\n{said}")
    phase, last = phase_and_sequence()
    if phase != "running":
        raise Failed(f"after Ctrl-C the phase is {phase!r}")
    # Nobody is attached; kubeadm init takes its time between two events.
    end = time.monotonic() + 90
    while phase_and_sequence()[1] == last:
        if time.monotonic() > end:
            raise Failed("after Ctrl-C nothing went on for 90 s")
        time.sleep(1)


def phase_and_sequence():
    said = run("m1", "sh", "-c", "coordinator status -o json | jq -r '.phase, .sequence'", user=USER).stdout.split()
    return said[0], int(said[1])


def context():
    """The name of our context in the merged file."""
    names = run("m1", "kubectl", "config", "get-contexts", "-o", "name", user=USER).stdout.split()
    (ours,) = [name for name in names if name != "work"]
    return ours


def expect_merged():
    config = run("m1", "kubectl", "config", "view", user=USER).stdout
    for text in ["https://work.example:6443", "https://10.88.0.11:6443", "current-context: work"]:
        if text not in config:
            raise Failed(f"{text!r} is not in the merged kubeconfig:\n{config}")
    lines = run("m1", "grep", "-c", "kubectl completion bash", f"/home/{USER}/.bashrc", user=USER).stdout.strip()
    if lines != "1":
        raise Failed(f"the completion stands {lines} times in .bashrc")


def expect_prepared(cluster):
    for machine in cluster.nodes:
        driver = run(machine, "docker", "info", "--format", "{{.CgroupDriver}}").stdout.strip()
        if driver != "systemd":
            raise Failed(f"Docker on {machine} has the cgroup driver {driver}")
    said = run("w1", "ufw", "status").stdout.strip()
    if said != "Status: inactive":
        raise Failed(f"`ufw status` on w1 says {said!r}")
    if "ENABLED=no" not in run("w1", "cat", "/etc/ufw/ufw.conf").stdout:
        raise Failed("ufw comes back at the next boot")


SCENARIOS = [stubborn_hosts]
