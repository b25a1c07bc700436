"""The server's side of the protocol, from the wheel of whichever client is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, Final


grpc: Final[Any] = import_module("grpc")
aio: Final[Any] = import_module("grpc.aio")
any_pb2: Final[Any] = import_module("google.protobuf.any_pb2")

KURRENT: Final = find_spec("kurrentdbclient") is not None
"""Whether it is the newer client, which has protocol v2, too."""


def _v1() -> Any:
    base = "kurrentdbclient.protos.v1" if KURRENT else "esdbclient.protos.Grpc"
    return SimpleNamespace(
        streams=import_module(f"{base}.streams_pb2"),
        grpc=import_module(f"{base}.streams_pb2_grpc"),
        shared=import_module(f"{base}.shared_pb2"),
        status=import_module(f"{base}.status_pb2"),
    )


def _v2() -> Any:
    if not KURRENT:
        return None
    base = "kurrentdbclient.protos.v2.streams"
    service = import_module(f"{base}.streams_pb2_grpc")
    status = import_module("google.rpc.status_pb2")
    info = import_module("google.rpc.error_details_pb2")

    def add_to_server(_: Any, server: Any, servicer: Any) -> None:
        service.add_StreamsServiceServicer_to_server(servicer, server)

    def rich(code: str, message: str, *details: Any) -> tuple[Any, ...]:
        """Return the arguments of an abort as protocol v2 says it."""
        number = getattr(grpc.StatusCode, code)
        if code in {"UNKNOWN", "UNIMPLEMENTED"}:
            return number, message
        packed = [any_pb2.Any() for _ in range(len(details) + 1)]
        packed[0].Pack(info.ErrorInfo(reason=code, domain="kurrentdb"))
        for place, detail in zip(packed[1:], details, strict=True):
            place.Pack(detail)
        status_ = status.Status(code=number.value[0], message=message, details=packed)
        return number, message, (("grpc-status-details-bin", status_.SerializeToString()),)

    return SimpleNamespace(
        streams=import_module(f"{base}.streams_pb2"),
        errors=import_module(f"{base}.errors_pb2"),
        add_to_server=add_to_server,
        rich=rich,
        stub=service.StreamsServiceStub,
        bad_request=info.BadRequest,
        status=status.Status,
    )


v1: Final = _v1()
v2: Final = _v2()
