"""What dies in the middle of kubeadm, or loses its power or its cable: the same command goes on and ends with a whole
cluster. Nothing that damages is done twice."""

import json
import time

from harness import tally
from harness.cluster import enrolled
from harness.lab import Failed, lab, run
from harness.running import Running

# There from the middle of its work on: the static pods are written and the kubelet is about to start them; the kubelet has the
# token and waits for its certificate.
MIDDLE = {"init": "/etc/kubernetes/manifests/etcd.yaml", "join": "/etc/kubernetes/bootstrap-kubelet.conf"}
# What a coordinator says that found the run interrupted, and one that went on with it.
RESUMED, ATTACHED = "resuming: ", "attached: "
# What kubeadm was started for on a worker, boot by boot, where nothing had to be done again.
ONCE = [["join"]]


def coordinator_dies_during_init(report):
    """The command that was under way waits for the coordinator and goes on by itself; a second one finds it going on."""
    def die():
        kill("m1", "muster-coordinator", "init")
        path, end = report.folder / "bootstrap-interrupted.txt", time.monotonic() + 60
        while not any(line.startswith(RESUMED) for line in path.read_text().splitlines()):
            if time.monotonic() > end:
                raise Failed(f"the command does not go on with the coordinator that is back:\n{path.read_text()}")
            time.sleep(0.5)
    crash(report, "m1", "init", die)


def masters_agent_dies_during_init(report):
    crash(report, "m1", "init", lambda: kill("m1", "muster-agent", "init"))


def workers_agent_dies_during_join(report):
    crash(report, "w1", "join", lambda: kill("w1", "muster-agent", "join"))


def power_fails_during_join(report):
    """Every process ends at once, and with its unit the join. What was written stays, synced or not: the lab's README says
    what that does not prove, and the fault matrix tries it with what was not synced lost. The kubelet has written its
    kubelet.conf by then, and waits for the certificate that this names: nobody signs it before the power is back."""
    def cut():
        run("w1", "timeout", "30", "sh", "-c", "until test -s /etc/kubernetes/kubelet.conf; do sleep 0.1; done")
        expect_running("w1", "join")
        lab("power-cut", "w1")
        time.sleep(3)
        signer("unpause")
        lab("start", "w1")
    # The half of it that was done is undone, and it is done again, all in the second boot.
    crash(report, "w1", "join", cut, joins=[["join"], ["reset", "join"]], before=lambda: signer("pause"))


def signer(verb):
    """`docker pause` or `unpause` for the controller manager, which signs the kubelets' certificates."""
    run("m1", "sh", "-c", f"docker {verb} $(docker ps -q --filter name=k8s_kube-controller-manager_)")


def cable_is_pulled_during_join(report):
    """kubeadm waits longer than the cable is out, so that its one join comes to its end."""
    def pull():
        before = expect_running("w1", "join")
        lab("link", "w1", "down")
        time.sleep(20)
        if "NO-CARRIER" not in run("w1", "ip", "link", "show", "eth0").stdout:
            raise Failed("the cable of w1 was pulled, and its card does not know it")
        expect_running("w1", "join", before)
        lab("link", "w1", "up")
    crash(report, "w1", "join", pull)


def crash(report, machine, verb, fault, joins=ONCE, before=lambda: None):
    """The fault, while kubeadm runs on the machine; then the same command. kubeadm is started once on each, but for a join
    that is named otherwise. `before` comes as soon as kubeadm is started."""
    cluster = enrolled(2, report)
    for each in cluster.nodes:
        tally.keep(each)
    with Running(report, cluster, "interrupted") as bootstrap:
        bootstrap.wait_for_change(f"{cluster.nodes[machine]}/kubeadm-{verb}")
        before()
        wait_for_the_middle(machine, verb)
        fault()
        time.sleep(2)
        bootstrap.process.terminate()
    began = time.monotonic()
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)
    report.figure(f"the same command again: {time.monotonic() - began:.0f} s")
    first = (report.folder / "bootstrap.txt").read_text().splitlines()[0]
    report.figure(first)
    if not first.startswith(ATTACHED):
        raise Failed(f"the same command begins with {first!r}, not with {ATTACHED!r}")
    cluster.expect_whole()
    cluster.expect_prepared()
    cluster.expect_done()
    cluster.expect_nothing_to_do()
    expect_started("m1", [["init"]])
    expect_started("w1", joins)


def expect_started(machine, wanted):
    """kubeadm was started for just this, boot by boot; the agent's journal has each start, and of those of the last boot the
    end."""
    started = tally.read(machine)
    if started != wanted:
        raise Failed(f"kubeadm was started on {machine} for {started}, not for {wanted}")
    begun, ended, under_way = [], [], None
    for event in map(json.loads, run(machine, "agent", "journal", "-o", "json").stdout.splitlines()):
        change = event["step"], event.get("index")
        if event["event"] == "intended" and event["summary"].startswith("run kubeadm "):
            begun.append(event["summary"].split()[2])
            under_way = change
        elif event["event"] == "made" and change == under_way:
            ended.append(begun[-1])
            under_way = None
    if (begun, ended) != (sum(wanted, []), wanted[-1]):
        raise Failed(f"the journal of {machine} has the starts {begun} and the ends {ended} of kubeadm, not {wanted}")


def kill(machine, daemon, verb):
    """SIGKILL, while kubeadm runs; it still runs right after, and when systemd has the daemon back."""
    before, pid = expect_running(machine, verb), main_pid(machine, daemon)
    # In one go, so that nothing can end in between.
    said = run(machine, "sh", "-c", f"{SHOW.format(unit=before['Id'])} && "
               f"systemctl kill --kill-who=main --signal=KILL {daemon} && {SHOW.format(unit=before['Id'])}").stdout
    for moment in said.strip().split("\n\n"):
        same_program(machine, verb, before, properties(moment))
    end = time.monotonic() + 30
    while main_pid(machine, daemon) in ("0", pid):
        if time.monotonic() > end:
            raise Failed(f"{daemon} on {machine} did not come back")
        time.sleep(0.2)
    expect_running(machine, verb, before)


def main_pid(machine, unit):
    return run(machine, "systemctl", "show", "-p", "MainPID", "--value", unit).stdout.strip()


# Each answer ends with an empty line.
SHOW = "systemctl show -p Id -p ActiveState -p InvocationID -p MainPID '{unit}' && echo"


def expect_running(machine, verb, before=None):
    """kubeadm's unit, in the middle of its work; the one from before if there is one."""
    said = run(machine, "sh", "-c", SHOW.format(unit=f"muster-kubeadm-{verb}-*.service")).stdout
    running = [found for found in map(properties, said.strip().split("\n\n")) if found.get("ActiveState") == "activating"]
    if len(running) != 1:
        raise Failed(f"kubeadm {verb} does not run on {machine}: {said!r}")
    line = run(machine, "cat", f"/proc/{running[0]['MainPID']}/cmdline").stdout.split("\0")
    if line[:2] != ["kubeadm", verb]:
        raise Failed(f"{running[0]['Id']} on {machine} runs {line}")
    if before:
        same_program(machine, verb, before, running[0])
    return running[0]


def same_program(machine, verb, before, now):
    if now != before:
        raise Failed(f"kubeadm {verb} on {machine} was {before} and is {now}: the fault did not come in its middle")


def properties(said):
    return dict(line.split("=", 1) for line in said.splitlines() if line)


def wait_for_the_middle(machine, verb, within=60):
    path = MIDDLE[verb]
    reached = run(machine, "timeout", str(within), "sh", "-c", f"until test -e {path}; do sleep 0.1; done", check=False)
    if reached.returncode:
        raise Failed(f"kubeadm {verb} on {machine} did not come as far as {path} within {within} s")


SCENARIOS = [coordinator_dies_during_init, masters_agent_dies_during_init, workers_agent_dies_during_join,
             power_fails_during_join, cable_is_pulled_during_join]
