"""The seven programs of Kubernetes: 1.20.2 from Debian's source package, every other version from its Go module."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from . import components, debian, era
from .cgroups import join_build
from .state import CACHE, LabError, cached, digest, say

RECIPE = Path(__file__).parent / "recipes" / "kubernetes.sh"
COMPILER = ["golang-1.19-go"]


def key(made):
    """Changes with the version and with what the recipe does, not with its comments."""
    if made == era.MANUAL:
        return digest(made.kubernetes, RECIPE)
    return components.kubernetes(made.kubernetes).key()


def programs(made):
    """The directory with the seven programs; builds them if need be, which takes about 20 minutes on two cores."""
    if made == era.MANUAL:
        return cached("kubernetes", key(made), _build_from_source_package)
    return components.kubernetes(made.kubernetes).built()


def _build_from_source_package(out):
    """Run the recipe in a scratch directory that goes afterwards: of several GB only the programs are kept."""
    if debian.missing(COMPILER):
        debian.install_on_host(COMPILER)
    version = era.MANUAL.kubernetes
    for old in CACHE.glob("build-of-kubernetes-*"):
        shutil.rmtree(old)
    work = Path(tempfile.mkdtemp(prefix="build-of-kubernetes-", dir=CACHE))
    log = CACHE / "build-of-kubernetes.log"
    say(f"building Kubernetes {version} from source (about 20 minutes on two cores); the log is {log}")
    environment = {**debian.private_apt(era.MANUAL.debian), "UPSTREAM": version, "WORK": str(work), "OUT": str(out)}
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
