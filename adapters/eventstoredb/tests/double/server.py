"""A double of EventStoreDB and KurrentDB: their gRPC protocol in front of a `Database`.

The real clients talk to it as they talk to the real servers. Run with ``-m`` it serves in a
process of its own: it prints its port, and does what each line of its input says: ``empty``,
``restart``, or a list in JSON: ``["truncate", STREAM, $tb]`` or ``["fault", KIND, METHOD, TIMES]``.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from adapters.eventstoredb.tests.double.sessions import Sessions
from adapters.eventstoredb.tests.double.state import Double, Fault
from adapters.eventstoredb.tests.double.streams import Streams
from adapters.eventstoredb.tests.double.stubs import aio, v1, v2
from adapters.eventstoredb.tests.double.versions import Version


@asynccontextmanager
async def serve(double: Double) -> AsyncGenerator[Double, None]:
    """Serve on a free port of the loopback interface, or on the one where it was before."""
    server = aio.server(
        options=[
            # The methods have limits of their own.
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
    )
    v1.grpc.add_StreamsServicer_to_server(Streams(double), server)
    if v2 is not None and double.rules.sessions:
        v2.add_to_server(double, server, Sessions(double))
    double.port = server.add_insecure_port(f"127.0.0.1:{double.port}")
    double.attend()
    await server.start()
    try:
        yield double
    finally:
        double.frozen.clear()
        await server.stop(grace=None)
        # Calls may end a little after the server. One that outlived its event loop would be
        # reported to the next loop that uses gRPC, as an error there.
        if calls := double.late | set(filter(_is_of_grpc, asyncio.all_tasks())):
            _, stuck = await asyncio.wait(calls, timeout=10)
            assert not stuck, stuck


def _is_of_grpc(task: asyncio.Task[Any]) -> bool:
    """Return whether a task is one of gRPC's own, whose coroutines are compiled."""
    return not inspect.iscoroutine(task.get_coro())


async def _main(arguments: Sequence[str]) -> None:
    """Serve until standard input ends."""
    double = Double(version=cast("Version", arguments[0]) if arguments else "26.1")
    loop = asyncio.get_running_loop()
    line = "restart\n"
    while line == "restart\n":
        async with serve(double):
            print(double.port, flush=True)  # noqa: T201  # its parent reads it
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                if line == "restart\n":
                    break
                _do(double, line)
                print("done", flush=True)  # noqa: T201  # as above


def _do(double: Double, line: str) -> None:
    """Do what a line says."""
    if line == "empty\n":
        double.reset()
        double.attend()
        return
    match json.loads(line):
        case ["truncate", str(stream), int(before)]:
            double.database.truncate(stream, before)
        case ["fault", kind, method, int(times)]:
            double.faults[:] = [Fault(kind, method, times)]
        case other:
            message = f"{other!r} is nothing that it does"
            raise ValueError(message)


if __name__ == "__main__":
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    asyncio.run(_main(sys.argv[1:]))
