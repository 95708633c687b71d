"""Debian packages from the mirrors that this host itself uses, without touching the host's own apt configuration."""

import os
import re
import subprocess
from pathlib import Path

from .cgroups import join_build
from .state import CACHE, LabError

# What machines are made of; a host of one of these has mirrors of the other too.
RELEASES = ("bookworm", "trixie")


def _deb822_entries(text):
    """Yield the stanzas of a .sources file as dictionaries; continuation lines are folded in, comments dropped."""
    for stanza in re.split(r"\n\s*\n", text):
        fields, name = {}, None
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields:
            yield fields


def _one_line_entries(text):
    """Yield the entries of an old-style sources.list in the same form as those of a .sources file."""
    for line in text.splitlines():
        found = re.match(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<rest>[^#]*)", line)
        if found:
            options = dict(o.split("=", 1) for o in (found["options"] or "").split() if "=" in o)
            yield {"types": "deb", "uris": found["uri"], "suites": found["suite"], "components": found["rest"],
                   **options}


def host_entries(release):
    """The host's entries, for this release: where packages come from here is the host's decision, not the lab's."""
    entries = []
    etc = Path("/etc/apt")
    for path in sorted(etc.glob("sources.list.d/*.sources")):
        entries += _deb822_entries(path.read_text())
    for path in [etc / "sources.list", *sorted(etc.glob("sources.list.d/*.list"))]:
        if path.exists():
            entries += _one_line_entries(path.read_text())
    wanted = []
    for entry in entries:
        suites = {"-".join([release, *s.split("-")[1:]]) for s in entry.get("suites", "").split()
                  if s.split("-")[0] in RELEASES and "backports" not in s}
        if "deb" in entry.get("types", "").split() and suites and entry.get("enabled", "yes") != "no":
            wanted.append({**entry, "suites": " ".join(sorted(suites))})
    if not wanted:
        raise LabError(f"no entry for Debian {' or '.join(RELEASES)} in /etc/apt/sources.list.d: the lab takes its packages "
                       "from those mirrors")
    return wanted


def sources(release, types):
    """The host's entries as deb822 text, for binary packages ("deb") or also for sources ("deb deb-src")."""
    stanzas = []
    for entry in host_entries(release):
        lines = [f"Types: {types}", f"URIs: {entry['uris']}", f"Suites: {entry['suites']}", "Components: main"]
        if "signed-by" in entry:
            lines.append(f"Signed-By: {entry['signed-by']}")
        stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas)


def private_apt(release):
    """An environment in which apt-get sees the host's mirrors with source packages and keeps its lists in the cache."""
    home = CACHE / f"apt-{release}"
    (home / "lists/partial").mkdir(parents=True, exist_ok=True)
    (home / "archives/partial").mkdir(parents=True, exist_ok=True)
    (home / "lab.sources").write_text(sources(release, "deb deb-src"))
    (home / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{home}/lab.sources";\n'
        'Dir::Etc::SourceParts "/dev/null";\n'
        f'Dir::State::Lists "{home}/lists";\n'
        f'Dir::Cache "{home}";\n'
        'APT::Sandbox::User "root";\n')  # the lists' directory is root's
    return {**os.environ, "APT_CONFIG": str(home / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}


def missing(packages):
    """Those of the named packages that are not installed on the host."""
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    installed = {line.split()[0] for line in shown.splitlines() if line.endswith(" installed")}
    return [p for p in packages if p not in installed]


def install_on_host(packages):
    """Install with the host's own apt; its lists are fetched first, because images of Debian come without any."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "-qq", "update"],
                    ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *packages]):
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode:
            raise LabError(f"`{' '.join(command)}` failed on this host (its own words are above)")


def bootstrap(target, release, variant, packages, slim=False):
    """A new Debian tree (a directory, or a .tar file) from the host's mirrors, with the host's settings for fetching."""
    dump = subprocess.run(["apt-config", "dump"], stdout=subprocess.PIPE, text=True, check=True).stdout
    fetching = [line for line in dump.splitlines() if line.startswith("Acquire::")]
    command = ["mmdebstrap", "--mode=root", f"--variant={variant}", f"--include={','.join(packages)}",
               *(f"--aptopt={line}" for line in fetching), "--aptopt=Acquire::Languages \"none\"",
               # How the host fetches is none of the tree's business afterwards.
               "--customize-hook=rm -f $1/etc/apt/apt.conf.d/99mmdebstrap $1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"]
    if slim:
        command += [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")]
    command += [release, str(target), "-"]
    environment = {**os.environ, "TMPDIR": str(Path(target).parent)}
    done = subprocess.run(command, input=sources(release, "deb"), text=True, env=environment, preexec_fn=join_build,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise LabError(f"mmdebstrap could not make {target}:\n{tail}")
