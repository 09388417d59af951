"""`python -m tidegate.serve.probe [HOST:PORT]`: whether a server serves, for health checks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGET = "127.0.0.1:50051"
_SECONDS = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Asks once; returns 0 only when the server says that it serves."""
    target = next(iter(sys.argv[1:] if arguments is None else arguments), TARGET)
    with grpc.insecure_channel(target) as channel:
        # Its type hints leave the methods out.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        except grpc.RpcError as error:
            print(f"{target}: {error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    print(f"{target}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main())
