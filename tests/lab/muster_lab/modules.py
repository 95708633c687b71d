"""Programs built from Go modules: each from a small module of its own in ../modules, whose go.mod and go.sum pin every
byte of source, by the Go that its folder's recipe names, and kept in the cache by version."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from .cgroups import join_build
from .state import CACHE, LabError, cached, digest, say

FOLDERS = Path(__file__).parent.parent / "modules"
# Sources and objects, 10 GB with Kubernetes in it; shared by all that one `lab prepare` builds, and gone at its end.
SCRATCH = CACHE / "build-of-modules"
# What fetches the exact Go that a module wants.
OLDEST_GO = (1, 21)
# Raised when a change of this file changes what is built; most do not, and all of Kubernetes takes long.
RECIPE = 1


@dataclass(frozen=True)
class Module:
    """A folder of ../modules and what is built from it."""
    folder: str
    # Go's version: the one of the module's own time.
    go: str
    # The import path of every program, and the name it gets.
    programs: dict
    # The linker's settings: what the program says of itself.
    stamps: dict = field(default_factory=dict)
    # Whether it has parts in C.
    c: bool = False
    # Packages that need a module which is not to be had, and that nobody calls here: they are built empty.
    emptied: tuple = ()
    # Other files of the module's, by the name they get.
    files: dict = field(default_factory=dict)

    def built(self):
        """The directory with the programs; builds them if need be."""
        return cached(f"go-{self.folder}", self.key(), self._build)

    def key(self):
        """Changes with what is built and with how."""
        return digest(RECIPE, vars(self), *(FOLDERS / self.folder / name for name in ("go.mod", "go.sum", "tools.go")))

    def _build(self, out):
        go = _go()
        log = CACHE / f"go-{self.folder}.log"
        say(f"building {self.folder} with Go {self.go}; the log is {log}")
        work = SCRATCH / self.folder
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(FOLDERS / self.folder, work)
        with open(log, "w") as output:
            def run(*command, **more):
                # At a lower priority: whoever else works on this host meanwhile goes first.
                if subprocess.run(["nice", "-n", "8", go, *command], cwd=work, env=_environment(self.go, self.c, **more),
                                  preexec_fn=join_build, stdin=subprocess.DEVNULL, stdout=output,
                                  stderr=subprocess.STDOUT).returncode:
                    output.flush()
                    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                    raise LabError(f"the build of {self.folder} failed; the end of {log}:\n{tail}")
            mode = "-mod=readonly"
            if self.emptied:
                mode = "-mod=vendor"
                run("mod", "vendor", "-e")
                for package in self.emptied:
                    _empty(work / "vendor" / package)
            stamps = " ".join(f"-X {name}={value}" for name, value in self.stamps.items())
            static = "-extldflags -static " if self.c else ""
            run("build", mode, "-trimpath", "-ldflags", f"-s -w {static}{stamps}", "-o", f"{out}/", *self.programs)
        for path, name in self.programs.items():
            built = out / re.sub(r"/v\d+$", "", path).rsplit("/", 1)[1]
            built.rename(out / name)
        for path, name in self.files.items():
            _copy_from_module(go, self.go, work, path, out / name)


def forget_scratch():
    """Delete sources and objects; Go makes its sources read-only."""
    if SCRATCH.exists():
        subprocess.run(["chmod", "-R", "u+w", SCRATCH])
        shutil.rmtree(SCRATCH)


def _environment(version, c=False):
    """Where modules come from is the host's decision (GOPROXY); everything else is the lab's."""
    return {**os.environ, "GOTOOLCHAIN": f"go{version}", "GOMODCACHE": str(SCRATCH / "mod"), "GOCACHE": str(SCRATCH / "cache"),
            "GOPATH": str(SCRATCH / "path"), "GOFLAGS": "", "GOWORK": "off", "CGO_ENABLED": "1" if c else "0"}


def _go():
    """The host's `go`, or what to install, in one sentence."""
    for place in [shutil.which("go"), "/usr/local/go/bin/go", *sorted(map(str, Path("/usr/lib").glob("go-1.*/bin/go")))]:
        if place and Path(place).exists():
            said = subprocess.run([place, "version"], env={**os.environ, "GOTOOLCHAIN": "local"}, stdout=subprocess.PIPE,
                                  text=True).stdout
            found = re.search(r"go(\d+)\.(\d+)", said)
            if found and tuple(map(int, found.groups())) >= OLDEST_GO:
                return place
    raise LabError("CoreDNS, flannel and today's Kubernetes are built with Go, of which this host has none from 1.21 on (that fetches the exact "
                   "version by itself): unpack one from https://go.dev/dl/ into /usr/local/go, or install golang-go from "
                   "Debian 13 or bookworm-backports")


def _empty(package):
    """Leave of a package only its name."""
    sources = sorted(package.glob("*.go"))
    clause = next(line for line in sources[0].read_text().splitlines() if line.startswith("package "))
    for source in sources:
        source.unlink()
    (package / "empty.go").write_text(f"{clause}\n")


def _copy_from_module(go, version, work, path, target):
    """A file beside the sources, out of the module that go.mod names; `path` is MODULE//FILE."""
    module, file = path.split("//")
    directory = subprocess.run([go, "list", "-mod=mod", "-m", "-f", "{{.Dir}}", module], cwd=work, env=_environment(version),
                               stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    shutil.copy(Path(directory, file), target)
    target.chmod(0o644)
