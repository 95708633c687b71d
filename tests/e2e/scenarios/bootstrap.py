"""The main job: machines become a cluster with one command, and the same command again changes nothing."""

from harness.cluster import whole_way
from harness.lab import Failed

# The limit of the same command over a finished cluster, in seconds. The machines have nothing else to do then but to be a cluster.
NOTHING_TO_DO = 2


def two_machines(report):
    cluster = whole_way(2, report)
    # Of the run that made it: the next one finds nothing to do.
    cluster.save_record(report.folder)
    for figure in cluster.usage():
        report.figure(figure)
    seconds = cluster.expect_nothing_to_do()
    report.figure(f"again: nothing to do in {seconds:.1f} s (limit {NOTHING_TO_DO} s)")
    if seconds >= NOTHING_TO_DO:
        raise Failed(f"the same command over the finished cluster took {seconds:.1f} s")


def three_machines(report):
    cluster = whole_way(3, report)
    report.figure(f"again: nothing to do in {cluster.expect_nothing_to_do():.1f} s")


def one_machine(report):
    whole_way(1, report, runs_pods=True).expect_nothing_to_do()


SCENARIOS = [two_machines, three_machines, one_machine]
