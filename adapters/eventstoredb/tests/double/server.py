"""A double of EventStoreDB and KurrentDB: their gRPC protocol in front of a `Database`.

The real clients talk to it as they talk to the real servers. Run as a script it serves in a
process of its own: it prints its port, and does what each line of its input says: ``empty`` or
``restart``.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import sys

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from uuid import uuid4


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[4]))

from adapters.eventstoredb.tests.double.database import (
    ANY,
    EXISTS,
    NO_STREAM,
    Appended,
    Database,
    InvalidPosition,
    NotFound,
    Proposed,
    Record,
    StreamDeleted,
    TooLarge,
    WrongExpectedVersion,
    matcher,
    render_properties,
)
from adapters.eventstoredb.tests.double.stubs import aio, any_pb2, grpc, v1, v2


Version: TypeAlias = Literal["24.10", "25.1", "26.1"]
"""Which server it stands for: without v2, with AppendSession, with AppendRecords, too."""

Kind: TypeAlias = Literal["drop-before", "drop-after", "drop-late", "slow", "not-leader"]
"""What may go wrong with a call.

``drop-before``: the call fails and nothing was done. ``drop-after``: it was done, but the answer
is lost. ``drop-late``: the answer is lost first, and it is done a moment later. ``slow``: it is
done after `Double.slowness` seconds. ``not-leader``: another node must be asked.
"""

LATENESS: Final = 0.2
_TYPES_OF_25: Final = re.compile(r"[a-zA-Z0-9_.$:-]+")
_LARGEST_MESSAGE: Final = 16_767_216


@dataclass
class Fault:
    """Something that goes wrong with the next calls of a method."""

    kind: Kind
    method: str
    """Such as ``BatchAppend``; ``*`` for all."""
    times: int = 1


@dataclass
class Double:
    """A server, and what a test may do to it."""

    version: Version = "26.1"
    database: Database = field(default_factory=Database)
    faults: list[Fault] = field(default_factory=list[Fault])
    calls: list[str] = field(default_factory=list[str])
    """The methods that were called, in order."""
    slowness: float = 0.3
    remembered_ids: int = 100_000
    """Of how many events the ids are known to appends with `any`."""
    leader_port: int = 0
    port: int = 0
    _committed: asyncio.Event = field(default_factory=asyncio.Event)
    late: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    """What will be done although its answer was lost."""

    def __post_init__(self) -> None:
        self.reset()

    @property
    def uri(self) -> str:
        """Where clients find it."""
        return f"esdb://127.0.0.1:{self.port}?Tls=false"

    def reset(self) -> None:
        """Forget everything."""
        newer = self.version != "24.10"
        size = 16 * 1024 * 1024 if newer else 1024 * 1024
        self.database = Database(max_append_size=size, remembered_ids=self.remembered_ids)
        self.faults.clear()
        self.calls.clear()

    def attend(self) -> None:
        """Let subscriptions know of each commit from now on."""
        self.database.on_commit = self._wake
        self._wake()

    def _wake(self) -> None:
        self._committed.set()
        self._committed = asyncio.Event()

    async def change(self) -> None:
        """Wait for the next commit."""
        await self._committed.wait()

    async def meet(self, method: str, context: Any) -> Fault | None:
        """Note a call, and fail it here if that is its fate; return what is to go wrong later."""
        self.calls.append(method)
        for fault in self.faults:
            if fault.times > 0 and fault.method in {method, "*"}:
                fault.times -= 1
                break
        else:
            return None
        match fault.kind:
            case "drop-before":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            case "not-leader":
                trailers = (
                    ("leader-endpoint-host", "127.0.0.1"),
                    ("leader-endpoint-port", str(self.leader_port)),
                )
                await context.abort(grpc.StatusCode.NOT_FOUND, "Leader info available", trailers)
            case "slow":
                await asyncio.sleep(self.slowness)
            case _:
                pass
        return fault

    async def do(self, fault: Fault | None, context: Any, work: Any) -> Any:
        """Do what a call asks for, unless its answer is to be lost."""
        if fault is not None and fault.kind == "drop-late":

            async def late() -> None:
                await asyncio.sleep(LATENESS)
                work()

            task = asyncio.create_task(late())
            self.late.add(task)
            task.add_done_callback(self.late.discard)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        result = work()
        if fault is not None and fault.kind == "drop-after":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        return result


@asynccontextmanager
async def serve(double: Double) -> AsyncGenerator[Double, None]:
    """Serve on a free port of the loopback interface, or on the one where it was before."""
    server = aio.server(
        options=[
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
    )
    v1.grpc.add_StreamsServicer_to_server(_Streams(double), server)
    if v2 is not None and double.version != "24.10":
        v2.add_to_server(double, server, _V2(double))
    double.port = server.add_insecure_port(f"127.0.0.1:{double.port}")
    double.attend()
    await server.start()
    try:
        yield double
    finally:
        await server.stop(grace=None)
        # Calls may end a little after the server. One that outlived its event loop would be
        # reported to the next loop that uses gRPC, as an error there.
        if calls := double.late | set(filter(_is_of_grpc, asyncio.all_tasks())):
            _, stuck = await asyncio.wait(calls, timeout=10)
            assert not stuck, stuck


def _is_of_grpc(task: asyncio.Task[Any]) -> bool:
    """Tell whether a task is one of gRPC's own, whose coroutines are compiled."""
    return not inspect.iscoroutine(task.get_coro())


class _Streams(v1.grpc.StreamsServicer):  # type: ignore[misc]
    """Protocol v1."""

    def __init__(self, double: Double) -> None:
        self._double = double

    async def BatchAppend(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802
        double = self._double
        fault = await double.meet("BatchAppend", context)
        options: dict[str, Any] = {}
        pending: dict[str, list[Proposed]] = {}
        async for request in requests:
            key = request.correlation_id.string
            if request.HasField("options"):
                options[key] = request.options
            pending.setdefault(key, []).extend(map(_proposed, request.proposed_messages))
            if not request.is_final:
                continue
            asked, events = options.pop(key), pending.pop(key)

            def work(asked: Any = asked, events: list[Proposed] = events) -> Any:
                stream = asked.stream_identifier.stream_name.decode()
                expected = _expected(asked, "expected_stream_position", "stream_position")
                try:
                    done = double.database.append(stream, expected, events)
                except (WrongExpectedVersion, StreamDeleted, TooLarge) as exc:
                    return v1.streams.BatchAppendResp(error=_status(exc))
                return v1.streams.BatchAppendResp(success=_success(done))

            response = await double.do(fault, context, work)
            response.correlation_id.CopyFrom(request.correlation_id)
            response.stream_identifier.CopyFrom(asked.stream_identifier)
            yield response

    async def Append(self, requests: AsyncIterator[Any], context: Any) -> Any:  # noqa: N802
        double = self._double
        fault = await double.meet("Append", context)
        asked: Any = None
        events: list[Proposed] = []
        async for request in requests:
            if request.WhichOneof("content") == "options":
                asked = request.options
            else:
                events.append(_proposed(request.proposed_message))

        def work() -> Any:
            stream = asked.stream_identifier.stream_name.decode()
            expected = _expected(asked, "expected_stream_revision", "revision")
            response = v1.streams.AppendResp()
            try:
                done = double.database.append(stream, expected, events)
            except WrongExpectedVersion as exc:
                if exc.current < 0:
                    response.wrong_expected_version.current_no_stream.SetInParent()
                else:
                    response.wrong_expected_version.current_revision = exc.current
                return response
            response.success.current_revision = done.revision
            response.success.position.commit_position = done.position
            response.success.position.prepare_position = done.position
            return response

        try:
            return await double.do(fault, context, work)
        except StreamDeleted as exc:
            await _abort_deleted(context, exc.stream)
        except TooLarge as exc:
            trailers = (
                ("exception", "maximum-append-size-exceeded"),
                ("maximum-append-size", str(exc.limit)),
            )
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "Maximum Append Size Exceeded.", trailers
            )

    async def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._remove("Delete", request, context)

    async def Tombstone(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._remove("Tombstone", request, context)

    async def _remove(self, method: str, request: Any, context: Any) -> Any:
        double = self._double
        fault = await double.meet(method, context)
        asked = request.options
        stream = asked.stream_identifier.stream_name.decode()
        expected = _expected(asked, "expected_stream_revision", "revision")
        is_soft = method == "Delete"
        remove = double.database.delete if is_soft else double.database.tombstone
        try:
            await double.do(fault, context, lambda: remove(stream, expected))
        except WrongExpectedVersion as exc:
            text = (
                f"Append failed due to WrongExpectedVersion. Stream: {stream}, "
                f"Expected version: {expected}, Actual version: {exc.current}"
            )
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
        except StreamDeleted:
            await _abort_deleted(context, stream)
        return v1.streams.DeleteResp() if is_soft else v1.streams.TombstoneResp()

    async def Read(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        double = self._double
        fault = await double.meet("Read", context)
        options = request.options
        responses = (
            self._read_stream(options, context)
            if options.HasField("stream")
            else self._read_all(options, context)
        )
        async for response in responses:
            yield response
            if fault is not None and fault.kind == "drop-after":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    async def _read_stream(self, options: Any, context: Any) -> AsyncIterator[Any]:
        asked = options.stream
        name = asked.stream_identifier.stream_name.decode()
        revision = asked.revision if asked.WhichOneof("revision_option") == "revision" else None
        try:
            records = self._double.database.read(
                name, revision, options.count, backwards=options.read_direction == 1
            )
        except NotFound:
            missing = v1.streams.ReadResp.StreamNotFound(stream_identifier=asked.stream_identifier)
            yield v1.streams.ReadResp(stream_not_found=missing)
            return
        except StreamDeleted:
            await _abort_deleted(context, name)
            return
        for record in records:
            yield _response(record)

    async def _read_all(self, options: Any, context: Any) -> AsyncIterator[Any]:
        database = self._double.database
        wanted = _filter(options)
        backwards = options.read_direction == 1
        following = options.WhichOneof("count_option") == "subscription"
        match options.all.WhichOneof("all_option"):
            case "start":
                place = 0
            case "end":
                place = len(database.log)
            case _:
                try:
                    place = database.index_of(options.all.position.commit_position)
                except InvalidPosition:
                    text = "Unexpected FilteredReadAllResult: InvalidPosition"
                    await context.abort(grpc.StatusCode.UNKNOWN, text)
                    return
                place += following  # a subscription starts behind the position, a read at it
        if following:
            async for response in self._follow(place, wanted):
                yield response
            return
        left = options.count
        records = database.log[place:] if not backwards else database.log[:place][::-1]
        for record in records:
            if left == 0:
                return
            if wanted(record):
                left -= 1
                yield _response(record)

    async def _follow(self, place: int, wanted: Any) -> AsyncIterator[Any]:
        confirmation = v1.streams.ReadResp.SubscriptionConfirmation(subscription_id=str(uuid4()))
        yield v1.streams.ReadResp(confirmation=confirmation)
        database = self._double.database
        while True:
            while place < len(database.log):
                record = database.log[place]
                place += 1
                if wanted(record):
                    yield _response(record)
            await self._double.change()
            if self._double.database is not database:
                return


class _V2:
    """Protocol v2: commits over several streams."""

    def __init__(self, double: Double) -> None:
        self._double = double

    async def AppendSession(self, requests: AsyncIterator[Any], context: Any) -> Any:  # noqa: N802
        assert v2 is not None
        double = self._double
        fault = await double.meet("AppendSession", context)
        asked = [request async for request in requests]
        if not asked or any(not one.records for one in asked):
            await v2.abort(context, "INVALID_ARGUMENT", "an append session needs records")
        seen: set[str] = set()
        for one in asked:
            if one.stream.lower() in seen:
                detail = v2.errors.StreamAlreadyInAppendSessionErrorDetails(stream=one.stream)
                await v2.abort(context, "ABORTED", "stream already in session", detail)
            seen.add(one.stream.lower())
            for record in one.records:
                if double.version == "25.1" and not _TYPES_OF_25.fullmatch(record.schema.name):
                    text = f"schema name {record.schema.name!r} must match {_TYPES_OF_25.pattern}"
                    await v2.abort(context, "INVALID_ARGUMENT", text)
        writes = [(one.stream, list(map(_from_record, one.records))) for one in asked]

        def work() -> Any:
            for one in asked:
                expected = one.expected_revision if one.HasField("expected_revision") else ANY
                double.database.check(one.stream, expected)
            last = double.database.write(writes)
            return v2.streams.AppendSessionResponse(
                output=[
                    v2.streams.AppendResponse(
                        stream=one.stream, stream_revision=double.database.stream(one.stream).head
                    )
                    for one in asked
                ],
                position=last,
            )

        try:
            return await double.do(fault, context, work)
        except WrongExpectedVersion as exc:
            detail = v2.errors.StreamRevisionConflictErrorDetails(
                stream=exc.stream, expected_revision=exc.expected, actual_revision=exc.current
            )
            await v2.abort(context, "FAILED_PRECONDITION", "revision conflict", detail)
        except StreamDeleted as exc:
            detail = v2.errors.StreamTombstonedErrorDetails(stream=exc.stream)
            await v2.abort(context, "FAILED_PRECONDITION", "stream tombstoned", detail)

    async def AppendRecords(self, request: Any, context: Any) -> Any:  # noqa: N802
        assert v2 is not None
        double = self._double
        if double.version == "25.1":
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method is unimplemented.")
        fault = await double.meet("AppendRecords", context)
        if not request.records:
            await v2.abort(context, "INVALID_ARGUMENT", "at least one record is needed")
        writes = [(record.stream, [_from_record(record)]) for record in request.records]
        streams = list(dict.fromkeys(record.stream for record in request.records))

        def work() -> Any:
            if failures := _violations(double.database, request.checks):
                return v2.errors.AppendConsistencyViolationErrorDetails(violations=failures)
            for stream in streams:
                double.database.check(stream, ANY)
            last = double.database.write(writes)
            return v2.streams.AppendRecordsResponse(
                revisions=[
                    v2.streams.StreamRevision(
                        stream=stream, revision=double.database.stream(stream).head
                    )
                    for stream in streams
                ],
                position=last,
            )

        try:
            result = await double.do(fault, context, work)
        except StreamDeleted as exc:
            detail = v2.errors.StreamTombstonedErrorDetails(stream=exc.stream)
            await v2.abort(context, "FAILED_PRECONDITION", "stream tombstoned", detail)
        else:
            if isinstance(result, v2.streams.AppendRecordsResponse):
                return result
            await v2.abort(context, "FAILED_PRECONDITION", "consistency violation", result)


def _violations(database: Database, checks: Sequence[Any]) -> list[Any]:
    """Find the checks of a commit that do not hold."""
    assert v2 is not None
    failures: list[Any] = []
    for index, check in enumerate(checks):
        state = check.stream_state
        try:
            database.check(state.stream, state.expected_state)
        except WrongExpectedVersion as exc:
            failure = v2.errors.ConsistencyViolation(check_index=index)
            failure.stream_state.stream = state.stream
            failure.stream_state.expected_state = state.expected_state
            failure.stream_state.actual_state = exc.current
            failures.append(failure)
    return failures


def _proposed(message: Any) -> Proposed:
    kind = message.metadata["content-type"]
    return Proposed(
        message.id.string,
        message.metadata["type"],
        # The log keeps one bit of the content type.
        kind if kind == "application/json" else "application/octet-stream",
        message.data,
        message.custom_metadata,
    )


def _from_record(record: Any) -> Proposed:
    assert v2 is not None
    is_json = record.schema.format == v2.streams.SCHEMA_FORMAT_JSON
    properties = {key: value.string_value for key, value in record.properties.items()}
    return Proposed(
        record.record_id,
        record.schema.name,
        "application/json" if is_json else "application/octet-stream",
        record.data,
        render_properties(record.schema.name, properties, is_json=is_json),
    )


def _expected(options: Any, oneof: str, exact: str) -> int:
    match options.WhichOneof(oneof):
        case "no_stream":
            return NO_STREAM
        case "any":
            return ANY
        case "stream_exists":
            return EXISTS
        case _:
            revision: int = getattr(options, exact)
            return revision


def _filter(options: Any) -> Any:
    if options.WhichOneof("filter_option") != "filter":
        return lambda _: True
    chosen = options.filter.WhichOneof("filter")
    expression = getattr(options.filter, chosen)
    fits = matcher(expression.regex, list(expression.prefix))
    if chosen == "stream_identifier":
        return lambda record: fits(record.stream)
    return lambda record: fits(record.event.type)


def _response(record: Record) -> Any:
    recorded = v1.streams.ReadResp.ReadEvent.RecordedEvent(
        id=v1.shared.UUID(string=record.event.id),
        stream_identifier=v1.shared.StreamIdentifier(stream_name=record.stream.encode()),
        stream_revision=record.revision,
        prepare_position=record.position,
        commit_position=record.position,
        metadata={
            "type": record.event.type,
            "content-type": record.event.content_type,
            "created": str(record.created),
        },
        custom_metadata=record.event.metadata,
        data=record.event.data,
    )
    event = v1.streams.ReadResp.ReadEvent(event=recorded, commit_position=record.position)
    return v1.streams.ReadResp(event=event)


def _success(done: Appended) -> Any:
    success = v1.streams.BatchAppendResp.Success()
    if done.revision < 0:
        success.no_stream.SetInParent()
    else:
        success.current_revision = done.revision
    if done.position < 0:
        success.no_position.SetInParent()
    else:
        success.position.commit_position = done.position
        success.position.prepare_position = done.position
    return success


def _status(exc: WrongExpectedVersion | StreamDeleted | TooLarge) -> Any:
    detail: Any
    if isinstance(exc, WrongExpectedVersion):
        code, detail = 6, v1.shared.WrongExpectedVersion()
        if exc.current < 0:
            detail.current_no_stream.SetInParent()
        else:
            detail.current_stream_revision = exc.current
    elif isinstance(exc, StreamDeleted):
        code, detail = 9, v1.shared.StreamDeleted()
        detail.stream_identifier.stream_name = exc.stream.encode()
    else:
        code, detail = 3, v1.shared.MaximumAppendSizeExceeded(maxAppendSize=exc.limit)
    packed = any_pb2.Any()
    packed.Pack(detail)
    return v1.status.Status(code=code, message=type(exc).__name__, details=packed)


async def _abort_deleted(context: Any, stream: str) -> None:
    trailers = (("exception", "stream-deleted"), ("stream-name", _ascii(stream)))
    text = f"Event stream '{stream}' is deleted."
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, text, trailers)


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


async def _main(arguments: Sequence[str]) -> None:
    """Serve until standard input ends."""
    double = Double(version=arguments[0] if arguments else "26.1")  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    line = "restart\n"
    while line == "restart\n":
        async with serve(double):
            print(double.port, flush=True)  # noqa: T201  # its parent reads it
            while (line := await loop.run_in_executor(None, sys.stdin.readline)) == "empty\n":
                double.reset()
                double.attend()
                print("empty", flush=True)  # noqa: T201  # as above


if __name__ == "__main__":
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    asyncio.run(_main(sys.argv[1:]))
