"""Swap for one machine at a time: the kernel has one list of swaps, in which a machine's file has no machine's name.

The other machines do not see it in their /proc/swaps (muster-lab-hardware hides it), only as SwapTotal in /proc/meminfo.
"""

import subprocess
from pathlib import Path

from . import disk, machine, state
from .state import LabError

SIZE = 64 << 20
FSTAB_LINE = "/swapfile none swap sw 0 0\n"


def set_swap(name, on_or_off):
    """Give the machine a swap file with its line in fstab, as an installer does, or take both away."""
    with state.locked():
        machine.configuration(name)
        _on(name) if on_or_off == "on" else _off(name)


def is_on(name):
    """Whether the swap that is on is this machine's."""
    return _any_swap() and machine.configuration(name).get("swap", False)


def _any_swap():
    return len(Path("/proc/swaps").read_text().splitlines()) > 1


def _on(name):
    if not machine.leader(name):
        raise LabError(f"{name} is off")
    if _any_swap():
        raise LabError("there is swap on already, of a machine or of the host itself: there can be but one")
    for other in machine.names():
        machine.change(other, swap=other == name)
    path = disk.swap_file(machine.configuration(name)["subvolume"])
    if not path.exists():
        path.touch(mode=0o600)
        subprocess.run(["chattr", "+C", path], check=True)  # btrfs swaps only to files that it does not copy on write
        subprocess.run(["fallocate", "-l", str(SIZE), path], check=True)
    fstab = path.parent / "etc/fstab"
    text = fstab.read_text() if fstab.exists() else ""
    if FSTAB_LINE not in text:
        fstab.write_text(text + FSTAB_LINE)
    done = machine.run(name, ["sh", "-c", "mkswap -q /swapfile && /usr/lib/muster-lab/muster-lab-swap"])
    if done.returncode:
        raise LabError(f"no swap in {name}: {done.stdout.strip()}")


def _off(name):
    subvolume = machine.configuration(name)["subvolume"]
    disk.swap_off(subvolume)
    disk.swap_file(subvolume).unlink(missing_ok=True)
    fstab = disk.subvolume(subvolume) / "etc/fstab"
    if fstab.exists():
        fstab.write_text(fstab.read_text().replace(FSTAB_LINE, ""))
