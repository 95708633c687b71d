"""No secret outside its place: a whole bootstrap with every secret known, and then a search for them everywhere."""

import json
import time

from harness.cluster import HOME, Cluster
from harness.lab import ROOT, Failed, lab, run

CANARY = ROOT / "tests/e2e/canary.py"
WATCHER = "/root/canary.py"


def secrets(report):
    cluster = report.cluster = Cluster(2)
    cluster.install()
    for machine in cluster.nodes:
        lab("cp", str(CANARY), f"{machine}:{WATCHER}")
        run(machine, "systemd-run", "--quiet", "--unit=canary", "python3", WATCHER, "watch")

    run("m1", "coordinator", "init", "--address", cluster.address, "--node", cluster.nodes["m1"])
    token = run("m1", "coordinator", "token", "create", "--node", cluster.nodes["w1"], "--token-only").stdout.strip()
    run("w1", "agent", "enroll", "--coordinator", cluster.address, "--token-file", "/dev/stdin", input=token)
    known = {token, token.split(".")[3]}
    cluster.write_spec()
    shown = {"plan": run("m1", "coordinator", "plan", "-f", f"{HOME}/cluster.yaml").stdout}
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)
    cluster.expect_whole(within=30)
    shown["bootstrap"] = (report.folder / "bootstrap.txt").read_text(errors="replace")
    for words in (["status", "-o", "json"], ["status"], ["token", "list"], ["plan", "-f", f"{HOME}/cluster.yaml"]):
        said = run("m1", "coordinator", *words, check=False)
        shown[" ".join(words)] = said.stdout + said.stderr

    problems, rounds = [], []
    for machine in cluster.nodes:
        found = result(machine)
        known.update(found["secrets"])
        problems += [f"{machine}: {loose}" for loose in found["loose"]]
        rounds.append(found["rounds"])
    joined = [secret for secret in known if len(secret) == 16]
    if not joined:
        raise Failed("no join token was seen, so its absence elsewhere proves nothing")
    samples = "".join(run(machine, "cat", "/root/canary/samples").stdout for machine in cluster.nodes)
    for seen in ("kubeadm\0init", "kubeadm\0join"):
        if seen not in samples:
            raise Failed(f"`{seen}` was in no sample of /proc: the samples prove nothing")
    for machine in cluster.nodes:
        searched = run(machine, "python3", WATCHER, "search", input="\n".join(known))
        problems += [f"{machine}: {line}" for line in searched.stdout.splitlines()]
        report.figure(f"{machine}: {searched.stderr.strip()} searched")
        left = run(machine, "find", "/etc/kubernetes/bootstrap-kubelet.conf", "/run/muster-agent/output", "-type", "f",
                   check=False).stdout.split()
        problems += [f"{machine}: {path} is left" for path in left]
    problems += [f"`coordinator {name}` shows a secret" for name, text in shown.items()
                 if any(secret in text for secret in known)]
    if problems:
        raise Failed("\n".join(problems))
    report.figure(f"{len(known)} secrets, {len(joined)} of them of join tokens; /proc sampled {sum(rounds)} times: no hit")


def result(machine):
    """What the watcher collected, once it has stopped."""
    run(machine, "touch", "/root/canary/stop")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        said = run(machine, "cat", "/root/canary/result.json", check=False)
        if said.returncode == 0 and said.stdout.endswith("}"):
            return json.loads(said.stdout)
        time.sleep(0.5)
    raise Failed(f"the watcher on {machine} did not end: " + run(machine, "journalctl", "-u", "canary").stdout)


SCENARIOS = [secrets]
