"""The lab's machines, as the scenarios use them."""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LAB = ROOT / "tests/lab/lab"


class Failed(Exception):
    """Something is not as the scenario says; the text tells what."""


def lab(*arguments, timeout=300):
    """One command of the lab; what it prints goes to our own output."""
    done = subprocess.run([LAB, *arguments], stdin=subprocess.DEVNULL, timeout=timeout)
    if done.returncode:
        raise Failed(f"`lab {' '.join(arguments)}` ended with {done.returncode}")


def addresses():
    """The address of every machine."""
    done = subprocess.run([LAB, "status", "-o", "json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          timeout=60, check=True)
    return {machine["name"]: machine["address"] for machine in json.loads(done.stdout)}


def console(machine):
    """What a machine wrote to its console, also when it is off."""
    done = subprocess.run([LAB, "console", machine], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.stdout


def command_line(machine, command, user="root"):
    """What runs a command in a machine, with its terminal, streams and exit code."""
    return [str(LAB), "exec", machine, "--user", user, "--", *command]


def run(machine, *command, user="root", input=None, check=True, timeout=120):
    """Run a command in a machine; what it printed, standard error apart."""
    streams = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
    try:
        done = subprocess.run(command_line(machine, command, user), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, errors="replace", timeout=timeout, **streams)
    except subprocess.TimeoutExpired:
        raise Failed(f"`{' '.join(command)}` on {machine} did not end within {timeout} s") from None
    if check and done.returncode:
        raise Failed(f"`{' '.join(command)}` on {machine} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done
