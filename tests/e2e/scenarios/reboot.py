"""A finished cluster survives the reboot of all its machines, with swap that the installer had put into fstab."""

import time
from concurrent.futures import ThreadPoolExecutor

from harness.cluster import Cluster, whole_way
from harness.lab import Failed, lab, run

READY_AGAIN = 180


def reboot_all(report):
    cluster = whole_way(2, report, before=swap_on)
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        for rebooting in [pool.submit(lab, "reboot", machine) for machine in cluster.nodes]:
            rebooting.result()
    cluster.expect_whole(within=READY_AGAIN)
    report.figure(f"whole again {time.monotonic() - began:.0f} s after the reboot was asked for")
    cluster.expect_prepared()
    cluster.expect_done()
    cluster.expect_nothing_to_do()


def swap_on(cluster: Cluster):
    """One machine of a lab can have swap at a time."""
    lab("swap", "w1", "on")
    if len(run("w1", "cat", "/proc/swaps").stdout.splitlines()) != 2:
        raise Failed("w1 has no swap to turn off")


SCENARIOS = [reboot_all]
