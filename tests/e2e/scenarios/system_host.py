"""The agent's door to the real host: its tests need root, systemd and kubeadm, and so run in a machine."""

import json
import re
import subprocess

from harness.cluster import Cluster
from harness.lab import ROOT, Failed, lab, run

SOURCE = ROOT / "agent/tests/system_host.rs"
DOCUMENT = ROOT / "docs/security.md"
PROGRAM = "/root/system_host"


def system_host(report):
    report.cluster = Cluster(1)
    lab("cp", built(), f"m1:{PROGRAM}")
    # The variable makes a failure of what a test would pass over elsewhere.
    done = run("m1", "env", "MUSTER_REAL_HOST=1", PROGRAM, check=False, timeout=300)
    (report.folder / "tests.txt").write_text(done.stdout + done.stderr)
    tests = set(re.findall(r"#\[tokio::test\]\nasync fn (\w+)\(", SOURCE.read_text()))
    passed = set(re.findall(r"(?m)^test (\w+) \.\.\. ok$", done.stdout))
    if done.returncode or passed != tests:
        raise Failed(f"ended with {done.returncode}; not passed: {sorted(tests - passed)}\n{done.stdout}{done.stderr}")
    named = {name for name in tests if f"`{name}`" in DOCUMENT.read_text()}
    if not named:
        raise Failed(f"{DOCUMENT.name} names none of the tests in {SOURCE.name}")
    report.figure(f"{len(passed)} tests passed on a real host, {len(named)} of them named in {DOCUMENT.name}")


def built():
    """The test program. The machines are the Debian that the lab needs as its host, so that this host's build runs there."""
    done = subprocess.run(
        ["cargo", "test", "--locked", "--workspace", "--no-run", "--test", "system_host", "--message-format=json"],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=1800)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    programs = [message["executable"] for message in messages
                if message.get("target", {}).get("name") == "system_host" and message.get("executable")]
    if done.returncode or len(programs) != 1:
        raise Failed(f"cargo ended with {done.returncode} and made {programs}")
    return programs[0]


SCENARIOS = [system_host]
