"""A cluster as a person makes it: packages, init, tokens, enrolment, bootstrap; and what must hold afterwards."""

import json
import re
import subprocess
import time

from .lab import ROOT, Failed, addresses, command_line, console, lab, run

STUDENT_NUMBER = "20251234"
USER = "student"
HOME = "/root/cluster"
EXAMPLE = ROOT / "deploy/examples/cluster.yaml"
# On every machine of the lab: flannel's own manifest.
POD_NETWORK = "/usr/share/muster-lab/kube-flannel.yml"
BOOTSTRAP_LIMIT = 600
# What the cluster file says otherwise than the example, in each era of the lab.
OF_ERA = {
    "manual": [],
    # The lab's host has cgroups v1.
    "today": [(r"(?m)^(  kubernetesVersion:) .*$", r"\1 v1.36.3"), (r"(?m)^    # (cgroupV1: allow)$", r"    \1")],
}


class Cluster:
    """Fresh machines: m1 becomes the control plane, the others workers."""

    def __init__(self, machines, *, runs_pods=True, nat_trap=False, era="manual"):
        names = ["m1", *(f"w{number}" for number in range(1, machines))]
        number = (lambda index: "") if machines == 2 else (lambda index: str(index))
        self.nodes = {"m1": f"k8s-master-{STUDENT_NUMBER}"}
        for index, name in enumerate(names[1:], 1):
            self.nodes[name] = f"k8s-node{number(index)}-{STUDENT_NUMBER}"
        self.runs_pods = runs_pods
        self.era, self.nat_trap = era, nat_trap
        self.tokens = []
        lab("up", "--era", era, "--machines", str(machines), *(["--nat-trap"] if nat_trap else []), timeout=5400)
        self.address = addresses()["m1"]

    # --- what a person does -----------------------------------------------------------------------------------------

    def install(self):
        """The packages, with apt, as on any machine."""
        packages = {"muster-agent": list(self.nodes), "muster-coordinator": ["m1"]}
        for package, machines in packages.items():
            (file,) = (ROOT / "dist").glob(f"{package}_*.deb")
            for machine in machines:
                lab("cp", str(file), f"{machine}:/root/{package}.deb")
                run(machine, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y",
                    "--no-install-recommends", "install", f"/root/{package}.deb")

    def enrol(self):
        """The master with `init`, every other machine with a token that goes from one screen to the other."""
        run("m1", "coordinator", "init", "--address", self.address, "--node", self.nodes["m1"])
        for machine in list(self.nodes)[1:]:
            self.enrol_worker(machine)

    def enrol_worker(self, machine):
        token = run("m1", "coordinator", "token", "create", "--node", self.nodes[machine], "--token-only").stdout
        self.tokens.append(token.strip())
        run(machine, "agent", "enroll", "--coordinator", self.address, "--token-file", "/dev/stdin", input=token)

    def write_spec(self):
        """The example that the package ships, for these machines."""
        entries = "".join(f"    - name: {node}\n      role: {'control-plane' if machine == 'm1' else 'worker'}\n"
                          for machine, node in self.nodes.items())
        text = EXAMPLE.read_text()
        for pattern, replacement in [
            (r"(?m)^  nodes:\n(    - name: .*\n      role: .*\n)+", f"  nodes:\n{entries}"),
            (r"(?m)^    runsPods: .*$", f"    runsPods: {str(self.runs_pods).lower()}"),
            *OF_ERA[self.era],
        ]:
            text, count = re.subn(pattern, replacement, text)
            if count != 1:
                raise Failed(f"{EXAMPLE} has no place for {replacement!r}")
        run("m1", "mkdir", "-p", HOME)
        run("m1", "tee", f"{HOME}/cluster.yaml", input=text)
        run("m1", "cp", POD_NETWORK, f"{HOME}/pod-network.yaml")
        if self.nat_trap:
            # flannel takes the card of the default route, which has the same address on every machine.
            run("m1", "sed", "-i", "s/^\\( *\\)- --kube-subnet-mgr$/&\\n\\1- --iface=enp0s8/", f"{HOME}/pod-network.yaml")

    def name(self):
        """The cluster's, with which a reset has to be confirmed."""
        return re.search(r"(?m)^metadata:\s+name: *([a-z0-9.-]+)", run("m1", "cat", f"{HOME}/cluster.yaml").stdout)[1]

    def bootstrap(self, log=None):
        """The one command. With a log its output goes there, else live to our own, a terminal too."""
        if code := self.end_of_bootstrap(log):
            raise Failed(f"the bootstrap ended with {code}")

    def end_of_bootstrap(self, log=None, *options):
        """The code with which it ends."""
        command = command_line("m1", ["coordinator", "bootstrap", "-f", f"{HOME}/cluster.yaml", *options])
        try:
            done = subprocess.run(command, stdin=None if log is None else subprocess.DEVNULL, stdout=log,
                                  stderr=None if log is None else subprocess.STDOUT, timeout=BOOTSTRAP_LIMIT)
        except subprocess.TimeoutExpired:
            raise Failed(f"the bootstrap did not end within {BOOTSTRAP_LIMIT} s") from None
        return done.returncode

    def reset(self, *what, timeout=400):
        """What was done is undone, on `--node NAME` or `--all`; what the command said."""
        return run("m1", "coordinator", "reset", *what, "--confirm", self.name(), timeout=timeout)

    def kubectl(self, *arguments, check=True):
        """As the user whom the cluster file names, with that user's own kubeconfig."""
        return run("m1", "kubectl", *arguments, user=USER, check=check)

    # --- what must hold ---------------------------------------------------------------------------------------------

    def not_ready(self):
        """Why the cluster is not whole: empty when every node is Ready and the web servers answer everywhere."""
        said = self.kubectl("get", "nodes", "-o", "json", check=False)
        if said.returncode:
            return f"kubectl: {said.stderr.strip()}"
        ready = {node["metadata"]["name"]: condition["status"] for node in json.loads(said.stdout)["items"]
                 for condition in node["status"]["conditions"] if condition["type"] == "Ready"}
        wrong = [f"{node} is {ready.get(node, 'missing')}" for node in self.nodes.values() if ready.get(node) != "True"]
        if wrong or len(ready) != len(self.nodes):
            return f"nodes Ready: {ready}; {', '.join(wrong)}"
        pods = [pod for pod in json.loads(self.kubectl("get", "pods", "-A", "-o", "json").stdout)["items"]
                if any("nginx" in container["image"] for container in pod["spec"]["containers"])
                and "deletionTimestamp" not in pod["metadata"]]
        hosts = {pod["spec"].get("nodeName") for pod in pods}
        if not hosts >= set(self.nodes.values()):
            return f"web servers only on {sorted(filter(None, hosts))}"
        for machine in self.nodes:
            for pod in pods:
                address = pod["status"].get("podIP")
                if not address:
                    return f"{pod['metadata']['name']} has no address"
                page = run(machine, "curl", "-sS", "--max-time", "3", f"http://{address}/", check=False)
                if page.stdout.strip() != pod["metadata"]["name"]:
                    return f"{pod['metadata']['name']} does not answer {machine}: {page.stderr.strip() or page.stdout}"
        return ""

    def expect_whole(self, within=0):
        """Every node Ready, a web server on each, each answering every machine; at the latest after so many seconds."""
        end = time.monotonic() + within
        while problem := self.not_ready():
            if time.monotonic() > end:
                raise Failed(problem)
            time.sleep(1)

    def expect_prepared(self):
        """What the spec says of the machines themselves."""
        for machine, node in self.nodes.items():
            for wanted, command in [
                (node, ["hostname"]),
                ("", ["sh", "-c", "tail -n +2 /proc/swaps"]),
                ("", ["systemctl", "--failed", "--no-legend", "--plain"]),
                ("active", ["systemctl", "is-active", "muster-agent.service"]),
                ("1\n1", ["sysctl", "-n", "net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"]),
            ]:
                said = run(machine, *command, check=False).stdout.strip()
                if said != wanted:
                    raise Failed(f"`{' '.join(command)}` on {machine} says {said!r}, not {wanted!r}")
            hosts = run(machine, "cat", "/etc/hosts").stdout
            for other in self.nodes.values():
                if not re.search(rf"(?m)^[0-9.]+\s.*\b{other}\b", hosts):
                    raise Failed(f"{other} does not stand in /etc/hosts of {machine}")

    def expect_done(self):
        """The status that scripts read, as a user without any right."""
        status = json.loads(run("m1", "coordinator", "status", "-o", "json", user="daemon").stdout)
        if (status["kind"], status["phase"]) != ("bootstrap", "done"):
            raise Failed(f"the status tells of a {status['kind']} that is {status['phase']}, not of a bootstrap that is done")

    def expect_nothing_to_do(self):
        """The same command again changes nothing; returns its seconds, the best of three, measured in the machine.
        Whoever holds that against a limit needs a host that does nothing else."""
        command = f"date +%s.%N && coordinator bootstrap -f {HOME}/cluster.yaml && date +%s.%N"
        times = []
        for _ in range(3):
            said = run("m1", "sh", "-c", command).stdout.splitlines()
            if not any("nothing to do" in line for line in said):
                raise Failed("bootstrap over a finished cluster said:\n" + "\n".join(said))
            times.append(float(said[-1]) - float(said[0]))
        return min(times)

    def expect_no_bootstrap_tokens(self):
        """Join tickets are revoked when all nodes are Ready."""
        tokens = self.kubectl("-n", "kube-system", "get", "secrets", "--field-selector",
                              "type=bootstrap.kubernetes.io/token", "-o", "name").stdout.split()
        if tokens:
            raise Failed(f"bootstrap tokens are left: {tokens}")

    def usage(self):
        """Memory and processor time of our programs since they started."""
        figures = []
        for machine in self.nodes:
            for unit in ["muster-coordinator", "muster-agent"][machine != "m1":]:
                pid = run(machine, "systemctl", "show", "-p", "MainPID", "--value", unit).stdout.strip()
                status = run(machine, "cat", f"/proc/{pid}/status").stdout
                resident, highest = (int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024
                                     for field in ("VmRSS", "VmHWM"))
                times = run(machine, "cat", f"/proc/{pid}/stat").stdout.rsplit(")", 1)[1].split()
                seconds = (int(times[11]) + int(times[12])) / 100
                figures.append(f"{unit} on {machine}: {resident:.0f} MiB resident (at most {highest:.0f}), "
                               f"{seconds:.1f} s of processor time")
        return figures

    def save_record(self, folder):
        """The record of the newest run, to hand in: as a page and as a lab report."""
        for form, options in {"html": [], "md": ["--lang", "zh"]}.items():
            said = run("m1", "coordinator", "report", "-o", form, *options)
            (folder / f"report.{form}").write_text(said.stdout)

    def save_evidence(self, folder):
        """What tells why, out of every machine, before it is gone."""
        folder.mkdir(parents=True, exist_ok=True)
        everywhere = {
            "journal": ["journalctl", "-b", "--no-pager", "-o", "short-precise"],
            "agent-journal": ["agent", "journal"],
            "units": ["systemctl", "--no-pager", "--all", "list-units", "muster-*", "docker*", "kubelet*"],
            "containers": ["docker", "ps", "-a"],
        }
        on_master = {
            "status.json": ["coordinator", "status", "-o", "json"],
            "status": ["coordinator", "status"],
            "cluster": ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "get", "nodes,pods", "-A", "-o", "wide"],
        }
        for machine in self.nodes:
            # A machine that went off by itself says why there, and nowhere else.
            (folder / f"{machine}-console.txt").write_text(console(machine))
            for name, command in (everywhere | (on_master if machine == "m1" else {})).items():
                try:
                    said = run(machine, *command, check=False, timeout=30)
                    (folder / f"{machine}-{name}.txt").write_text(said.stdout + said.stderr)
                except (Failed, OSError) as error:
                    (folder / f"{machine}-{name}.txt").write_text(f"{error}\n")


def enrolled(machines, report=None, *, before=lambda cluster: None, **options):
    """Fresh machines with the packages and their identities, the cluster file written: a bootstrap is the next command.
    `before` may spoil the machines. A report gets the machines' evidence when something fails from here on."""
    cluster = Cluster(machines, **options)
    if report:
        report.cluster = cluster
    before(cluster)
    cluster.install()
    cluster.enrol()
    cluster.write_spec()
    return cluster


def whole_way(machines, report, **options):
    """From fresh machines to a finished cluster; everything that must hold then does."""
    cluster = enrolled(machines, report, **options)
    began = time.monotonic()
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)
    report.figure(f"bootstrap {time.monotonic() - began:.0f} s")
    cluster.expect_whole()
    cluster.expect_prepared()
    cluster.expect_done()
    cluster.expect_no_bootstrap_tokens()
    return cluster
