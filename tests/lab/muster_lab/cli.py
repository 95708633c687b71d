"""The commands of the lab, as a person or a test types them."""

import argparse
import json
import sys

from . import copying, era, lifecycle, machine, swap
from .state import LabError


def main(arguments):
    """Run one command; the exit code is the process's."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser():
    parser = argparse.ArgumentParser(prog="lab", description="Real systemd machines on this host, to test Muster on.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, help, run, *positional):
        added = commands.add_parser(name, help=help, description=help)
        for argument in positional:
            added.add_argument(argument, metavar=argument.upper())
        added.set_defaults(run=run)
        return added

    prepare = command("prepare", "build what is missing in the cache (the first time: half an hour for each era)",
                      lambda o: lifecycle.prepare(_eras(o)))
    up = command("up", "start a fresh lab: m1, w1, w2, ...", lambda o: lifecycle.up(_eras(o)[0], o.machines, o.nat_trap))
    for added, more in ((prepare, ["all"]), (up, [])):
        added.add_argument("--era", choices=["today", "manual", *more],
                           help=f"today ({era.TODAY.kubernetes} on containerd) or manual ({era.MANUAL.kubernetes} on Docker)")
        added.add_argument("--kubernetes", metavar="VERSION",
                           help="another version: " + ", ".join(each.kubernetes for each in era.ALL))
    up.add_argument("--machines", type=_count, default=2, metavar="N", help="how many (default 2)")
    up.add_argument("--nat-trap", action="store_true",
                    help="a first card with the same 10.0.2.15 in every machine, as VirtualBox NAT gives it")
    inside = command("exec", "run a command in a machine: lab exec m1 [--user NAME] -- CMD...", _exec, "machine")
    inside.add_argument("--user", default="root", metavar="NAME")
    inside.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD...")
    command("cp", "copy a file: lab cp FILE MACHINE:PATH, or lab cp MACHINE:PATH FILE",
            lambda o: copying.copy(o.source, o.target), "source", "target")
    command("reboot", "reboot a machine cleanly and wait until it is up", lambda o: machine.reboot(o.machine), "machine")
    command("power-cut", "pull a machine's plug", lambda o: machine.power_cut(o.machine), "machine")
    command("start", "switch a machine on and wait until it is up", lambda o: lifecycle.start(o.machine), "machine")
    link = command("link", "plug or pull a machine's network cable", lambda o: lifecycle.set_link(o.machine, o.state), "machine")
    link.add_argument("state", choices=["up", "down"])
    swapping = command("swap", "give a machine swap, or take it away", lambda o: swap.set_swap(o.machine, o.state), "machine")
    swapping.add_argument("state", choices=["on", "off"])
    command("console", "show what a machine wrote to its console, also when it is off",
            lambda o: print(machine.console(o.machine), end=""), "machine")
    status = command("status", "show the machines", _status)
    status.add_argument("-o", dest="format", choices=["json"])
    down = command("down", "remove every trace of the lab, except the cache", lambda o: lifecycle.down(o.purge))
    down.add_argument("--purge", action="store_true", help="remove the cache too")
    # Not for people: a machine's supervisor.
    hidden = commands.add_parser("supervise")
    hidden.add_argument("machine")
    hidden.set_defaults(run=lambda o: machine.supervise(o.machine))
    return parser


def _eras(options):
    if options.era == "all":
        return [era.TODAY, era.MANUAL]
    return [era.chosen(options.era, options.kubernetes)]


def _count(text):
    number = int(text)
    if not 1 <= number <= 9:
        raise argparse.ArgumentTypeError("between 1 and 9")
    return number


def _exec(options):
    command, user = options.command, options.user
    # argparse hands everything after MACHINE to the command; `--user` may stand there too.
    while command and command[0] != "--" and command[0].startswith("--user"):
        if "=" in command[0]:
            user, command = command[0].split("=", 1)[1], command[1:]
        else:
            user, command = command[1], command[2:]
    if command and command[0] == "--":
        command = command[1:]
    if not command:
        raise LabError("exec needs a command: lab exec MACHINE [--user NAME] -- CMD...")
    sys.stdout.flush()
    machine.become(options.machine, command, user)


def _status(options):
    machines = lifecycle.status()
    if options.format == "json":
        print(json.dumps(machines, indent=2))
        return
    if not machines:
        print("no lab is up")
        return
    columns = ["name", "address", "state", "link", "swap", "leader"]
    rows = [[column.upper() for column in columns]]
    rows += [[str({True: "on", False: "off", None: "-"}.get(m[c], m[c]) if c != "leader" else m[c] or "-") for c in columns]
             for m in machines]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
