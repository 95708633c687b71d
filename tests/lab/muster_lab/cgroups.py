"""One group per machine in every cgroup hierarchy, so that machines cannot see, and two kubelets cannot share, a group.

The groups are also the lab's list of its own processes: whatever is in them is the lab's, whoever started it.
"""

import os
import signal
import time
from pathlib import Path

from .state import LabError

PREFIX = "muster-lab-"


def hierarchies():
    """Map each hierarchy's name, as /proc/PID/cgroup gives it ("cpu,cpuacct", "name=systemd", ""), to its mount point."""
    found = {}
    known = {line.split(":", 2)[1] for line in Path("/proc/self/cgroup").read_text().splitlines()}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        kind, _, options = right.split(" ", 2)
        mount_point = Path(left.split(" ")[4])
        if kind == "cgroup2":
            found[""] = mount_point
        elif kind == "cgroup":
            for name in known - {""}:
                if set(name.split(",")) <= set(options.split(",")):
                    found[name] = mount_point
    return found


def paths_of(pid):
    """Map each mounted hierarchy's name to the directory of the group that the process is in."""
    mounted = hierarchies()
    paths = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, name, path = line.split(":", 2)
        if name in mounted:
            paths[name] = Path(f"{mounted[name]}{path}")
    return paths


def join_own(name):
    """Move this process into the machine's group of every hierarchy, making the groups where needed.

    They are children of the group this process is in: where memory is accounted, only there may a host like this one
    make groups, and in the other hierarchies it is as good as any place.
    """
    for hierarchy, own in paths_of("self").items():
        group = own / f"{PREFIX}{name}"
        if own.name.startswith(PREFIX):
            raise LabError(f"the lab was started from inside one of its own machines' groups ({own})")
        group.mkdir(exist_ok=True)
        if "cpuset" in hierarchy.split(","):
            # A new cpuset is empty, and nothing may enter an empty one.
            for setting in ("cpuset.cpus", "cpuset.mems"):
                (group / setting).write_text((own / setting).read_text())
        (group / "cgroup.procs").write_text(str(os.getpid()))


def join_build():
    """For children that work long: the lab's groups are how the next command finds them if this one is killed."""
    join_own("build")


def join_machine(leader):
    """Move this process to where the processes of the machine with this leader (its PID 1) live."""
    for path in paths_of(leader).values():
        if path.name == "init.scope":  # systemd moves itself aside; the machine's root group is the one above
            path = path.parent
        (path / "cgroup.procs").write_text(str(os.getpid()))


def groups(name="*"):
    """All groups of the lab's machines (or of one), wherever in the hierarchies they are."""
    found = []
    for mount_point in set(hierarchies().values()):
        for directory, children, _ in os.walk(mount_point):
            mine = [c for c in children if c.startswith(PREFIX) and name in ("*", c.removeprefix(PREFIX))]
            found += [Path(directory, c) for c in mine]
            children[:] = [c for c in children if not c.startswith(PREFIX)]
    return found


def _members(group):
    for directory, _, _ in os.walk(group):
        try:
            yield from map(int, Path(directory, "cgroup.procs").read_text().split())
        except OSError:
            pass  # the group went while we walked


def kill_and_remove(name="*", deadline=15):
    """Kill whatever is in the machine's groups and remove them; their being empty is the proof that nothing is left."""
    end = time.monotonic() + deadline
    while True:
        mine = groups(name)
        pids = {pid for group in mine for pid in _members(group)} - {0, os.getpid()}
        if not pids:
            break
        if time.monotonic() > end:
            raise LabError(f"these processes of the lab do not die: {sorted(pids)}")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)
    while mine:
        mine = [group for group in mine if not _removed(group)]
        if mine and time.monotonic() > end:
            raise LabError(f"cannot remove the control groups {', '.join(map(str, mine))}")
        if mine:
            time.sleep(0.05)


def _removed(group):
    """Remove a group with all below it; a group stays busy for a moment after its last process has died."""
    for directory, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError:
            return False
    return True
