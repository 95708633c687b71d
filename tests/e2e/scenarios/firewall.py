"""ufw with its default deny on the master: init offers the rule, an enrolment without it says what is missing, with it
works."""

from harness.cluster import Cluster
from harness.lab import Failed, run

PORT = 7443


def firewall(report):
    cluster = report.cluster = Cluster(2)
    cluster.install()
    run("m1", "ufw", "default", "deny", "incoming")
    run("m1", "ufw", "--force", "enable")
    rule = f"ufw allow in proto tcp to {cluster.address} port {PORT}"

    init = ["coordinator", "init", "--address", cluster.address, "--node", cluster.nodes["m1"]]
    expect(f"sudo {rule}", run("m1", *init).stdout, "init where ufw guards the machine")
    token = run("m1", "coordinator", "token", "create", "--node", cluster.nodes["w1"], "--token-only").stdout
    enrol = ["agent", "enroll", "--coordinator", cluster.address, "--token-file", "/dev/stdin"]
    refused = run("w1", *enrol, input=token, check=False)
    if refused.returncode == 0:
        raise Failed("a machine enrolled through a firewall that drops everything")
    expect("firewall on the master", refused.stderr, "the enrolment that times out")
    expect(f"`sudo {rule}`", refused.stderr, "the enrolment that times out")

    expect("The rule is set", run("m1", *init, "--allow-firewall").stdout, "init --allow-firewall")
    expect(f"{PORT}/tcp", run("m1", "ufw", "status").stdout, "ufw status")
    expect("coordinator-port", run("m1", "agent", "journal").stdout, "the journal of the master's agent")
    again = run("m1", *init, "--allow-firewall").stdout
    if "ufw" in again:
        raise Failed(f"init offers a rule that is there already:\n{again}")
    run("w1", *enrol, input=token)
    run("m1", *rule.replace("ufw", "ufw delete", 1).split())
    report.figure("the sentence without the rule: " + refused.stderr.strip().splitlines()[-1])


def expect(wanted, text, what):
    if wanted not in text:
        raise Failed(f"{what} does not say {wanted!r}:\n{text}")


SCENARIOS = [firewall]
