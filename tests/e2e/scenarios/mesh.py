"""What the nodes' network swallows is told before anything is changed, with the side that swallows it."""

from harness.cluster import HOME, enrolled
from harness.lab import Failed, run

BLOCKED = ["iptables", "-I", "INPUT", "-p", "udp", "--dport", "8472", "-j", "DROP"]
OPEN = ["iptables", "-D", *BLOCKED[2:]]
# Of what is in a machine's way only, so that the other direction is untouched: its card takes less than the others send.
SMALL, WHOLE = "1400", "1500"


def mesh(report):
    """One of three nodes lets no VXLAN in, another loses large packets: each is named, for every node that suffers."""
    cluster = enrolled(3, report)
    master, blocked, narrow = (cluster.nodes[machine] for machine in ("m1", "w1", "w2"))
    expect_complaints(cluster, [])

    run("w1", *BLOCKED)
    run("w2", "ip", "link", "set", "dev", "eth0", "mtu", SMALL)
    for line in expect_complaints(cluster, [
        f"{master} and {narrow} cannot reach UDP 8472 (flannel's VXLAN) of {blocked}: {blocked} does not let it in",
        f"large packets from {master} and {blocked} to {narrow} are lost on UDP 8472",
    ]):
        report.figure(line[:200])

    run("w1", *OPEN)
    run("w2", "ip", "link", "set", "dev", "eth0", "mtu", WHOLE)
    expect_complaints(cluster, [])


def expect_complaints(cluster, causes):
    """The preflight tells just these; the lines that tell them."""
    said = run("m1", "coordinator", "preflight", "-f", f"{HOME}/cluster.yaml", check=False)
    text = said.stdout + said.stderr
    lines = [line for line in text.splitlines() if line.startswith(("BLOCKED", "FAILED", "also"))]
    missing = [cause for cause in causes if not any(cause in line and " / mesh:" in line for line in lines)]
    if missing or len(lines) != len(causes) or said.returncode != (3 if causes else 0):
        raise Failed(f"the preflight ended with {said.returncode}; expected were {causes}; it said:\n{text}")
    return lines


SCENARIOS = [mesh]
