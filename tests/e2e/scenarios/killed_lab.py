"""The lab itself, killed where it can hurt: the next `lab up` works as if nothing had been, and `lab down` leaves
nothing."""

import os
import signal
import subprocess
import time
from pathlib import Path

from harness.lab import LAB, Failed, lab, run

RUNTIME = Path("/run/muster-lab")
MACHINES = RUNTIME / "machines"


def killed_lab(report):
    lab("down")
    expect_nothing_left("before the first lab")
    settings = kernel_settings()

    kill_while_starting(lambda: (RUNTIME / "state.json").exists())
    lab("up", "--machines", "1")
    run("m1", "docker", "info")
    lab("down")
    expect_nothing_left("after a lab that was killed at its first change, one that was made, and `lab down`")

    kill_while_starting(lambda: leads("m1") and leads("w1"))
    report.figure(f"left by the killed command: {sorted(traces())}")
    lab("up")
    for machine in ("m1", "w1"):
        run(machine, "docker", "info")
    lab("power-cut", "w1")

    # In the middle of taking away the lab that is up.
    kill_while_starting(lambda: not leads("m1"))
    lab("down")
    expect_nothing_left("after `lab down` over what a killed lab left")
    if changed := settings.items() - kernel_settings().items():
        raise Failed(f"of the kernel's settings these are not as before: {dict(changed)}")


def kill_while_starting(here):
    """`lab up`, and SIGKILL for it and for every supervisor that it started, once it is so far."""
    command = subprocess.Popen([LAB, "up"], stdin=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + 120
    while not here():
        if command.poll() is not None or time.monotonic() > end:
            command.kill()
            raise Failed("`lab up` never came to where it was to be killed")
        time.sleep(0.01)
    if command.poll() is not None:
        raise Failed("`lab up` ended before it was killed")
    command.kill()
    command.wait()
    for pid in supervisors():
        os.kill(pid, signal.SIGKILL)


def leads(machine):
    """Whether the machine's container runs."""
    return (MACHINES / machine / "nspawn.pid").exists()


def supervisors():
    """The processes that `lab up` leaves behind, one for each machine."""
    return [pid for pid, words in processes() if is_supervisor(words)]


def is_supervisor(words):
    return len(words) > 4 and words[-3] == "supervise" and Path(words[-4]).name == "lab"


def processes():
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield int(folder.name), (folder / "cmdline").read_text(errors="replace").split("\0")
        except OSError:
            pass  # it ended while we looked


def traces():
    """What there is of a lab on this host, of every kind, found without the lab's own code."""
    found = {f"process {pid}: {' '.join(words)[:80]}" for pid, words in processes()
             if is_supervisor(words) or any(word.startswith("--machine=muster-") for word in words)}
    found |= {f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines()
              if "muster-lab" in line.split()[4]}
    found |= {f"loop device {line.split()[0]}" for line in said("losetup", "-a") if "machines.btrfs" in line}
    found |= {f"network {line.split()[0]}" for line in said("ip", "netns", "list") if line.startswith("muster-")}
    found |= {f"control group {line}" for line in said("find", "/sys/fs/cgroup", "-name", "muster-lab-*", "-prune")}
    found |= {f"swap {line.split()[0]}" for line in Path("/proc/swaps").read_text().splitlines() if "muster-lab" in line}
    found |= {f"file {path}" for path in [RUNTIME, *Path("/run/systemd/nspawn/propagate").glob("muster-*")]
              if path.exists()}
    return found


def said(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.splitlines()


def kernel_settings():
    """Those that a lab changes for its time and those that its machines change: there is one kernel."""
    names = ["fs/inotify/max_user_instances", "net/netfilter/nf_conntrack_max", "vm/overcommit_memory", "kernel/panic"]
    return {name: Path("/proc/sys", name).read_text().strip() for name in names if Path("/proc/sys", name).exists()}


def expect_nothing_left(when):
    if left := traces():
        raise Failed(f"{when} there is still:\n" + "\n".join(sorted(left)))


SCENARIOS = [killed_lab]
