"""The lab's disk: one sparse btrfs image in the cache, whose snapshots are the machines' root file systems.

A snapshot takes a few milliseconds and shares everything with the base, where a copy would take most of a minute.
"""

import shutil
import subprocess

from .state import CACHE, RUN, LabError

IMAGE = CACHE / "machines.btrfs"
MOUNT = RUN / "disk"
# Sparse: it takes what is in it. The size is only the limit.
SIZE = 48 << 30


def _run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise LabError(f"`{' '.join(map(str, command))}` failed: {done.stdout.strip()}")
    return done.stdout


def attach():
    """Mount the disk; make it first if there is none."""
    if MOUNT.is_mount():
        return
    if not IMAGE.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = IMAGE.with_suffix(".unfinished")
        with open(unfinished, "wb") as image:
            image.truncate(SIZE)
        _run("mkfs.btrfs", "-q", "-f", "-d", "single", "-m", "single", unfinished)
        unfinished.rename(IMAGE)
    MOUNT.mkdir(parents=True, exist_ok=True)
    # discard: what a machine deletes shrinks the image again.
    _run("mount", "-o", "loop,noatime,discard=async", IMAGE, MOUNT)


def detach():
    """Unmount the disk and release its loop devices, also those of a lab that was killed."""
    mounts = [line.split(" ")[4] for line in open("/proc/self/mountinfo")]
    for point in sorted((m for m in mounts if m == str(MOUNT) or m.startswith(f"{MOUNT}/")), reverse=True):
        _run("umount", point)
    for line in _run("losetup", "-n", "-O", "NAME", "-j", IMAGE).split():
        _run("losetup", "-d", line)


def subvolume(name):
    """The path of a subvolume, whether it exists or not."""
    return MOUNT / name


def create(name):
    """A new empty subvolume in place of whatever bore the name."""
    delete(name)
    _run("btrfs", "-q", "subvolume", "create", subvolume(name))
    return subvolume(name)


def snapshot(source, name):
    """A writable snapshot in place of whatever bore the name."""
    delete(name)
    _run("btrfs", "-q", "subvolume", "snapshot", subvolume(source), subvolume(name))
    return subvolume(name)


def rename(old, new):
    """Give a finished subvolume its final name, after its content has reached the disk."""
    _run("btrfs", "filesystem", "sync", MOUNT)
    subvolume(old).rename(subvolume(new))


def delete(name):
    """Delete a subvolume with those inside it (Docker or a test may have made some)."""
    path = subvolume(name)
    if not path.exists():
        return
    listed = _run("btrfs", "subvolume", "list", "-o", path).splitlines()
    for inner in sorted((line.split(" path ", 1)[1] for line in listed), reverse=True):
        _run("btrfs", "-q", "subvolume", "delete", MOUNT / inner)
    _run("btrfs", "-q", "subvolume", "delete", path)


def trim():
    """Give back what deleted files held. The kernel does it by and by, and stops at unmounting: after a build, ask."""
    _run("fstrim", MOUNT)


def delete_all_but(prefixes):
    """Delete the machines, what is unfinished, and temporary files of a killed build: all that is not named so."""
    for path in MOUNT.iterdir():
        if path.name.startswith(prefixes):
            continue
        if path.is_dir() and path.stat().st_ino == 256:  # btrfs numbers the root of every subvolume so
            swap_off(path.name)
            delete(path.name)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def names(prefix):
    """The subvolumes whose names begin so."""
    return sorted(p.name for p in MOUNT.glob(f"{prefix}*"))


def swap_file(name):
    """Where a machine that has swap keeps it."""
    return subvolume(name) / "swapfile"


def swap_off(name):
    """Swap belongs to the kernel, not to a machine: when a machine goes, its swap file must not stay in use.

    /proc/swaps names a file as the machine that switched it on did, so asking for this very file is the only way to
    find out whether it is in use; a refusal says that it is not.
    """
    if swap_file(name).exists():
        subprocess.run(["swapoff", swap_file(name)], stderr=subprocess.DEVNULL)
