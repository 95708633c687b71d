"""The lab manual's steps one after another, as somebody types them who makes no mistake and never hesitates: no pause, no
sleep, whatever has to be waited for is looked at every half second. The same end as Muster's: all nodes Ready, a web
server on every node, each answering every machine."""

import json
import re
import time

from harness.cluster import USER
from harness.lab import Failed, addresses, run

POLL = 0.5
LIMIT = 300

PREPARE = """set -e
hostnamectl set-hostname {node}
printf '{hosts}' >> /etc/hosts
swapoff -a
sed -i '/^[^#].*\\sswap\\s/s/^/#/' /etc/fstab
ufw disable >/dev/null
printf 'overlay\\nbr_netfilter\\n' > /etc/modules-load.d/kubernetes.conf
modprobe overlay
modprobe br_netfilter
printf 'net.bridge.bridge-nf-call-iptables = 1\\nnet.bridge.bridge-nf-call-ip6tables = 1\\nnet.ipv4.ip_forward = 1\\n' \\
    > /etc/sysctl.d/99-kubernetes.conf
sysctl -q -p /etc/sysctl.d/99-kubernetes.conf
"""

SPARE = """mkdir -p /etc/systemd/system/kubelet.service.d
printf '[Service]\\nEnvironment=AWS_EC2_METADATA_DISABLED=true\\n' > /etc/systemd/system/kubelet.service.d/20-by-hand.conf
systemctl daemon-reload
"""

NGINX = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "by-hand"},
    "spec": {
        "selector": {"matchLabels": {"app": "by-hand"}},
        "template": {
            "metadata": {"labels": {"app": "by-hand"}},
            "spec": {
                "containers": [{"name": "nginx", "image": "nginx:1.22"}],
                # Replicas alone do not come to stand on every node.
                "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "by-hand"}}}]}},
            },
        },
    },
}


class ByHand:
    """The steps, and how long each took. Whoever knows of it also spares the kubelet its wait for Amazon's credentials."""

    def __init__(self, nodes, pod_network, knows_amazon=False):
        self.nodes, self.pod_network, self.seconds = nodes, pod_network, {}
        self.prepare = PREPARE + (SPARE if knows_amazon else "")

    def step(self, name, work):
        began = time.monotonic()
        result = work()
        self.seconds[name] = time.monotonic() - began
        return result

    def everything(self):
        own = addresses()
        hosts = "".join(f"{own[machine]} {node}\\n" for machine, node in self.nodes.items())
        for machine, node in self.nodes.items():
            self.step(f"prepare {machine}", lambda: run(machine, "sh", "-c", self.prepare.format(node=node, hosts=hosts)))
        said = self.step("kubeadm init", lambda: run(
            "m1", "kubeadm", "init", "--kubernetes-version=v1.20.2", f"--apiserver-advertise-address={own['m1']}",
            "--pod-network-cidr=10.244.0.0/16", timeout=LIMIT)).stdout
        self.step("kubeconfig", lambda: run("m1", "sh", "-c", f"""set -e
            install -d -o {USER} -g {USER} /home/{USER}/.kube
            install -o {USER} -g {USER} -m 600 /etc/kubernetes/admin.conf /home/{USER}/.kube/config
            echo 'source <(kubectl completion bash)' >> /home/{USER}/.bashrc"""))
        self.step("pod network", lambda: self.kubectl("apply", "-f", self.pod_network))
        self.step("untaint", lambda: self.kubectl("taint", "nodes", "--all", "node-role.kubernetes.io/master-"))
        join = re.search(r"kubeadm join (\S+) --token (\S+) \\\s+--discovery-token-ca-cert-hash (\S+)", said)
        for machine in list(self.nodes)[1:]:
            self.step(f"kubeadm join {machine}", lambda: run(
                machine, "kubeadm", "join", join[1], "--token", join[2], "--discovery-token-ca-cert-hash", join[3],
                timeout=LIMIT))
        self.step("nodes ready", lambda: until(self.ready))
        self.step("token", lambda: run("m1", "kubeadm", "token", "delete", join[2]))
        deployment = {**NGINX, "spec": {**NGINX["spec"], "replicas": len(self.nodes)}}
        self.step("nginx", lambda: (run("m1", "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "apply", "-f", "-",
                                        input=json.dumps(deployment)), until(self.answered)))

    def kubectl(self, *arguments):
        return run("m1", "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", *arguments).stdout

    def ready(self):
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        return len(nodes) == len(self.nodes) and all(
            condition["status"] == "True" for node in nodes for condition in node["status"]["conditions"]
            if condition["type"] == "Ready")

    def answered(self):
        pods = json.loads(self.kubectl("get", "pods", "-l", "app=by-hand", "-o", "json"))["items"]
        if {pod["spec"].get("nodeName") for pod in pods} != set(self.nodes.values()):
            return False
        found = [pod["status"].get("podIP") for pod in pods]
        return all(found) and all(
            "nginx" in run(machine, "curl", "-sS", "--max-time", "1", f"http://{address}/", check=False).stdout
            for machine in self.nodes for address in found)


def until(holds):
    end = time.monotonic() + LIMIT
    while not holds():
        if time.monotonic() > end:
            raise Failed(f"not there after {LIMIT} s")
        time.sleep(POLL)
