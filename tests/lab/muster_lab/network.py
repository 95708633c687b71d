"""The lab's network: a switch in a namespace of its own, one namespace per machine, and no way out of the host.

    m1 10.88.0.11 ---+
    w1 10.88.0.12 ---+--- muster-switch (bridge, 10.88.0.1)
    w2 10.88.0.13 ---+

With the NAT trap every machine has a first card as VirtualBox gives it: the same 10.0.2.15 everywhere, a gateway
10.0.2.2 of its own, and the default route. Programs that take "the address of the default route" all take that one.
"""

import subprocess
from pathlib import Path

from . import cgroups
from .state import LabError

SWITCH = "muster-switch"
GATEWAY = "10.88.0.1"
NAT_ADDRESS, NAT_GATEWAY = "10.0.2.15", "10.0.2.2"


def address(index):
    """The address of the index-th machine (m1 is 0)."""
    return f"10.88.0.{11 + index}"


def namespace(machine):
    """The name under which `ip netns` knows the machine's network."""
    return f"muster-{machine}"


def _ip(*lines, netns=None):
    """Run several `ip` commands in one process; they must all succeed."""
    command = ["ip", *(["-n", netns] if netns else []), "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", text=True, stderr=subprocess.PIPE,
                          stdout=subprocess.DEVNULL)
    if done.returncode:
        raise LabError(f"`ip` failed: {done.stderr.strip()}; it was given:\n" + "\n".join(lines))


def _exists(netns):
    return Path("/run/netns", netns).exists()


def _forget_the_rest(netns):
    """Answer "unreachable" at once to all that is not in the lab: a program that calls home then fails fast, not slowly."""
    subprocess.run(["ip", "netns", "exec", netns, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], check=True)
    _ip("route add unreachable default", netns=netns)


def build_switch():
    """Make the switch that all machines are plugged into, and the name server behind it."""
    _ip(f"netns add {SWITCH}")
    _ip("link set lo up",
        "link add switch0 type bridge",
        f"addr add {GATEWAY}/24 dev switch0",
        "link set switch0 up", netns=SWITCH)
    _forget_the_rest(SWITCH)
    _start_name_server()


def _start_name_server():
    """One that knows no name and says so at once: programs that look something up fail fast, and CoreDNS has whom to ask,
    without which it does not start. It ends with the lab's control groups."""
    done = subprocess.run(
        ["ip", "netns", "exec", SWITCH, "dnsmasq", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--local=/#/",
         f"--listen-address={GATEWAY}", "--bind-interfaces", "--user=root", "--pid-file="],
        preexec_fn=lambda: cgroups.join_own("resolver"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise LabError(f"the lab's name server does not start: {done.stdout.strip()}")


def plug_in(machine, index, nat_trap, link_up):
    """Make the machine's network afresh: after a reboot nothing of the old routes, bridges and rules may be left."""
    unplug(machine)
    own = namespace(machine)
    _ip(f"netns add {own}")
    _ip("link set lo up", netns=own)
    if nat_trap:
        _plug_in_nat(machine, own, index)
    card = "enp0s8" if nat_trap else "eth0"
    _ip(f"link add {card} address 08:00:27:00:08:{index:02x} netns {own} type veth peer name {machine} netns {SWITCH}")
    _ip(f"link set {machine} master switch0", f"link set {machine} {'up' if link_up else 'down'}", netns=SWITCH)
    _ip(f"addr add {address(index)}/24 dev {card}", f"link set {card} up", netns=own)
    if not nat_trap:
        _ip(f"route add default via {GATEWAY} dev {card}", netns=own)


def _plug_in_nat(machine, own, index):
    """The VirtualBox NAT card: an isolated link to a gateway that only this machine sees."""
    nat = f"muster-nat-{machine}"
    _ip(f"netns add {nat}",
        f"link add enp0s3 address 08:00:27:00:03:{index:02x} netns {own} type veth peer name nat0 netns {nat}")
    _ip("link set lo up", f"addr add {NAT_GATEWAY}/24 dev nat0", "link set nat0 up", netns=nat)
    _ip(f"addr add {NAT_ADDRESS}/24 dev enp0s3", "link set enp0s3 up",
        f"route add default via {NAT_GATEWAY} dev enp0s3", netns=own)
    _forget_the_rest(nat)


def unplug(machine):
    """Remove the machine's network with all that was made in it; its end in the switch goes with it."""
    for netns in (namespace(machine), f"muster-nat-{machine}"):
        if _exists(netns):
            _ip(f"netns del {netns}")
    if _exists(SWITCH):
        # The kernel removes a dead namespace's links a moment later; the name must be free now.
        subprocess.run(["ip", "-n", SWITCH, "link", "del", machine], stderr=subprocess.DEVNULL)


def set_link(machine, up):
    """Pull or plug the cable at the switch's end; with it down the machine's own card loses its carrier."""
    _ip(f"link set {machine} {'up' if up else 'down'}", netns=SWITCH)


def remove_all():
    """Remove every namespace of the lab, also those of a lab whose state was lost."""
    for path in Path("/run/netns").glob("muster-*") if Path("/run/netns").is_dir() else []:
        _ip(f"netns del {path.name}")
