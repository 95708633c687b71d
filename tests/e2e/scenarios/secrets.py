"""No secret outside its place: a join that fails, the same command again to a whole cluster, once more over it, and a
reset of everything, with every secret known; before the reset and after it a search for them everywhere."""

import json
import time

from harness.cluster import HOME, enrolled
from harness.lab import ROOT, Failed, lab, run
from harness.running import Running

CANARY = ROOT / "tests/e2e/canary.py"
WATCHER = "/root/canary.py"
BOOTSTRAP_CONF = "/etc/kubernetes/bootstrap-kubelet.conf"


def secrets(report):
    cluster = enrolled(2, report, before=watch)
    known = {part for token in cluster.tokens for part in (token, token.split(".")[3])}
    shown = {"plan": run("m1", "coordinator", "plan", "-f", f"{HOME}/cluster.yaml").stdout}

    shown["bootstrap that fails"] = fail_at_join(report, cluster)
    for name in ("bootstrap", "bootstrap-over-it"):
        with report.log(f"{name}.txt") as log:
            cluster.bootstrap(log)
        shown[name] = (report.folder / f"{name}.txt").read_text(errors="replace")
        cluster.expect_whole(within=30)
    for words in (["status", "-o", "json"], ["status"], ["token", "list"], ["nodes", "list"],
                  ["plan", "-f", f"{HOME}/cluster.yaml"], ["plan", "-o", "json", "-f", f"{HOME}/cluster.yaml"],
                  ["preflight", "-f", f"{HOME}/cluster.yaml"]):
        said = run("m1", "coordinator", *words, check=False)
        shown[" ".join(words)] = said.stdout + said.stderr
    samples = search(report, cluster, known, shown)
    joined = [secret for secret in known if len(secret) == 16]
    if not joined:
        raise Failed("no join token was seen, so its absence elsewhere proves nothing")
    for seen in ("kubeadm\0init", "kubeadm\0join"):
        if seen not in samples:
            raise Failed(f"`{seen}` was in no sample of /proc: the samples prove nothing")

    watch(cluster)
    said = cluster.reset("--all")
    shown = {"reset --all": said.stdout + said.stderr}
    for words in (["status", "-o", "json"], ["status"]):
        said = run("m1", "coordinator", *words, check=False)
        shown[f"{' '.join(words)} after the reset"] = said.stdout + said.stderr
    if "kubeadm\0reset" not in search(report, cluster, known, shown):
        raise Failed("`kubeadm reset` was in no sample of /proc: the samples prove nothing")
    report.figure(f"{len(known)} secrets, {len(joined)} of them of join tokens: no hit")


def fail_at_join(report, cluster):
    """A kubelet that is masked while the worker joins; kubeadm, which would wait for minutes, is killed. What it said."""
    join = f"{cluster.nodes['w1']}/kubeadm-join"
    # From outside of the kubelet's own start: in two runs of about ten in which it masked itself, w1's systemd was gone.
    until_it_joins = f"until test -e {BOOTSTRAP_CONF}; do sleep 0.05; done; systemctl mask --now --no-block kubelet"
    run("w1", "systemd-run", "--quiet", "--unit=masks-the-kubelet", "/bin/sh", "-c", until_it_joins)
    with Running(report, cluster, "failed") as bootstrap:
        bootstrap.expect_named(join, "the kubelet is masked")
        run("w1", "pkill", "--signal", "KILL", "--full", "kubeadm join")
        bootstrap.expect_end(4)
        bootstrap.expect_first_line(f"{cluster.nodes['w1']} / kubeadm-join:", "the kubelet is masked")
    run("w1", "systemctl", "unmask", "kubelet")
    return bootstrap.path.read_text(errors="replace")


def watch(cluster):
    """Every machine looks at all that its processes show, from now until `search`."""
    for machine in cluster.nodes:
        lab("cp", str(CANARY), f"{machine}:{WATCHER}")
        run(machine, "systemd-run", "--quiet", "--collect", "--unit=canary", "python3", WATCHER, "watch")


def search(report, cluster, known, shown):
    """Ends the watch, adds to the known secrets those that it saw, and fails when any stands where none may be; what the
    processes showed."""
    found = {machine: result(machine) for machine in cluster.nodes}
    problems = [f"{machine}: {loose}" for machine in found for loose in found[machine]["loose"]]
    known.update(secret for seen in found.values() for secret in seen["secrets"])
    for machine in cluster.nodes:
        searched = run(machine, "python3", WATCHER, "search", input="\n".join(known))
        problems += [f"{machine}: {line}" for line in searched.stdout.splitlines()]
        report.figure(f"{machine}: {searched.stderr.strip()} searched, /proc sampled {found[machine]['rounds']} times")
        left = run(machine, "find", BOOTSTRAP_CONF, "/run/muster-agent/output", "-type", "f", check=False).stdout.split()
        problems += [f"{machine}: {path} is left" for path in left]
    problems += [f"`coordinator {name}` shows a secret" for name, text in shown.items()
                 if any(secret in text for secret in known)]
    problems += [f"`coordinator {name}` shows nothing: it proves nothing" for name, text in shown.items() if not text]
    if problems:
        raise Failed("\n".join(problems))
    return "".join(run(machine, "cat", "/root/canary/samples").stdout for machine in cluster.nodes)


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
