"""The seven programs of Kubernetes, built once from Debian's source package and kept in the cache."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from . import debian
from .cgroups import join_build
from .state import CACHE, LabError, cached, digest, say

VERSION = "1.20.2"
RECIPE = Path(__file__).parent / "recipes" / "kubernetes.sh"


def key():
    """Changes with the version and with what the recipe does, not with its comments."""
    return digest(VERSION, RECIPE)


def programs():
    """The directory with the seven programs; builds them if need be, which takes about 20 minutes on two cores."""
    return cached("kubernetes", key(), _build)


def _build(out):
    """Run the recipe in a scratch directory that goes afterwards: of several GB only the programs are kept."""
    for old in CACHE.glob("build-of-kubernetes-*"):
        shutil.rmtree(old)
    work = Path(tempfile.mkdtemp(prefix="build-of-kubernetes-", dir=CACHE))
    log = CACHE / "build-of-kubernetes.log"
    say(f"building Kubernetes {VERSION} from source (about 20 minutes on two cores); the log is {log}")
    environment = {**debian.private_apt(), "UPSTREAM": VERSION, "WORK": str(work), "OUT": str(out)}
    try:
        with open(log, "w") as output:
            # At a lower priority: whoever else works on this host meanwhile goes first.
            status = subprocess.run(["nice", "-n", "5", "bash", str(RECIPE)], env=environment, preexec_fn=join_build,
                                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT).returncode
        if status:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise LabError(f"the build of Kubernetes failed; the end of {log}:\n{tail}")
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(work)])
        shutil.rmtree(work)
