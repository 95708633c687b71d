"""ufw with its default deny on the master: init offers the rule, an enrolment without it says what is missing, with it
works; a bootstrap turns ufw off as the cluster file says, and a reset leaves it as it was before init."""

from harness.cluster import Cluster
from harness.lab import Failed, run

PORT = 7443


def firewall(report):
    cluster = report.cluster = Cluster(2)
    cluster.install()
    run("m1", "ufw", "default", "deny", "incoming")
    run("m1", "ufw", "allow", "22/tcp")
    run("m1", "ufw", "--force", "enable")
    before = ufw("m1")
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
    report.figure("the sentence without the rule: " + refused.stderr.strip().splitlines()[-1])

    expect("The rule is set", run("m1", *init, "--allow-firewall").stdout, "init --allow-firewall")
    expect(f"{PORT}/tcp", ufw("m1"), "ufw status")
    expect("coordinator-port", run("m1", "agent", "journal").stdout, "the journal of the master's agent")
    said = run("m1", "coordinator", "reset", "--all").stdout
    if ufw("m1") != before:
        raise Failed(f"a reset before there is a cluster said\n{said}\nand ufw says\n{ufw('m1')}\nbefore init it said\n{before}")
    run("m1", *init, "--allow-firewall")
    again = run("m1", *init, "--allow-firewall").stdout
    if "ufw" in again:
        raise Failed(f"init offers a rule that is there already:\n{again}")
    run("w1", *enrol, input=token)

    cluster.write_spec()
    with report.log("bootstrap.txt") as log:
        cluster.bootstrap(log)
    cluster.expect_whole()
    expect("Status: inactive", ufw("m1"), "ufw status after a bootstrap with disableFirewall: true")
    cluster.reset("--node", cluster.nodes["m1"])
    expect(f"port {PORT}", run("m1", "ufw", "show", "added").stdout, "ufw after a reset of the master alone, with a worker that stays")
    cluster.reset("--all")
    if ufw("m1") != before:
        raise Failed(f"after the reset ufw says\n{ufw('m1')}\nand before init\n{before}")
    expect(f"sudo {rule}", run("m1", *init).stdout, "init after the reset")


def ufw(machine):
    """Whether it is on, what it does with what no rule names, and its rules."""
    return run(machine, "ufw", "status", "verbose").stdout + run(machine, "ufw", "show", "added").stdout


def expect(wanted, text, what):
    if wanted not in text:
        raise Failed(f"{what} does not say {wanted!r}:\n{text}")


SCENARIOS = [firewall]
