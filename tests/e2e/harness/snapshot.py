"""What a machine is like, line by line, so that two moments can be compared: files, units, links, routes, rules, sysctls."""

import difflib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .lab import Failed, run

# What the kernel counts, draws or writes by itself; each is in every machine, or `look_at` fails.
VOLATILE = {
    "fs.aio-nr": "how much is under way",
    "fs.dentry-state": "a count",
    "fs.file-nr": "a count",
    "fs.inode-nr": "a count",
    "fs.inode-state": "a count",
    "fs.quota.syncs": "a count",
    "kernel.ns_last_pid": "the last process id",
    "kernel.pty.nr": "a count",
    "kernel.random.entropy_avail": "how much there is",
    "kernel.random.uuid": "another one at every look",
    "net.netfilter.nf_conntrack_count": "a count",
}


@dataclass(frozen=True)
class Tolerated:
    """A difference that may be, on one of the machines at least must be: what it is about, the whole line as `differences`
    writes it, and why."""
    kind: str
    line: str
    reason: str

    def covers(self, kind, line):
        return kind == self.kind and re.fullmatch(self.line, line) is not None


def take(machines):
    """All of them as they are now."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(machines, pool.map(look_at, machines)))


def look_at(machine):
    """Lists that have an order of their own keep it; the others are sorted."""
    return {
        "files": files(machine, "/etc", "/home", "/root"),
        "units": sorted(columns(machine, 3, "systemctl", "list-unit-files", "--all")),
        # A kubelet without a configuration runs for a moment every ten seconds.
        "running": sorted(re.sub(r"^(kubelet\.service loaded) active running$", r"\1 activating auto-restart", unit) for unit in
                          columns(machine, 4, "systemctl", "list-units", "--all", "--type=service,swap,mount")),
        "links": links(machine),
        "addresses": addresses(machine),
        "routes": sorted(f"{family} {line.rstrip()}" for family in ("-4", "-6")
                         for line in lines(machine, "ip", family, "route", "show", "table", "all")),
        "routing": [f"{family} {line}" for family in ("-4", "-6") for line in lines(machine, "ip", family, "rule")],
        "rules": rules(machine),
        "sysctls": sysctls(machine),
        # How much of a swap is used changes by itself.
        "host": lines(machine, "hostname") + lines(machine, "awk", "{print $1, $2, $3}", "/proc/swaps"),
    }


def files(machine, *folders):
    """Every entry with its type, mode, owner and group, and where a link leads or what a file holds."""
    # No name holds a tab: each would be a line that cannot be read, and fail.
    listed = lines(machine, "find", *folders, "-printf", r"%p\t%y %m %u:%g\t%l\n")
    digests = dict(reversed(line.split("  ", 1)) for line in
                   lines(machine, "find", *folders, "-type", "f", "-exec", "sha256sum", "{}", "+"))
    found = []
    for line in listed:
        path, what, target = line.split("\t")
        found.append(f"{path} {what} {target or digests.get(path, '')}".rstrip())
    return sorted(found)


def links(machine):
    """Every link of the network, veths too: what it is and whether it is up."""
    described = []
    for link in json.loads(run(machine, "ip", "-j", "-d", "link").stdout):
        about = [link["ifname"], link.get("linkinfo", {}).get("info_kind", link["link_type"]), link["operstate"],
                 *sorted(link["flags"]), f"mtu {link['mtu']}", link.get("address", ""), f"master {link.get('master')}"]
        described.append(" ".join(about))
    return sorted(described)


def addresses(machine):
    return sorted(f"{link['ifname']} {address['local']}/{address['prefixlen']} {address['scope']}"
                  for link in json.loads(run(machine, "ip", "-j", "address").stdout) for address in link["addr_info"])


def rules(machine):
    """The packet filter, every table in its order, by each of iptables' two ways into the kernel and by nftables' own; and
    what IPVS balances. A tool that the machine does not have shows nothing."""
    found = []
    for family in ("iptables", "ip6tables"):
        for way in ("nft", "legacy"):
            tables, table = {}, None
            for line in lines(machine, f"{family}-{way}-save"):
                if line.startswith("*"):
                    table = tables.setdefault(line, [line])
                elif not line.startswith("#"):
                    table.append(re.sub(r" \[\d+:\d+\]$", "", line))
            found += [f"{family} {way} {name}: {line}" for name in sorted(tables) for line in tables[name]]
    for name, command in {"nft": ["nft", "list", "ruleset"], "ipset": ["ipset", "save"]}.items():
        if run(machine, "which", name, check=False).returncode == 0:
            found += [f"{name}: {re.sub(r'packets [0-9]+ bytes [0-9]+', '', line)}" for line in lines(machine, *command)]
    return found + [f"ipvs: {line}" for line in lines(machine, "sh", "-c", "test ! -e /proc/net/ip_vs || cat /proc/net/ip_vs")]


def sysctls(machine):
    # It ends with an error for each that can be written only.
    said = run(machine, "sysctl", "-a", check=False).stdout.splitlines()
    names = {line.split(" = ")[0] for line in said}
    if strangers := VOLATILE.keys() - names:
        raise Failed(f"{machine} has no such sysctls, so they need no exception: {sorted(strangers)}")
    return sorted(line for line in said if line.split(" = ")[0] not in VOLATILE)


def columns(machine, number, *command):
    """The first columns, whose width is that of the longest entry in them."""
    return [" ".join(line.split()[:number]) for line in lines(machine, *command, "--no-legend", "--plain")]


def lines(machine, *command):
    return run(machine, *command).stdout.splitlines()


def differences(before, after):
    """The lines of every kind that are gone (-) or new (+); one that stands elsewhere in its list is both."""
    found = []
    for kind in before:
        matcher = difflib.SequenceMatcher(None, before[kind], after[kind], autojunk=False)
        for what, old_from, old_to, new_from, new_to in matcher.get_opcodes():
            if what != "equal":
                found += [(kind, f"- {line}") for line in before[kind][old_from:old_to]]
                found += [(kind, f"+ {line}") for line in after[kind][new_from:new_to]]
    return found


def expect_equal(what, before, tolerated=()):
    """Every machine is as it was, but for what is tolerated, all of which must be there on one machine or another."""
    after = take(before)
    found = {machine: differences(before[machine], after[machine]) for machine in before}
    problems = [f"{machine}: {kind}: {line}" for machine, its in found.items() for kind, line in its
                if not any(may.covers(kind, line) for may in tolerated)]
    problems += [f"no machine shows the tolerated difference {may.kind}: {may.line} ({may.reason})" for may in tolerated
                 if not any(may.covers(kind, line) for its in found.values() for kind, line in its)]
    if problems:
        raise Failed(f"after {what}:\n" + "\n".join(problems))
    return found
