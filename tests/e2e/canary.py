#!/usr/bin/env python3
"""Runs inside a machine, for scenarios/secrets.py: watches what every process shows of itself, collects the secrets that
come and go, and looks for secrets afterwards where none may be.

    canary.py watch       until the file `stop` is there: samples /proc, collects secrets; may be started again
    canary.py search      reads secrets from standard input, one a line; prints each place that holds one
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("/root/canary")
ADMIN = Path("/etc/kubernetes/admin.conf")
BOOTSTRAP = Path("/etc/kubernetes/bootstrap-kubelet.conf")
OUTPUT = Path("/run/muster-agent/output")
# What Muster and the machine write for good, or show.
PLACES = ["/var/lib/muster-agent", "/var/lib/muster-coordinator", "/run/muster-agent", "/run/muster-coordinator",
          "/etc/muster", "/var/log", "/run/systemd/transient", "/root/.bash_history", "/tmp", "/var/tmp"]


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def watch():
    FOLDER.mkdir(exist_ok=True)
    for left in ("stop", "result.json"):
        (FOLDER / left).unlink(missing_ok=True)
    seen, secrets, loose = set(), set(), set()
    rounds, next_question = 0, 0.0
    while not (FOLDER / "stop").exists():
        rounds += 1
        for name in os.listdir("/proc"):
            if name.isdigit():
                seen.add(read(Path("/proc", name, "cmdline")))
                seen.add(read(Path("/proc", name, "environ")))
        secrets.update(re.findall(r"\b[a-z0-9]{6}\.([a-z0-9]{16})\b", read(BOOTSTRAP).decode(errors="replace")))
        for path in OUTPUT.glob("*"):
            try:
                if path.stat().st_mode & 0o077:
                    loose.add(f"{path} has mode {path.stat().st_mode & 0o777:o} while its program runs")
            except OSError:
                pass  # gone already
        if ADMIN.exists() and time.monotonic() > next_question:
            secrets.update(bootstrap_secrets() | key_lines())
            next_question = time.monotonic() + 2
        time.sleep(0.03)
    (FOLDER / "samples").write_bytes(b"\n".join(seen))
    (FOLDER / "result.json").write_text(json.dumps(
        {"rounds": rounds, "secrets": sorted(secrets), "loose": sorted(loose)}))


def bootstrap_secrets():
    """The secret halves of the join tokens that the cluster knows now."""
    asked = subprocess.run(
        ["kubectl", "--kubeconfig", ADMIN, "--request-timeout=3s", "-n", "kube-system", "get", "secrets", "-o", "json",
         "--field-selector", "type=bootstrap.kubernetes.io/token"], capture_output=True, text=True)
    items = json.loads(asked.stdout)["items"] if asked.returncode == 0 else []
    return {base64.b64decode(item["data"]["token-secret"]).decode() for item in items}


def key_lines():
    """Lines out of the middle of admin.conf's private key, as base64 in the file and as PEM."""
    found = re.search(rb"client-key-data: (\S+)", read(ADMIN))
    try:
        pem = base64.b64decode(found[1]).decode() if found else ""
    except ValueError:
        pem = ""
    # kubeadm may be in the middle of writing it.
    return {found[1][200:264].decode(), pem.splitlines()[5]} if "-----END" in pem else set()


def search():
    secrets = [line.strip().encode() for line in sys.stdin if line.strip()]
    # A whole enrolment token, also one that nobody outside saw: that of the master's own agent.
    patterns = [re.escape(secret) for secret in secrets] + [rb"muster-token\.1\.[0-9a-f]{16}\.[A-Za-z0-9_-]{43}"]
    any_of_them = re.compile(b"|".join(patterns))
    places = {"samples of /proc/*/cmdline and environ": read(FOLDER / "samples")}
    commands = [["journalctl", "-b", "--no-pager", "--all", "-o", "verbose"], ["systemctl", "show", "*", "--no-pager"]]
    for program in filter(shutil.which, ["agent", "coordinator"]):
        commands += [[program, "journal"], [program, "journal", "-o", "json"]]
    for command in commands:
        name, done = "`" + " ".join(command) + "`", subprocess.run(command, capture_output=True)
        places[name] = done.stdout + done.stderr
        if not done.stdout:
            print(f"{name} said nothing and ended with {done.returncode}: it proves nothing")
    for place in PLACES:
        files = [Path(place)] if Path(place).is_file() else Path(place).rglob("*")
        places.update((str(path), read(path)) for path in files if path.is_file())
    print(f"{len(places)} places, {sum(map(len, places.values())) // 1024} KiB", file=sys.stderr)
    for place, content in places.items():
        if found := any_of_them.search(content):
            start, end = max(0, found.start() - 60), found.end() + 20
            print(f"{place}: {content[start:end]!r}")
    # The search itself must be able to find something.
    if not any_of_them.search(read(ADMIN)) and ADMIN.exists():
        print("the search does not find admin.conf's key in admin.conf: it proves nothing")


if __name__ == "__main__":
    {"watch": watch, "search": search}[sys.argv[1]]()
