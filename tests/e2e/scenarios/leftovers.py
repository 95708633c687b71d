"""A runtime that cannot end its containers, and one that gave up: a reset says what is left and is not done; the same one finishes."""

import re

from harness.cluster import HOME, enrolled
from harness.lab import Failed, run

# In front of the real one on root's path: ending a container is denied, as by AppArmor; everything else works.
WRAPPER = """#!/bin/sh
case ${1:-} in
rm | stop | kill) echo "Error response from daemon: cannot stop container: permission denied" >&2; exit 1 ;;
esac
exec /usr/bin/docker "$@"
"""
PATH = "/usr/local/bin/docker"
GIVES_UP = "/run/systemd/system/docker.service.d/gives-up.conf"
PORTS = r":(6443|2379|10250|10257|10259) "


def leftover_containers(report):
    cluster = enrolled(2, report)
    # A changed driver, so that a reset has Docker's settings to put back and Docker to start anew.
    run("m1", "sed", "-i", "s/^    # cgroupDriver: systemd$/    cgroupDriver: systemd/", f"{HOME}/cluster.yaml")
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)
    cluster.expect_whole()
    name, worker = cluster.name(), cluster.nodes["w1"]

    deny("w1")
    said = refused(report, "remove", "nodes", "remove", worker, "--confirm", name)
    expect_words(said, "k8s_kube-proxy", "Failed to remove containers", "aa-remove-unknown", "same reset")
    if worker not in run("m1", "coordinator", "nodes", "list").stdout:
        raise Failed(f"{worker} was taken off the list with containers running on it")

    allow("w1")
    let_docker_give_up("w1")
    deny("m1")
    said = refused(report, "reset", "reset", "--all", "--confirm", name)
    if running("w1") or run("w1", "systemctl", "is-active", "docker", check=False).stdout.strip() != "active":
        raise Failed(f"w1 was reset, but containers run there or Docker does not:\n{said}")
    expect_words(said, "k8s_etcd", "listens on 2379", "Failed to remove containers", "aa-remove-unknown")
    if not running("m1"):
        raise Failed("nothing runs on m1: the wrapper denied nothing")
    said = refused(report, "reset-again", "reset", "--all", "--confirm", name)
    expect_words(said, "k8s_etcd")

    said = refused(report, "preflight", "preflight", "-f", f"{HOME}/cluster.yaml")
    expect_words(said, "what is left of an earlier cluster listens", "in the container k8s_kube-apiserver",
                 "coordinator reset --node")

    allow("m1")
    said = run("m1", "coordinator", "reset", "--all", "--confirm", name, timeout=400).stdout
    (report.folder / "reset-done.txt").write_text(said)
    for machine in cluster.nodes:
        taken = re.findall(PORTS, run(machine, "ss", "-ltn").stdout)
        if running(machine) or taken:
            raise Failed(f"after the reset on {machine}: containers {running(machine)}, ports {taken}")
    with report.log("bootstrap-again.txt") as log:
        cluster.bootstrap(log)
    cluster.expect_whole()


def deny(machine):
    run(machine, "tee", PATH, input=WRAPPER)
    run(machine, "chmod", "755", PATH)


def allow(machine):
    run(machine, "rm", PATH)


def let_docker_give_up(machine):
    """Docker is started until systemd takes no further start, then the cause is gone."""
    run(machine, "mkdir", "-p", GIVES_UP.rsplit("/", 1)[0])
    # systemd forgets its count of starts when it reads its unit files again, so that the cause is one that goes without it.
    run(machine, "tee", GIVES_UP, input="[Service]\nExecStartPre=/usr/bin/test -e /run/docker-may-start\n")
    run(machine, "systemctl", "daemon-reload")
    for _ in range(8):
        run(machine, "systemctl", "restart", "docker.service", check=False)
    run(machine, "touch", "/run/docker-may-start")
    said = run(machine, "systemctl", "restart", "docker.service", check=False)
    if said.returncode == 0:
        raise Failed(f"Docker of {machine} does not give up: this shows nothing")


def running(machine):
    """The pods' containers that run; nothing where Docker does not answer."""
    listed = run(machine, "/usr/bin/docker", "ps", "--filter", "name=k8s_", "--format", "{{.Names}}", check=False)
    return listed.stdout.split()


def refused(report, what, *command):
    """What a command says that must not end well."""
    said = run("m1", "coordinator", *command, timeout=400, check=False)
    (report.folder / f"{what}.txt").write_text(f"exit code {said.returncode}\n{said.stdout}{said.stderr}")
    if said.returncode == 0:
        raise Failed(f"coordinator {' '.join(command)} ended well:\n{said.stdout}")
    return said.stdout + said.stderr


def expect_words(said, *words):
    lacking = [word for word in words if word not in said]
    if lacking:
        raise Failed(f"{lacking} is not in:\n{said}")


SCENARIOS = [leftover_containers]
