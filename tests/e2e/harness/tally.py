"""A count of what kubeadm was really started for that is nobody's account of itself: a script in front of it."""

from .lab import Failed, run

# Before the packaged one on everybody's search path, Muster's too.
SCRIPT = "/usr/local/sbin/kubeadm"
BOOK = "/root/kubeadm-runs"
TEXT = f"""#!/bin/bash
# Writes down each start of what changes a machine, with the boot that it was in; and when one began beside another.
case "$1" in init | join | reset)
    echo "$(cat /proc/sys/kernel/random/boot_id) $1" >> {BOOK}
    exec 9>> {BOOK}.lock
    flock --nonblock 9 || echo "beside-another $1" >> {BOOK} ;;
esac
exec -a kubeadm /usr/bin/kubeadm "$@"
"""


def keep(machine):
    run(machine, "tee", SCRIPT, input=TEXT)
    run(machine, "chmod", "755", SCRIPT)


def read(machine):
    """The verbs in the order of their starts, a list for every boot of the machine that had one."""
    boots = {}
    for line in run(machine, "cat", BOOK).stdout.splitlines():
        boot, verb = line.split()
        if boot == "beside-another":
            raise Failed(f"kubeadm {verb} ran on {machine} while another one did")
        boots.setdefault(boot, []).append(verb)
    return list(boots.values())
