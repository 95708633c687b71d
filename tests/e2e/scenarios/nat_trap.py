"""Two cards, the first with the same 10.0.2.15 on every machine and the default route, as VirtualBox gives it: nothing of
the cluster may carry that address."""

import json

from harness.cluster import HOME, whole_way
from harness.lab import Failed, addresses, run

TRAP = "10.0.2.15"


def nat_trap(report):
    cluster = whole_way(2, report, nat_trap=True, before=init_wants_an_address)
    own = addresses()
    expect = lambda what, found, wanted: found == wanted or fail(f"{what}: {found}, not {wanted}")  # noqa: E731

    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json").stdout)["items"]
    internal = {node["metadata"]["name"]: [address["address"] for address in node["status"]["addresses"]
                                           if address["type"] == "InternalIP"] for node in nodes}
    expect("InternalIP", internal, {node: [own[machine]] for machine, node in cluster.nodes.items()})
    tunnels = {node["metadata"]["name"]: node["metadata"]["annotations"]["flannel.alpha.coreos.com/public-ip"]
               for node in nodes}
    expect("where flannel's tunnels end", tunnels, {node: own[machine] for machine, node in cluster.nodes.items()})
    endpoints = json.loads(cluster.kubectl("get", "endpoints", "kubernetes", "-o", "json").stdout)
    expect("the API server's endpoint", [a["ip"] for a in endpoints["subsets"][0]["addresses"]], [own["m1"]])

    master = own["m1"]
    for manifest, argument in [("kube-apiserver", f"--advertise-address={master}"),
                               ("etcd", f"--advertise-client-urls=https://{master}:2379"),
                               ("etcd", f"--initial-advertise-peer-urls=https://{master}:2380")]:
        text = run("m1", "cat", f"/etc/kubernetes/manifests/{manifest}.yaml").stdout
        if argument not in text or TRAP in text:
            fail(f"{manifest}.yaml does not say {argument}, or names {TRAP}:\n{text}")

    asked = ["curl", "-sS", "--cacert", "/etc/kubernetes/pki/ca.crt"]
    run("w1", *asked, f"https://{master}:6443/version")
    trapped = run("m1", *asked, f"https://{TRAP}:6443/version", check=False)
    # 60: the certificate does not carry the address.
    expect("curl's answer at the trap", trapped.returncode, 60)

    for machine in cluster.nodes:
        for path in ["/etc/hosts", "/etc/kubernetes/kubelet.conf"]:
            if TRAP in run(machine, "cat", path).stdout:
                fail(f"{path} on {machine} names {TRAP}")

    notes = run("m1", "coordinator", "preflight", "-f", f"{HOME}/cluster.yaml").stdout
    report.figure(f"preflight over the finished cluster: {notes.strip().splitlines()[-1:]}")


def init_wants_an_address(cluster):
    """With several addresses and none given, init lists them and stops."""
    cluster.install()
    said = run("m1", "coordinator", "init", "--node", cluster.nodes["m1"], check=False)
    if said.returncode == 0 or cluster.address not in said.stderr or TRAP not in said.stderr:
        fail(f"init without an address ended with {said.returncode}:\n{said.stdout}{said.stderr}")


def fail(text):
    raise Failed(text)


SCENARIOS = [nat_trap]
