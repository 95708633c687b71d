"""A bootstrap under way, and what the status says of it meanwhile."""

import json
import subprocess
import time

from .cluster import HOME, USER
from .lab import Failed, command_line, run

# A cause that a journal names must be on the screen so many seconds later.
NAMED_WITHIN = 60
# kubeadm init gives up after 4 minutes, join's discovery after 2.
GIVES_UP_WITHIN = 330


class Running:
    """`coordinator bootstrap` in the background; what it prints lies in the report's folder."""

    def __init__(self, report, cluster, name, *options):
        self.path = report.folder / f"bootstrap-{name}.txt"
        self.cluster, self.report, self.name, self.options = cluster, report, name, options

    def __enter__(self):
        self.log = open(self.path, "wb")
        command = command_line("m1", ["coordinator", "bootstrap", "-f", f"{HOME}/cluster.yaml", *self.options])
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        self.log.close()

    def step(self, step_id):
        said = run("m1", "coordinator", "status", "-o", "json", user=USER, check=False).stdout
        steps = json.loads(said).get("steps", []) if said else []
        return next((step for step in steps if step["id"] == step_id), {"state": "pending", "detail": ""})

    def wait_for_change(self, step_id):
        """Until the step has begun to change its host."""
        end = time.monotonic() + GIVES_UP_WITHIN
        while self.step(step_id)["state"] != "changing":
            if time.monotonic() > end or self.process.poll() is not None:
                raise Failed(f"{step_id} never began to change anything; it says {self.step(step_id)}")
            time.sleep(0.2)

    def expect_named(self, step_id, cause):
        """The status names the cause soon after the program began, while it still runs."""
        began, end = None, time.monotonic() + GIVES_UP_WITHIN
        while time.monotonic() < end and self.process.poll() is None:
            step = self.step(step_id)
            if began is None and step["state"] == "changing":
                began = time.monotonic()
            if cause in step["detail"] and step["state"] == "changing":
                took = time.monotonic() - (began or time.monotonic())
                self.report.figure(f"{step_id} names its cause {took:.0f} s after it began: {step['detail'][:160]}")
                if took > NAMED_WITHIN:
                    raise Failed(f"the cause was named only after {took:.0f} s")
                return
            time.sleep(1)
        raise Failed(f"{step_id} never named {cause!r}; it says {self.step(step_id)}")

    def wait_for_end(self, within=GIVES_UP_WITHIN):
        """The exit code."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise Failed(f"the bootstrap ({self.name}) did not end within {within} s") from None

    def expect_end(self, code, within=GIVES_UP_WITHIN):
        ended = self.wait_for_end(within)
        if ended != code:
            raise Failed(f"the bootstrap ({self.name}) ended with {ended}, not {code}:\n{self.path.read_text()}")

    def all_failures(self):
        """The lines that say what failed: the first cause, then what else there is."""
        return [line for line in self.path.read_text(errors="replace").splitlines() if line.startswith(("BLOCKED", "FAILED", "also"))]

    def expect_first_line(self, where, cause):
        """The first failure that a person reads."""
        lines = self.all_failures()
        if not lines or where not in lines[0] or cause not in lines[0]:
            raise Failed(f"the first line of {self.name} does not say {where!r} and {cause!r}: {lines[:1]}")
        if "timed out waiting for the condition" in lines[0]:
            raise Failed(f"kubeadm's time-out stands alone: {lines[0]}")
        self.report.figure(lines[0][:220])
