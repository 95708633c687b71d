"""A stock gRPC client, grpcio, without a line of Muster's code, reads the status as a user without any right."""

import json

from harness.cluster import USER, Cluster
from harness.lab import Failed, run

# Many releases of grpcio send the percent-encoded path of the socket as HTTP/2's :authority, which HTTP/2 servers refuse;
# hence grpc.default_authority. Requests are empty messages, so no generated code is needed.
CLIENT = r"""
import json, sys
import grpc

def call(socket, method, authority="localhost", request=b""):
    options = [("grpc.default_authority", authority)] if authority else []
    with grpc.insecure_channel(f"unix:/run/muster-coordinator/{socket}", options=options) as channel:
        try:
            answer = channel.unary_unary(method)(request, timeout=5)
            return ["OK", answer.decode("latin-1")]
        except grpc.RpcError as error:
            return [error.code().name, error.details()]

def reflection():
    with grpc.insecure_channel("unix:/run/muster-coordinator/status.sock",
                               options=[("grpc.default_authority", "localhost")]) as channel:
        # ServerReflectionRequest with list_services (field 7).
        call = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        return next(call(iter([b"\x3a\x00"]), timeout=5)).decode("latin-1")

print(json.dumps({
    "status": call("status.sock", "/muster.coordinator.v1.Status/Get"),
    "health": call("status.sock", "/grpc.health.v1.Health/Check"),
    "services": reflection(),
    "admin verb": call("status.sock", "/muster.coordinator.v1.Admin/ListNodes"),
    "admin socket": call("admin.sock", "/muster.coordinator.v1.Admin/ListNodes"),
    "without authority": call("status.sock", "/muster.coordinator.v1.Status/Get", authority=None),
}))
"""


def status_client(report):
    cluster = report.cluster = Cluster(1)
    cluster.install()
    run("m1", "coordinator", "init", "--address", cluster.address)
    said = json.loads(run("m1", "python3", "-", user=USER, input=CLIENT).stdout)
    for what, wanted in {"status": "OK", "health": "OK", "admin verb": "UNIMPLEMENTED", "admin socket": "UNAVAILABLE"
                         }.items():
        if said[what][0] != wanted:
            raise Failed(f"{what}: {said[what]}, not {wanted}")
    if said["health"][1] != "\x08\x01":
        raise Failed(f"health is not SERVING: {said['health']}")
    for service in ("muster.coordinator.v1.Status", "grpc.health.v1.Health"):
        if service not in said["services"]:
            raise Failed(f"reflection does not name {service}: {said['services']}")
    report.figure(f"without grpc.default_authority: {said['without authority'][0]}")


SCENARIOS = [status_client]
