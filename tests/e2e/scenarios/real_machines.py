"""Trouble that people really had with their machines: what to set up, and what Muster says to it. The first line and the exit
code of each case are figures of the report."""

import time
from concurrent.futures import ThreadPoolExecutor

from harness.cluster import enrolled
from harness.lab import Failed, run

from .failures import expect_complaints

CNI_FOLDER = "/etc/cni/net.d"

# What the archive of containerd brings: a bridge with the same range on every machine.
CONTAINERD_NET = """{
  "cniVersion": "0.3.1",
  "name": "containerd-net",
  "plugins": [
    {"type": "bridge", "bridge": "br-old", "isGateway": true, "ipMasq": true,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.22.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
"""


def foreign_network(report):
    """A CNI configuration of somebody else that sorts before the pod network's is told before anything is changed, and by the
    step when it comes later; one that sorts behind it harms nobody."""
    cluster = enrolled(2, report, before=containerd_net_on_both)
    foreign = f"{CNI_FOLDER}/10-containerd-net.conflist"
    expect_complaints(report, cluster, "beforehand", [
        (f"{node} / leftovers:", f"{foreign} of {node} would be taken instead") for node in cluster.nodes.values()
    ])
    # Somebody who knows better: the step does not believe him.
    with report.log("ignored.txt") as log:
        ended = cluster.end_of_bootstrap(log, "--ignore-check", "leftovers")
    first = next((line for line in (report.folder / "ignored.txt").read_text().splitlines() if foreign in line), "")
    report.figure(f"with --ignore-check: ended with {ended}: {first[:200]}")
    if ended == 0 or "is taken instead" not in (report.folder / "ignored.txt").read_text():
        raise Failed(f"a bootstrap with a foreign network ended with {ended}: {first}")
    for machine in cluster.nodes:
        run(machine, "mv", foreign, f"{CNI_FOLDER}/87-podman-bridge.conflist")
    # dockershim reads the folder every 5 s: a pod that is made sooner still gets the foreign address, and is told of.
    time.sleep(6)
    with report.log("mended.txt") as log:
        cluster.bootstrap(log)
    cluster.expect_whole()
    cluster.expect_done()
    cluster.expect_nothing_to_do()


def stopped_kubelet(report):
    """A node whose kubelet ended a moment ago is still shown as Ready: the same command does not believe it."""
    cluster = enrolled(2, report)
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)
    run("w1", "systemctl", "kill", "--signal=STOP", "kubelet")
    with ThreadPoolExecutor() as pool:
        again = pool.submit(bootstrap_again, report, cluster)
        run("w1", "sleep", "12")
        if again.done():
            raise Failed("a kubelet that answers nobody was believed")
        run("w1", "systemctl", "kill", "--signal=CONT", "kubelet")
        again.result()
    cluster.expect_whole()


def bootstrap_again(report, cluster):
    with report.log("again.txt") as log:
        cluster.bootstrap(log)


def containerd_net_on_both(cluster):
    for machine in cluster.nodes:
        run(machine, "mkdir", "-p", CNI_FOLDER)
        run(machine, "tee", f"{CNI_FOLDER}/10-containerd-net.conflist", input=CONTAINERD_NET)


SCENARIOS = [foreign_network, stopped_kubelet]
