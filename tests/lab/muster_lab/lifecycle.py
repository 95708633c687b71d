"""The life of a lab as a whole: made from nothing, looked at, and taken down without a trace."""

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import base, cgroups, disk, host, machine, modules, network, state, swap
from .state import LabError, say


def prepare(eras):
    """Make everything that outlives a lab: host packages, and of each era Kubernetes, images, base machine."""
    host.check()
    with state.locked():
        host.install_missing()
        if (state.load() or {}).get("up"):
            _ensure(eras)  # the machines that are up stay: a base is another subvolume of the same disk
            return
        _clean()
        _begin()
        try:
            _ensure(eras)
        finally:
            _clean()


def _ensure(eras):
    """The names of their bases."""
    try:
        return [base.ensure(made) for made in eras]
    finally:
        modules.forget_scratch()


def up(made, count, nat_trap):
    """A fresh lab. One that is up, or what is left of one, goes first: a test must not find another's traces."""
    host.check()
    with state.locked():
        host.install_missing()
        if state.load():
            say("taking down the lab that is up, or what is left of it")
        _clean()
        _begin()
        [prepared] = _ensure([made])
        began = time.monotonic()
        names = ["m1", *(f"w{number}" for number in range(1, count))]
        for index, name in enumerate(names):
            subvolume = f"machine-{name}"
            disk.snapshot(prepared, subvolume)
            machine.configure(name, index=index, nat_trap=nat_trap, subvolume=subvolume)
            machine.start(name)
        with ThreadPoolExecutor(len(names)) as pool:
            for waiting in [pool.submit(machine.wait_until_up, name) for name in names]:
                waiting.result()
        state.save({**state.load(), "up": True, "era": made.name, "kubernetes": made.kubernetes})
        say(f"{', '.join(names)} with Kubernetes {made.kubernetes} up in {time.monotonic() - began:.1f} s")


def down(purge):
    """Remove every trace of the lab; the cache stays unless it is to be purged."""
    with state.locked():
        _clean()
        if purge:
            shutil.rmtree(state.CACHE, ignore_errors=True)
        shutil.rmtree(state.RUN, ignore_errors=True)


def status():
    """What each machine is doing."""
    found = []
    for name in machine.names():
        written = machine.configuration(name)
        leader = machine.leader(name)
        condition = "off"
        if leader:
            condition = machine.run(name, ["systemctl", "is-system-running"]).stdout.strip() or "starting"
        elif machine.supervisor(name):
            condition = "starting"
        found.append({"name": name, "address": network.address(written["index"]), "state": condition, "leader": leader,
                      "link": "up" if written["link_up"] else "down", "nat_trap": written["nat_trap"],
                      "swap": swap.is_on(name)})
    return found


def set_link(name, up_or_down):
    """Plug or pull the machine's cable; it stays so through reboots, as a cable does."""
    with state.locked():
        machine.change(name, link_up=up_or_down == "up")
        if machine.supervisor(name):
            network.set_link(name, up_or_down == "up")


def start(name):
    """Switch a machine on and wait for it."""
    with state.locked():
        machine.start(name)
    machine.wait_until_up(name)


def _begin():
    """Write the state before the first change, so that whatever kills us, the next command knows what to put back."""
    state.save({"up": False, "settings": host.remember_settings()})
    host.apply_settings()
    disk.attach()
    network.build_switch()


def _clean():
    """Take down whatever there is of a lab, also what a killed command left; each part is found by looking, not by memory."""
    end = time.monotonic() + 10
    while supervisors := list(_supervisors()):
        # A supervisor whose machine dies cleans up and ends by itself, and buries it; no zombie is left to the host.
        cgroups.kill_and_remove()
        if time.monotonic() > end:
            for pid in supervisors:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    cgroups.kill_and_remove()
    network.remove_all()
    if disk.MOUNT.is_mount():
        disk.delete_all_but(("tree-", "base-"))
    disk.detach()
    for directory in Path("/run/systemd/nspawn/propagate").glob("muster-*"):
        directory.rmdir()  # nspawn forgets it where /run is no tmpfs
    shutil.rmtree(machine.MACHINES, ignore_errors=True)
    before = state.load()
    if before:
        host.restore_settings(before["settings"])
        state.STATE_FILE.unlink()


def _supervisors():
    """The supervisors of machines, whichever checkout of the project started them: there is one lab on a host."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (directory / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if len(arguments) > 4 and Path(arguments[-4]).name == "lab" and arguments[-3] == "supervise":
            yield int(directory.name)
