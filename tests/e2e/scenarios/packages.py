"""The packages by themselves: what they install, when the services run, who owns what, and that a purge leaves nothing."""

from harness.cluster import Cluster
from harness.lab import Failed, run

# What `systemd-analyze security` may say at most, in tenths.
EXPOSURE = {"muster-coordinator": 15, "muster-agent": 25}

UNITS = ["muster-agent.service", "muster-coordinator.service"]


def packages(report):
    cluster = report.cluster = Cluster(1)
    before = traces()
    cluster.install()
    for unit in UNITS:
        expect(state(unit), ("disabled", "inactive"), f"{unit} after the installation")
        # A start before init and enroll is passed over, not a failure that is tried again for ever.
        run("m1", "systemctl", "start", unit)
        expect(state(unit), ("disabled", "inactive"), f"{unit} before there is somebody to obey")
    cluster.enrol()
    for unit in UNITS:
        expect(state(unit), ("enabled", "active"), f"{unit} after init")
    expect_owners()
    for unit, most in EXPOSURE.items():
        run("m1", "systemd-analyze", "security", "--no-pager", f"--threshold={most}", unit)

    before_upgrade = main_pids()
    apt("install", "--reinstall", "/root/muster-agent.deb", "/root/muster-coordinator.deb")
    for unit, pid in main_pids().items():
        expect(state(unit), ("enabled", "active"), f"{unit} after an upgrade")
        if pid == before_upgrade[unit]:
            raise Failed(f"{unit} was not restarted by the upgrade")

    apt("remove", "muster-agent", "muster-coordinator")
    apt("install", "/root/muster-agent.deb", "/root/muster-coordinator.deb")
    for unit in UNITS:
        expect(state(unit), ("enabled", "active"), f"{unit} after the package came back")
    nodes = run("m1", "coordinator", "nodes", "list").stdout
    if cluster.nodes["m1"] not in nodes:
        raise Failed(f"the package came back without its state:\n{nodes}")

    apt("purge", "muster-agent", "muster-coordinator")
    if left := traces() - before:
        raise Failed(f"left after the purge: {sorted(left)}")


def apt(*arguments):
    run("m1", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", *arguments)


def state(unit):
    return tuple(run("m1", "systemctl", question, unit, check=False).stdout.strip()
                 for question in ("is-enabled", "is-active"))


def main_pids():
    return {unit: run("m1", "systemctl", "show", "-p", "MainPID", "--value", unit).stdout.strip() for unit in UNITS}


def expect(found, wanted, what):
    if found != wanted:
        raise Failed(f"{what}: {found}, not {wanted}")


def expect_owners():
    """No file of root's in the coordinator's state, and nothing that others may look into but the sockets."""
    foreign = run("m1", "find", "/var/lib/muster-coordinator", "!", "-user", "muster-coordinator").stdout
    expect(foreign, "", "files of others in the coordinator's state")
    for path, wanted in {
        "/var/lib/muster-coordinator": "700 muster-coordinator muster-coordinator",
        "/var/lib/muster-agent": "700 root root",
        "/run/muster-agent": "700 root root",
        "/run/muster-coordinator": "755 muster-coordinator muster-coordinator",
        "/run/muster-coordinator/admin.sock": "660 muster-coordinator muster",
        "/run/muster-coordinator/status.sock": "666 muster-coordinator muster-coordinator",
    }.items():
        expect(run("m1", "stat", "-c", "%a %U %G", path).stdout.strip(), wanted, path)


def traces():
    """Every path that bears our name, but the lab's own and dpkg's memory of a package."""
    found = run("m1", "find", "/", "-xdev", "(", "-path", "/usr/share/muster-lab", "-o", "-path", "/usr/lib/muster-lab",
                "-o", "-path", "/root", "-o", "-path", "/var/log", "-o", "-path", "/var/lib/apt", ")", "-prune",
                "-o", "-name", "*muster*", "-print", check=False).stdout.splitlines()
    running = run("m1", "find", "/run", "-name", "*muster*", check=False).stdout.splitlines()
    return {path for path in found + running if "muster-lab" not in path}


SCENARIOS = [packages]
