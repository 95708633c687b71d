"""What goes wrong is named by its cause: while kubeadm still waits, and in the first line when it gave up."""

import json
import subprocess
import time

from harness.cluster import HOME, USER, Cluster
from harness.lab import Failed, command_line, lab, run

# A cause that a journal names must be on the screen so many seconds later.
NAMED_WITHIN = 60
# kubeadm init gives up after 4 minutes, join's discovery after 2.
GIVES_UP_WITHIN = 330


def failures_at_once(report):
    """Faults that are told at once, or while kubeadm runs; it goes on when they are gone."""
    cluster = start(report)
    master, worker = cluster.nodes["m1"], cluster.nodes["w1"]

    run("m1", "systemctl", "mask", "--now", "kubelet")
    expect_first_line(report, cluster, "masked", f"{master} / packages:", "the kubelet is masked")
    run("m1", "systemctl", "unmask", "kubelet")

    run("m1", "docker", "tag", "k8s.gcr.io/pause:3.2", "kept:1")
    run("m1", "docker", "rmi", "k8s.gcr.io/pause:3.2")
    expect_first_line(report, cluster, "image", f"{master} / images:", "k8s.gcr.io/pause:3.2")
    run("m1", "docker", "tag", "kept:1", "k8s.gcr.io/pause:3.2")

    run("m1", "systemd-run", "--quiet", "--unit=squatter", "nc", "-l", "-k", "-p", "6443")
    expect_first_line(report, cluster, "port", f"{master} / ports:", "another program listens on TCP port 6443")
    run("m1", "systemctl", "stop", "squatter")

    break_runc("m1")
    run("w1", "iptables", "-I", "OUTPUT", "-p", "tcp", "--dport", "6443", "-j", "DROP")
    with Running(report, cluster, "repaired") as bootstrap:
        bootstrap.expect_named(f"{master}/kubeadm-init", "cannot start any container")
        repair_runc("m1")
        bootstrap.expect_named(f"{worker}/kubeadm-join", "cannot be reached from this node", after_init=True)
        run("w1", "iptables", "-D", "OUTPUT", "-p", "tcp", "--dport", "6443", "-j", "DROP")
        bootstrap.expect_end(0)
    cluster.expect_whole()


def failures_of_a_join(report):
    """A worker that cannot reach the API server until kubeadm join gives up."""
    cluster = start(report)
    run("w1", "iptables", "-I", "OUTPUT", "-p", "tcp", "--dport", "6443", "-j", "DROP")
    expect_first_line(report, cluster, "unreachable", f"{cluster.nodes['w1']} / kubeadm-join:",
                      f"the API server at {cluster.address}:6443 cannot be reached from this node")
    run("w1", "iptables", "-D", "OUTPUT", "-p", "tcp", "--dport", "6443", "-j", "DROP")
    end_well(report, cluster)


def failures_of_a_runtime(report):
    """A runc that fails until kubeadm init gives up, and a Docker that stops while it runs."""
    cluster = start(report)
    break_runc("m1")
    expect_first_line(report, cluster, "runc", f"{cluster.nodes['m1']} / kubeadm-init:",
                      "the container runtime cannot start any container")
    repair_runc("m1")
    run("m1", "kubeadm", "reset", "-f")
    end_well(report, cluster)


def failures_of_a_kubelet(report):
    """Swap that comes back, and a kubelet that is masked, after everything was prepared."""
    cluster = start(report)
    init = f"{cluster.nodes['m1']} / kubeadm-init:"

    lab("swap", "m1", "on")
    when_init_writes("m1", "swapon /swapfile")
    expect_first_line(report, cluster, "swap", init, "swap is on, and the kubelet refuses to run with it")
    never_mind("m1")
    run("m1", "swapoff", "-a")
    run("m1", "kubeadm", "reset", "-f")

    when_init_writes("m1", "systemctl mask --now --no-block kubelet")
    expect_first_line(report, cluster, "masked-meanwhile", init, "the kubelet is masked")
    never_mind("m1")
    run("m1", "systemctl", "unmask", "kubelet")
    run("m1", "kubeadm", "reset", "-f")
    end_well(report, cluster)


def failures_of_docker(report):
    """Docker that stops while kubeadm init waits."""
    cluster = start(report)
    when_init_writes("m1", "systemctl stop docker.socket docker.service")
    with Running(report, cluster, "docker") as bootstrap:
        bootstrap.expect_named(f"{cluster.nodes['m1']}/kubeadm-init", "Docker does not run")
        bootstrap.expect_end(4)
        bootstrap.expect_first_line(f"{cluster.nodes['m1']} / kubeadm-init:", "Docker does not run")
    never_mind("m1")
    run("m1", "systemctl", "start", "docker")
    run("m1", "kubeadm", "reset", "-f")
    end_well(report, cluster)


class Running:
    """A bootstrap under way, and what the status says of it meanwhile."""

    def __init__(self, report, cluster, name):
        self.path = report.folder / f"bootstrap-{name}.txt"
        self.cluster, self.report, self.name = cluster, report, name

    def __enter__(self):
        self.log = open(self.path, "wb")
        command = command_line("m1", ["coordinator", "bootstrap", "-f", f"{HOME}/cluster.yaml"])
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        self.log.close()

    def step(self, step_id):
        said = run("m1", "coordinator", "status", "-o", "json", user=USER, check=False).stdout
        steps = json.loads(said)["steps"] if said else []
        return next((step for step in steps if step["id"] == step_id), {"state": "pending", "detail": ""})

    def expect_named(self, step_id, cause, after_init=False):
        """The status names the cause soon after the program began, while it still runs."""
        began, end = None, time.monotonic() + GIVES_UP_WITHIN
        while time.monotonic() < end and self.process.poll() is None:
            step = self.step(step_id)
            if began is None and step["state"] == "changing":
                began = time.monotonic()
            if cause in step["detail"] and step["state"] == "changing":
                took = time.monotonic() - (began or time.monotonic())
                self.report.figure(f"{step_id} names its cause {took:.0f} s after it began: {step['detail'][:160]}")
                if took > NAMED_WITHIN:
                    raise Failed(f"the cause was named only after {took:.0f} s")
                return
            time.sleep(1)
        raise Failed(f"{step_id} never named {cause!r}; it says {self.step(step_id)}")

    def expect_end(self, code, within=GIVES_UP_WITHIN):
        try:
            ended = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise Failed(f"the bootstrap ({self.name}) did not end within {within} s") from None
        if ended != code:
            raise Failed(f"the bootstrap ({self.name}) ended with {ended}, not {code}:\n{self.path.read_text()}")

    def expect_first_line(self, where, cause):
        """The first failure that a person reads."""
        lines = [line for line in self.path.read_text().splitlines() if line.startswith("FAILED")]
        if not lines or where not in lines[0] or cause not in lines[0]:
            raise Failed(f"the first line of {self.name} does not say {where!r} and {cause!r}: {lines[:1]}")
        if "timed out waiting for the condition" in lines[0]:
            raise Failed(f"kubeadm's time-out stands alone: {lines[0]}")
        self.report.figure(lines[0][:220])


def expect_first_line(report, cluster, name, where, cause):
    began = time.monotonic()
    with Running(report, cluster, name) as bootstrap:
        bootstrap.process.wait(GIVES_UP_WITHIN)
        bootstrap.expect_first_line(where, cause)
        # What the checks find before anything is changed is Blocked.
        bootstrap.expect_end(3 if where.endswith(("packages:", "images:", "ports:")) else 4)
    report.figure(f"{name}: {time.monotonic() - began:.0f} s")


def start(report):
    cluster = report.cluster = Cluster(2)
    cluster.install()
    cluster.enrol()
    cluster.write_spec()
    return cluster


def end_well(report, cluster):
    """The same command, once the fault is gone."""
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)
    cluster.expect_whole()


def break_runc(machine):
    run(machine, "mv", "/usr/sbin/runc", "/usr/sbin/runc.kept")
    run(machine, "tee", "/usr/sbin/runc", input="#!/bin/sh\necho 'runc: broken for a test' >&2\nexit 1\n")
    run(machine, "chmod", "755", "/usr/sbin/runc")


def repair_runc(machine):
    run(machine, "mv", "/usr/sbin/runc.kept", "/usr/sbin/runc")


def when_init_writes(machine, command):
    """Something on the machine that acts as soon as kubeadm init has passed its checks: before the kubelet starts."""
    run(machine, "mkdir", "-p", "/etc/systemd/system/kubelet.service.d")
    text = f"[Service]\nExecStartPre=+/bin/sh -c 'test ! -e /etc/kubernetes/admin.conf || {command}'\n"
    run(machine, "tee", "/etc/systemd/system/kubelet.service.d/fault.conf", input=text)
    run(machine, "systemctl", "daemon-reload")


def never_mind(machine):
    run(machine, "rm", "/etc/systemd/system/kubelet.service.d/fault.conf")
    run(machine, "systemctl", "daemon-reload")


# The other three are registered once they have passed.
SCENARIOS = [failures_at_once, failures_of_a_kubelet]
LONG = {"failures-of-a-kubelet"}
