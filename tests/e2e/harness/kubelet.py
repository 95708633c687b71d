"""A fault that comes when a machine's kubelet starts."""

from .lab import run


def when_it_starts(machine, command):
    """Something that the machine does before every start of its kubelet."""
    run(machine, "mkdir", "-p", "/etc/systemd/system/kubelet.service.d")
    text = f"[Service]\nExecStartPre=+/bin/sh -c '{command}'\n"
    run(machine, "tee", "/etc/systemd/system/kubelet.service.d/fault.conf", input=text)
    run(machine, "systemctl", "daemon-reload")


def never_mind(machine):
    run(machine, "rm", "/etc/systemd/system/kubelet.service.d/fault.conf")
    run(machine, "systemctl", "daemon-reload")
