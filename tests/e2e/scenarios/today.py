"""Today's Kubernetes on containerd, with real flannel and CoreDNS: the main job, the same command again, and the way back."""

from harness.cluster import whole_way
from harness.lab import Failed, run


def todays_kubernetes(report):
    cluster = whole_way(2, report, era="today")
    report.figure(f"again: nothing to do in {cluster.expect_nothing_to_do():.1f} s")
    cluster.reset("--all")
    for machine in cluster.nodes:
        for what, command in [("containers", ["ctr", "-n", "k8s.io", "tasks", "ls", "-q"]),
                              ("listeners", ["ss", "-Hltn", "( sport = :6443 or sport = :10250 or sport = :2379 )"])]:
            left = run(machine, *command).stdout.strip()
            if left:
                raise Failed(f"after the reset of {machine} there are {what}: {left}")
    cluster.bootstrap()
    cluster.expect_whole()


SCENARIOS = [todays_kubernetes]
