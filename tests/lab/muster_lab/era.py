"""What the machines of a lab are made of: the Debian, the container runtime and the Kubernetes of a time."""

from dataclasses import dataclass

from .state import LabError


@dataclass(frozen=True)
class Era:
    """One choice of what goes together. Everything in the cache that differs between two of them is named after it."""
    kubernetes: str
    debian: str
    # "docker" (Debian's) or "containerd.io" (built from its module, packaged as Docker does it).
    runtime: str

    @property
    def name(self):
        """As a person names it on the command line."""
        return "manual" if self == MANUAL else "today"


MANUAL = Era("1.20.2", "bookworm", "docker")
TODAY = Era("1.36.3", "trixie", "containerd.io")
# Of every version that is built from its Go module there is a folder in ../modules.
ALL = [MANUAL, TODAY]


def chosen(name, kubernetes=None):
    """The era that a person means; a version of Kubernetes says it alone."""
    if kubernetes is None:
        return TODAY if name == "today" else MANUAL
    found = [era for era in ALL if era.kubernetes == kubernetes.removeprefix("v") and name in (None, era.name)]
    if not found:
        raise LabError(f"no Kubernetes {kubernetes} here{f' in the era {name}' if name else ''}; there are: "
                       + ", ".join(era.kubernetes for era in ALL))
    return found[0]
