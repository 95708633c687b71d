"""What dies in the middle of kubeadm, or loses its power or its cable: the same command goes on and ends with a whole
cluster. Nothing that damages is done twice."""

import json
import time

from harness.cluster import enrolled
from harness.lab import Failed, lab, run
from harness.running import Running


def coordinator_dies_during_init(report):
    crash(report, "m1", "init", lambda: kill("m1", "muster-coordinator"))


def masters_agent_dies_during_init(report):
    crash(report, "m1", "init", lambda: kill("m1", "muster-agent"))


def workers_agent_dies_during_join(report):
    crash(report, "w1", "join", lambda: kill("w1", "muster-agent"))


def power_fails_during_join(report):
    def cut():
        lab("power-cut", "w1")
        time.sleep(3)
        lab("start", "w1")
    # The join went with the power: it is undone and done again.
    crash(report, "w1", "join", cut, joins=2)


def cable_is_pulled_during_join(report):
    def pull():
        lab("link", "w1", "down")
        time.sleep(20)
        lab("link", "w1", "up")
    crash(report, "w1", "join", pull, joins=2)


def crash(report, machine, verb, fault, joins=1):
    """The fault, while kubeadm runs on the machine; then the same command. init is done once, join so many times at most."""
    cluster = enrolled(2, report)
    with Running(report, cluster, "interrupted") as bootstrap:
        bootstrap.wait_for_change(f"{cluster.nodes[machine]}/kubeadm-{verb}")
        wait_for_program(machine, verb)
        fault()
        time.sleep(2)
        bootstrap.process.terminate()
    began = time.monotonic()
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)
    report.figure(f"the same command again: {time.monotonic() - began:.0f} s")
    cluster.expect_whole()
    cluster.expect_prepared()
    cluster.expect_done()
    done = {"init": programs("m1", "init"), "join": programs("w1", "join")}
    report.figure(f"kubeadm was started: {done}")
    if done["init"] != 1 or not 1 <= done["join"] <= joins:
        raise Failed(f"kubeadm was started so often: {done}")
    cluster.expect_nothing_to_do()


def kill(machine, unit):
    before = run(machine, "systemctl", "show", "-p", "MainPID", "--value", unit).stdout.strip()
    run(machine, "systemctl", "kill", "--kill-who=main", "--signal=KILL", unit)
    end = time.monotonic() + 30
    while True:
        now = run(machine, "systemctl", "show", "-p", "MainPID", "--value", unit).stdout.strip()
        if now not in ("0", before):
            return
        if time.monotonic() > end:
            raise Failed(f"{unit} on {machine} did not come back")
        time.sleep(0.2)


def wait_for_program(machine, verb, within=30):
    end = time.monotonic() + within
    while run(machine, "pgrep", "-f", f"kubeadm {verb}", check=False).returncode:
        if time.monotonic() > end:
            raise Failed(f"kubeadm {verb} does not run on {machine}")
        time.sleep(0.1)
    # In the middle of its work, not at its first instruction.
    time.sleep(3 if verb == "init" else 1.5)


def programs(machine, verb):
    """How often the agent's journal says that kubeadm was to be started."""
    events = [json.loads(line) for line in run(machine, "agent", "journal", "-o", "json").stdout.splitlines()]
    return sum(event["event"] == "intended" and f"kubeadm {verb}" in event["summary"] for event in events)


SCENARIOS = [coordinator_dies_during_init, masters_agent_dies_during_init, workers_agent_dies_during_join,
             power_fails_during_join, cable_is_pulled_during_join]
