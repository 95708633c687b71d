"""Debian packages made from built programs, and the index that makes a directory of them an apt repository."""

import hashlib
import shutil
import subprocess
from pathlib import Path


def package(out, work, name, version, summary, depends, files, scripts=None, more=()):
    """One binary package. A file's content is a text or the path of a program to copy."""
    tree = work / name
    architecture = subprocess.run(["dpkg", "--print-architecture"], stdout=subprocess.PIPE, text=True,
                                  check=True).stdout.strip()
    control = [f"Package: {name}", f"Version: {version}", f"Architecture: {architecture}",
               "Maintainer: The lab of Muster <root@localhost>", "Section: misc", "Priority: optional",
               *more, f"Description: {summary}", " Built by the lab of Muster from the program's own source."]
    if depends:
        control.insert(3, f"Depends: {depends}")
    for path, content in {"DEBIAN/control": "\n".join(control) + "\n", **files}.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copy(content, target)
            target.chmod(0o755)
        else:
            target.write_text(content)
            target.chmod(0o644)
    for script, content in (scripts or {}).items():
        (tree / "DEBIAN" / script).write_text(content)
        (tree / "DEBIAN" / script).chmod(0o644 if script == "conffiles" else 0o755)
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", tree, out], check=True,
                   stdout=subprocess.DEVNULL)


def index(out):
    """Make the directory what apt reads."""
    lists = subprocess.run(["dpkg-scanpackages", "-m", "."], cwd=out, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           check=True).stdout
    (out / "Packages").write_bytes(lists)
    (out / "Release").write_text(f"Suite: lab\nDate: Thu, 01 Jan 1970 00:00:00 UTC\n"
                                 f"SHA256:\n {hashlib.sha256(lists).hexdigest()} {len(lists)} Packages\n")
