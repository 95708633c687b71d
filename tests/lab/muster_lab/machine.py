"""One machine: a booted systemd-nspawn container with everything a virtual machine would do to it around it.

Each machine has a supervisor, a process of this program, which is to it what a hypervisor is to a virtual machine: it
makes the network, starts the container, starts it again when the system inside reboots, and cleans up when it is off.
"""

import json
import os
import signal
import shutil
import subprocess
import time
from pathlib import Path

from . import cgroups, disk, network
from .state import RUN, LabError

ENTRY_POINT = Path(__file__).resolve().parent.parent / "lab"
MACHINES = RUN / "machines"
# How systemd-nspawn says that the system inside wants to be started again.
REBOOT = 133
BOOT_DEADLINE = 90
USER = "student"


def configure(name, index, nat_trap, subvolume):
    """Write down what the machine is; its supervisor reads it at every boot."""
    directory = MACHINES / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    change(name, index=index, nat_trap=nat_trap, subvolume=subvolume, link_up=True)


def change(name, **settings):
    """Change some of what is written about the machine."""
    path = MACHINES / name / "machine.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps({**(configuration(name) if path.exists() else {}), **settings}))
    new.rename(path)


def configuration(name):
    """What is written about the machine."""
    try:
        return json.loads((MACHINES / name / "machine.json").read_text())
    except FileNotFoundError:
        raise LabError(f"there is no machine {name}; `lab status` lists them") from None


def names():
    """The machines of the lab, the master first."""
    known = [path.parent.name for path in MACHINES.glob("*/machine.json")]
    return sorted(known, key=lambda name: configuration(name)["index"])


# --- power ---------------------------------------------------------------------------------------------------------

def start(name):
    """Switch the machine on; `wait_until_up` waits for it."""
    configuration(name)
    if leader(name):
        raise LabError(f"{name} is running already")
    with open(MACHINES / name / "console.log", "ab") as console:
        # A session of its own: it must outlive the command that started it.
        subprocess.Popen([ENTRY_POINT, "supervise", name], stdin=subprocess.DEVNULL, stdout=console,
                         stderr=console, cwd="/", start_new_session=True)


def supervise(name):
    """The supervisor's life, from power on to power off."""
    directory = MACHINES / name
    (directory / "supervisor.pid").write_text(str(os.getpid()))
    while True:
        machine = configuration(name)
        network.plug_in(name, machine["index"], machine["nat_trap"], machine["link_up"])
        pid = os.fork()
        if pid == 0:
            _become_container(name, disk.subvolume(machine["subvolume"]))
        (directory / "nspawn.pid").write_text(str(pid))
        _, status = os.waitpid(pid, 0)
        print(f"{name} has ended: {os.waitstatus_to_exitcode(status)}", flush=True)  # minus the signal, or the exit code
        (directory / "nspawn.pid").unlink(missing_ok=True)
        cgroups.kill_and_remove(name)
        disk.swap_off(machine["subvolume"])
        if os.waitstatus_to_exitcode(status) != REBOOT:
            break
    network.unplug(name)
    (directory / "supervisor.pid").unlink(missing_ok=True)


def _become_container(name, root):
    """Replace this process by systemd-nspawn; every option that is not the default has its reason."""
    try:
        cgroups.join_own(name)
        # Docker writes /proc/sys/net, the kubelet /proc/sys/vm and /proc/sys/kernel; with them read-only both die.
        os.environ["SYSTEMD_NSPAWN_API_VFS_WRITABLE"] = "1"
        # nspawn's filter forbids the kernel keyring, and then runc fails with "unable to create session key".
        os.environ["SYSTEMD_SECCOMP"] = "0"
        os.environ["SYSTEMD_NSPAWN_LOCK"] = "0"  # its lock files would outlive a machine whose plug is pulled
        command = ["systemd-nspawn", "--boot", f"--directory={root}", f"--machine=muster-{name}",
                   "--hostname=debian", "--register=no", "--keep-unit",  # no systemd outside that could be asked
                   f"--network-namespace-path=/run/netns/{network.namespace(name)}", "--capability=all",
                   "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only",
                   "--bind=/dev/kmsg"]  # the kubelet reads the kernel's log for processes killed for memory
        if Path("/lib/modules", os.uname().release).is_dir():
            command.append("--bind-ro=/lib/modules")
        os.execvp(command[0], command)
    except BaseException as error:  # after fork: nothing may return into the supervisor's code
        print(f"cannot start the machine: {error}", flush=True)
        os._exit(1)


def console(name):
    """What the machine, and whoever started it, wrote to its console since `lab up`."""
    path = MACHINES / name / "console.log"
    if not path.exists():
        raise LabError(f"there is no machine {name}")
    return path.read_text(errors="replace")


def power_cut(name):
    """What pulling the plug does: nothing inside gets a chance to write or say anything any more."""
    machine_leader = leader(name)
    if not machine_leader:
        raise LabError(f"{name} is off already")
    os.kill(int((MACHINES / name / "nspawn.pid").read_text()), signal.SIGKILL)
    try:
        os.kill(machine_leader, signal.SIGKILL)  # with its PID 1 the whole namespace dies
    except ProcessLookupError:
        pass
    wait_until_off(name)


def wait_until_off(name, deadline=30):
    """Wait until the supervisor has cleaned up after the machine and is gone."""
    end = time.monotonic() + deadline
    while supervisor(name):
        if time.monotonic() > end:
            raise LabError(f"{name} is not off after {deadline} s")
        time.sleep(0.02)


def reboot(name, deadline=120):
    """A clean reboot, asked for inside; returns when the machine is up again."""
    before = leader(name)
    if run(name, ["systemctl", "reboot"]).returncode:
        raise LabError(f"{name} refuses to reboot")
    end = time.monotonic() + deadline
    while leader(name) in (before, None):
        if time.monotonic() > end or not supervisor(name):
            raise LabError(f"{name} did not come back from its reboot; the end of its console:\n{console_tail(name)}")
        time.sleep(0.05)
    wait_until_up(name)


def wait_until_up(name, deadline=BOOT_DEADLINE):
    """Wait until systemd inside has done all it does at boot, and tell what failed if something did."""
    end = time.monotonic() + deadline
    while not (leader(name) and Path(f"/proc/{leader(name)}/root/run/systemd/private").exists()):
        if time.monotonic() > end or (time.monotonic() > end - deadline + 5 and not supervisor(name)):
            raise LabError(f"{name} does not start; the end of its console:\n{console_tail(name)}")
        time.sleep(0.05)
    while True:
        left = max(1, int(end - time.monotonic()))
        state = run(name, ["timeout", str(left), "systemctl", "is-system-running", "--wait"]).stdout.strip()
        if state == "running":
            return
        if state in ("degraded", "maintenance"):
            failed = run(name, ["systemctl", "--failed", "--no-legend", "--plain"]).stdout.strip()
            raise LabError(f"{name} is up, but {state}:\n{failed}")
        if time.monotonic() > end:
            raise LabError(f"{name} is not up after {deadline} s; the end of its console:\n{console_tail(name)}")
        time.sleep(0.1)


# --- what is running -----------------------------------------------------------------------------------------------

def supervisor(name):
    """The machine's supervisor, or None. Process ids are used again by the kernel, so its command line must agree."""
    try:
        pid = int((MACHINES / name / "supervisor.pid").read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        return pid if arguments[-3:] == ["supervise", name, ""] else None
    except (OSError, ValueError):
        return None


def leader(name):
    """The process that is PID 1 inside the machine, or None when it is off."""
    try:
        pid = int((MACHINES / name / "nspawn.pid").read_text())
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            status = Path(f"/proc/{child}/status").read_text()
            inside = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
            if len(inside) > 2 and inside[-1] == "1":
                return int(child)
    except (OSError, ValueError, StopIteration):
        pass
    return None


def console_tail(name):
    """The last words of the machine's console."""
    log = MACHINES / name / "console.log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""


# --- inside --------------------------------------------------------------------------------------------------------

def entering(name, command, user="root"):
    """The command line that runs a command inside the machine as if its user had logged in, in the home directory."""
    machine_leader = leader(name)
    if not machine_leader:
        configuration(name)
        raise LabError(f"{name} is off")
    return machine_leader, [
        "nsenter", "-t", str(machine_leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--",
        # Whoever kills the command outside means the command inside.
        "setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--reset-env", "--pdeathsig", "TERM",
        "sh", "-c", 'cd && LANG=C.UTF-8 exec "$@"', "sh", *command]


def become(name, command, user="root"):
    """Replace this process by a command inside the machine: its exit code, its streams and its terminal are ours."""
    machine_leader, argv = entering(name, command, user)
    cgroups.join_machine(machine_leader)
    os.execvp(argv[0], argv)


def run(name, command, **options):
    """Run a command inside the machine and return what it said."""
    machine_leader, argv = entering(name, command)
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
    return subprocess.run(argv, preexec_fn=lambda: cgroups.join_machine(machine_leader), **options)
