"""Undoing: after a reset the machines are as they were before the bootstrap, and the same bootstrap makes the cluster again."""

import re
import time

from harness.cluster import HOME, enrolled
from harness.lab import Failed, lab, run

# What a reset leaves, all of it; it goes with the next reboot.
LEFT = {
    # The lab's own pod network prepares its configuration in .new.
    "files": {"/etc/muster/agent.toml", "/etc/cni/net.d/.new"},
    "folders": set(),
    # The kubelet's own slices, empty, where the cgroup driver is systemd's.
    "units": re.compile(r"kubepods\S*\.slice transient"),
    "links": {"docker0"},
    "routes": set(),
    # An empty table that kube-proxy made; the kernel shows it until its next boot.
    "rules": {"*mangle", ":FORWARD ACCEPT"},
    # Set by kubelet and kube-proxy; then what the kernel counts and draws by itself.
    "sysctls": re.compile(r"(vm\.overcommit_memory|kernel\.panic|kernel\.panic_on_oops|net\.ipv4\.conf\.all\.route_localnet|"
                          r"net\.netfilter\.nf_conntrack_tcp_timeout_(established|close_wait)|net\.(netfilter\.)?nf_conntrack_max|"
                          r"net\.netfilter\.nf_conntrack_count|kernel\.(ns_last_pid|pty\.nr|random\.(uuid|entropy_avail))|"
                          r"fs\.(aio-nr|dentry-state|file-nr|inode-nr|inode-state|quota\.syncs)) ="),
}


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
    run("w1", "ufw", "--force", "enable")
    run("m1", "sed", "-i", "s/^    # cgroupDriver: systemd$/    cgroupDriver: systemd/", f"{HOME}/cluster.yaml")
    before = {machine: snapshot(machine) for machine in cluster.nodes}
    planned = run("m1", "coordinator", "plan", "-f", f"{HOME}/cluster.yaml").stdout
    if "kubeadm-init" not in planned:
        raise Failed(f"the plan does not name kubeadm-init:\n{planned}")
    expect_unchanged("a plan", cluster, before)
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
    expect_unchanged("the reset", cluster, before)
    with report.log("left.txt") as log:
        for machine in cluster.nodes:
            left = differences(before[machine], snapshot(machine), lambda kind, line: False)
            log.write("".join(f"{machine}: {line}\n" for line in left).encode())
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
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)
    worker = cluster.nodes["w1"]
    run("m1", "coordinator", "nodes", "remove", worker, "--confirm", cluster.name(), timeout=400)
    nodes = cluster.kubectl("get", "nodes", "-o", "name").stdout
    if worker in nodes or cluster.nodes["m1"] not in nodes:
        raise Failed(f"after the removal of {worker} the nodes are: {nodes}")
    if worker in run("m1", "coordinator", "nodes", "list").stdout:
        raise Failed(f"{worker} was removed and is still enrolled")
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


def expect_unchanged(what, cluster, before):
    problems = [f"{machine}: {line}" for machine in cluster.nodes
                for line in differences(before[machine], snapshot(machine))]
    if problems:
        raise Failed(f"after {what}:\n" + "\n".join(problems))


def snapshot(machine):
    """What of a machine a bootstrap changes, line by line."""
    def lines(*command):
        return run(machine, *command, check=False).stdout.splitlines()

    rules = [line for line in lines("iptables-save") if not line.startswith("#")]
    links = [line.split(":")[1].strip().split("@")[0] for line in lines("ip", "-o", "link")]
    return {
        "files": set(lines("find", "/etc", "-type", "f", "-exec", "sha256sum", "{}", "+")),
        # The width of its columns is that of the longest name.
        "units": {" ".join(line.split()) for line in lines("systemctl", "list-unit-files", "--no-legend", "--plain")},
        "services": {" ".join(lines("systemctl", "is-active", "zramswap", "docker"))},
        "links": {link for link in links if not link.startswith("veth")},
        "routes": {line.strip() for line in lines("ip", "-4", "route")},
        "rules": {re.sub(r" \[\d+:\d+\]$", "", line) for line in rules},
        "sysctls": set(lines("sysctl", "-a")),
        # How much of a swap is used changes by itself.
        "host": {run(machine, "hostname").stdout, run(machine, "awk", "{print $1, $2, $3}", "/proc/swaps").stdout},
        "users": set(lines("sh", "-c", "sha256sum /home/*/.bashrc /home/*/.kube/config 2>/dev/null")),
    }


def is_left(kind, line):
    left = LEFT.get(kind, set())
    if isinstance(left, re.Pattern):
        return bool(left.match(line))
    return line in left or line.split()[-1] in left


def differences(before, after, passes=is_left):
    found = []
    for kind in before:
        for sign, only in (("gone", before[kind] - after[kind]), ("new", after[kind] - before[kind])):
            found += [f"{kind}, {sign}: {line}" for line in sorted(only) if not passes(kind, line)]
    return found


SCENARIOS = [reset_all, remove_and_return]
