"""Where the lab keeps things: the cache that outlives a lab, and the runtime state that `lab down` removes."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("MUSTER_LAB_CACHE") or "/var/cache/muster-lab")
# Not under the cache: what is running belongs to this boot of the host, and two caches must not run two labs at once.
RUN = Path("/run/muster-lab")
STATE_FILE = RUN / "state.json"


class LabError(Exception):
    """A failure whose text is the whole explanation; the entry point prints it without a traceback."""


def say(text):
    """Progress goes to standard error, so that `lab exec` and `lab status -o json` keep standard output to themselves."""
    import sys
    print(f"lab: {text}", file=sys.stderr, flush=True)


def digest(*parts):
    """A short name for "made from exactly these inputs". Comments and blank lines of a script do not count."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            part = part.read_text()
            part = "\n".join(l for l in part.splitlines() if l.strip() and not l.lstrip().startswith("# "))
        elif not isinstance(part, str):
            part = json.dumps(part, sort_keys=True)
        sha.update(part.encode() + b"\0")
    return sha.hexdigest()[:12]


def cached(kind, key, build):
    """The directory `kind-key` in the cache, made by `build(directory)` if it is not there yet.

    It is built under another name and renamed when complete, so that a half-finished build is never taken for a
    finished one. Results of the same kind with another key are of no use to anyone and go.
    """
    final = CACHE / f"{kind}-{key}"
    if final.is_dir():
        return final
    CACHE.mkdir(parents=True, exist_ok=True)
    for stale in CACHE.glob(f"{kind}-*"):
        shutil.rmtree(stale)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{kind}-unfinished-", dir=CACHE))
    unfinished.chmod(0o755)
    build(unfinished)
    os.sync()
    unfinished.rename(final)
    return final


@contextlib.contextmanager
def locked():
    """One command that changes the lab at a time; the second waits for the first."""
    while True:
        RUN.mkdir(parents=True, exist_ok=True)
        with open(RUN / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another lab command is at work; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                still_there = os.path.samestat(os.stat(RUN / "lock"), os.fstat(lock.fileno()))
            except FileNotFoundError:
                still_there = False
            if not still_there:
                continue  # the command before us was `lab down`, which removes the lock with everything else
            yield
            return


def load():
    """What `lab up` wrote about the lab that is up, or None."""
    try:
        return json.loads(STATE_FILE.read_text())
    except FileNotFoundError:
        return None


def save(state):
    """Write the state whole or not at all."""
    RUN.mkdir(parents=True, exist_ok=True)
    new = STATE_FILE.with_suffix(".new")
    new.write_text(json.dumps(state, indent=2) + "\n")
    new.rename(STATE_FILE)
