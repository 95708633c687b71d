"""Files into and out of a machine, through a process inside it, so that links and paths mean what they mean there."""

import os
import subprocess
from pathlib import Path

from . import machine
from .state import LabError

# $1 is the target as the user wrote it, $2 the file's name, $3 its mode.
RECEIVE = 'set -e; case $1 in */) mkdir -p "$1"; t=$1$2;; *) t=$1; [ ! -d "$t" ] || t=$t/$2;; esac; cat > "$t"; chmod "$3" "$t"'


def copy(source, target):
    """Copy one file; exactly one of the two is written as MACHINE:PATH."""
    source_machine, source_path = _split(source)
    target_machine, target_path = _split(target)
    if bool(source_machine) == bool(target_machine):
        raise LabError("cp copies between this host and one machine: write one of the two as MACHINE:PATH")
    if target_machine:
        _into(target_machine, Path(source_path), target_path)
    else:
        _out_of(source_machine, source_path, Path(target_path))


def _split(place):
    name, colon, path = place.partition(":")
    return (name, path) if colon and name in machine.names() else (None, place)


def _into(name, source, target):
    if not source.is_file():
        raise LabError(f"{source} is not a file")
    mode = f"{source.stat().st_mode & 0o777:o}"
    with open(source, "rb") as data:
        done = machine.run(name, ["sh", "-c", RECEIVE, "sh", target, source.name, mode], stdin=data)
    if done.returncode:
        raise LabError(f"cannot write {name}:{target}: {done.stdout.strip()}")


def _out_of(name, source, target):
    if target.is_dir():
        target = target / Path(source).name
    unfinished = target.with_name(target.name + ".unfinished")
    with open(unfinished, "wb") as data:
        done = machine.run(name, ["cat", "--", source], stdout=data, stderr=subprocess.PIPE)
    if done.returncode:
        unfinished.unlink()
        raise LabError(f"cannot read {name}:{source}: {done.stderr.strip()}")
    mode = machine.run(name, ["stat", "-L", "-c", "%a", "--", source]).stdout.strip()
    os.chmod(unfinished, int(mode, 8))
    unfinished.rename(target)
