"""What goes wrong is named by its cause: before anything is changed, while kubeadm still waits, and in the first line
when it gave up. Each fault is provoked on the real thing, and the same command ends well when it is gone."""

import json
import time

from harness.cluster import HOME, enrolled
from harness.kubelet import never_mind, when_it_starts
from harness.lab import Failed, lab, run
from harness.running import Running
from harness.snapshot import files

UNREACHABLE = ["iptables", "-I", "OUTPUT", "-p", "tcp", "--dport", "6443", "-j", "DROP"]
REACHABLE = ["iptables", "-D", *UNREACHABLE[2:]]


def failures_at_once(report):
    """Faults that are told before anything is changed, all of them together; then two that show while kubeadm runs."""
    cluster = enrolled(2, report)
    master, worker = cluster.nodes["m1"], cluster.nodes["w1"]

    run("m1", "systemctl", "mask", "--now", "kubelet")
    run("w1", "docker", "tag", "k8s.gcr.io/pause:3.2", "kept:1")
    run("w1", "docker", "rmi", "k8s.gcr.io/pause:3.2")
    run("m1", "systemd-run", "--quiet", "--unit=squatter", "nc", "-l", "-k", "-p", "10250")
    run("w1", *UNREACHABLE)
    before = {machine: files(machine, "/etc") for machine in cluster.nodes}
    expect_complaints(report, cluster, "at-once", [
        (f"{master} / packages:", "the kubelet is masked"),
        (f"{worker} / images:", "k8s.gcr.io/pause:3.2"),
        (f"{master} / ports:", "another program listens on TCP port 10250"),
        ("/ mesh:", "6443"),
    ])
    if changed := [machine for machine in cluster.nodes if files(machine, "/etc") != before[machine]]:
        raise Failed(f"the checks changed something in /etc of {changed}")
    run("m1", "systemctl", "unmask", "kubelet")
    run("w1", "docker", "tag", "kept:1", "k8s.gcr.io/pause:3.2")
    run("m1", "systemctl", "stop", "squatter")
    run("w1", *REACHABLE)

    # The API server's own port: with it taken, nobody can try whether the workers get through to it.
    run("m1", "systemd-run", "--quiet", "--unit=squatter", "nc", "-l", "-k", "-p", "6443")
    expect_complaints(report, cluster, "port", [(f"{master} / ports:", "another program listens on TCP port 6443")])
    run("m1", "systemctl", "stop", "squatter")

    become_foreign("w1")
    expect_complaints(report, cluster, "foreign", [(f"{worker} / leftovers:", "already a member of another cluster")])
    run("w1", "kubeadm", "reset", "-f")

    break_runc("m1")
    with Running(report, cluster, "repaired") as bootstrap:
        bootstrap.wait_for_change(f"{master}/kubeadm-init")
        run("w1", *UNREACHABLE)
        bootstrap.expect_named(f"{master}/kubeadm-init", "cannot start any container")
        repair_runc("m1")
        bootstrap.expect_named(f"{worker}/kubeadm-join", "cannot be reached from this node")
        run("w1", *REACHABLE)
        bootstrap.expect_end(0)
    cluster.expect_whole()


def failures_of_a_join(report):
    """A worker that cannot reach the API server until kubeadm join gives up."""
    cluster = enrolled(2, report)
    with Running(report, cluster, "unreachable") as bootstrap:
        bootstrap.wait_for_change(f"{cluster.nodes['m1']}/kubeadm-init")
        run("w1", *UNREACHABLE)
        bootstrap.expect_end(4)
        bootstrap.expect_first_line(f"{cluster.nodes['w1']} / kubeadm-join:",
                                    f"the API server at {cluster.address}:6443 cannot be reached from this node")
    run("w1", *REACHABLE)
    end_well(report, cluster)


def failures_of_a_runtime(report):
    """A runc that fails until kubeadm init gives up."""
    cluster = enrolled(2, report)
    break_runc("m1")
    expect_failure(report, cluster, "runc", f"{cluster.nodes['m1']} / kubeadm-init:",
                   "the container runtime cannot start any container")
    repair_runc("m1")
    start_over(cluster)
    end_well(report, cluster)


def failures_of_a_kubelet(report):
    """Swap that comes back, and a kubelet that is masked, after everything was prepared."""
    cluster = enrolled(2, report)
    init = f"{cluster.nodes['m1']} / kubeadm-init:"

    lab("swap", "m1", "on")
    when_init_writes("m1", "swapon /swapfile || true")
    expect_failure(report, cluster, "swap", init, "swap is on, and the kubelet refuses to run with it")
    never_mind("m1")
    run("m1", "swapoff", "-a")
    start_over(cluster)

    when_init_writes("m1", "systemctl mask --now --no-block kubelet")
    expect_failure(report, cluster, "masked-meanwhile", init, "the kubelet is masked")
    never_mind("m1")
    run("m1", "systemctl", "unmask", "kubelet")
    start_over(cluster)
    end_well(report, cluster)


def failures_of_docker(report):
    """Docker that stops while kubeadm init waits."""
    cluster = enrolled(2, report)
    when_init_writes("m1", "systemctl stop docker.socket docker.service")
    with Running(report, cluster, "docker") as bootstrap:
        bootstrap.expect_named(f"{cluster.nodes['m1']}/kubeadm-init", "Docker does not run")
        bootstrap.expect_end(4)
        bootstrap.expect_first_line(f"{cluster.nodes['m1']} / kubeadm-init:", "Docker does not run")
    never_mind("m1")
    run("m1", "systemctl", "start", "docker")
    start_over(cluster)
    end_well(report, cluster)


def failures_of_trust(report):
    """A CA file that is not the cluster's, a join token that ended, and a worker that belongs to another cluster."""
    cluster = enrolled(2, report)
    master, worker = cluster.nodes["m1"], cluster.nodes["w1"]
    text = run("m1", "cat", f"{HOME}/cluster.yaml").stdout
    alone = text.replace(f"    - name: {worker}\n      role: worker\n", "")
    if alone == text:
        raise Failed("the worker does not stand in the cluster file as expected")
    run("m1", "tee", f"{HOME}/cluster.yaml", input=alone)
    with report.log("bootstrap-alone.txt") as log:
        cluster.bootstrap(log)
    run("m1", "tee", f"{HOME}/cluster.yaml", input=text)

    # Another CA in the place of the cluster's. Mounted over it, so that the API server, which looks at the file once a
    # minute, still sees its own and trusts whom it trusted.
    authority = "/etc/kubernetes/pki/ca.crt"
    run("m1", "mount", "--bind", "/etc/kubernetes/pki/front-proxy-ca.crt", authority)
    expect_failure(report, cluster, "hash", f"{master} / join-ticket:", "another CA than the one in ca.crt")
    run("m1", "umount", authority)

    # kubeadm join gets no answer until its token has ended. The checks would tell that as well, and are told not to.
    run("w1", *UNREACHABLE)
    with Running(report, cluster, "token", "--ignore-check", "mesh") as bootstrap:
        bootstrap.wait_for_change(f"{worker}/kubeadm-join")
        end_tokens()
        run("w1", *REACHABLE)
        bootstrap.expect_end(4)
        bootstrap.expect_first_line(f"{worker} / kubeadm-join:", "the API server does not accept the join token")
    end_well(report, cluster)

    # The same address, another cluster: the master is made anew, with another CA, and the worker knows nothing of it.
    start_over(cluster)
    expect_failure(report, cluster, "member", worker, "already a member of another cluster")
    run("w1", "kubeadm", "reset", "-f", timeout=300)
    end_well(report, cluster)


def expect_complaints(report, cluster, name, expected):
    """The checks tell all of these, and nothing was begun."""
    with Running(report, cluster, name) as bootstrap:
        bootstrap.expect_end(3, within=60)
        lines = bootstrap.all_failures()
    for where, cause in expected:
        line = next((line for line in lines if where in line and cause in line), None)
        if not line:
            raise Failed(f"no line says {where!r} and {cause!r}: {lines}")
        report.figure(line[:200])


def expect_failure(report, cluster, name, where, cause):
    """The bootstrap ends by itself, and its first line says where and why."""
    began = time.monotonic()
    with Running(report, cluster, name) as bootstrap:
        code = bootstrap.wait_for_end()
        bootstrap.expect_first_line(where, cause)
    if code not in (3, 4):
        raise Failed(f"the bootstrap ({name}) ended with {code}")
    report.figure(f"{name}: ended with {code} after {time.monotonic() - began:.0f} s")


def start_over(cluster):
    """The command that the failure names."""
    cluster.reset("--node", cluster.nodes["m1"])


def end_well(report, cluster):
    """The same command, once the fault is gone."""
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)
    cluster.expect_whole()


def become_foreign(machine):
    """What a worker of another cluster has, by the hand of the real kubeadm: another CA, and a kubelet that obeys it."""
    run(machine, "kubeadm", "init", "phase", "certs", "ca")
    run(machine, "kubeadm", "init", "phase", "kubeconfig", "kubelet", "--apiserver-advertise-address", "10.88.0.99")


def end_tokens():
    """Every join token of the cluster ended an hour ago."""
    kubectl = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "-n", "kube-system"]
    tokens = run("m1", *kubectl, "get", "secrets", "-o", "name", "--field-selector",
                 "type=bootstrap.kubernetes.io/token").stdout.split()
    if not tokens:
        raise Failed("a join runs, and the cluster has no join token")
    an_hour_ago = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    ended = json.dumps({"stringData": {"expiration": an_hour_ago}})
    run("m1", *kubectl, "patch", *tokens, "-p", ended)


def break_runc(machine):
    run(machine, "mv", "/usr/sbin/runc", "/usr/sbin/runc.kept")
    run(machine, "tee", "/usr/sbin/runc", input="#!/bin/sh\necho 'runc: broken for a test' >&2\nexit 1\n")
    run(machine, "chmod", "755", "/usr/sbin/runc")


def repair_runc(machine):
    run(machine, "mv", "/usr/sbin/runc.kept", "/usr/sbin/runc")


def when_init_writes(machine, command):
    """Something on the machine that acts as soon as kubeadm init has passed its checks: before the kubelet starts."""
    when_it_starts(machine, f"test ! -e /etc/kubernetes/admin.conf || {command}")


SCENARIOS = [failures_at_once, failures_of_a_join, failures_of_a_runtime, failures_of_a_kubelet, failures_of_docker,
             failures_of_trust]
# kubeadm's own waits of two to five minutes are most of these.
LONG = {function.__name__.replace("_", "-") for function in SCENARIOS[1:]}
