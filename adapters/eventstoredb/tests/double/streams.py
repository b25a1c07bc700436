"""Protocol v1 in front of a double: appends to one stream, reads, deletions."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from adapters.eventstoredb.tests.double.database import (
    Appended,
    BadRequest,
    InvalidPosition,
    NotFound,
    Proposed,
    StreamDeleted,
    TooLarge,
    WrongExpectedVersion,
)
from adapters.eventstoredb.tests.double.messages import (
    InFlight,
    abort_deleted,
    read_response,
    status,
    success,
    to_expected,
    to_filter,
    to_proposed,
)
from adapters.eventstoredb.tests.double.state import Abort
from adapters.eventstoredb.tests.double.stubs import grpc, v1


_LARGEST_MESSAGE: Final = 16_767_216

_UNREAL: Final = 2**62
"""From this revision on it is a question, no append: what goes wrong with appends spares it."""

if TYPE_CHECKING:
    from adapters.eventstoredb.tests.double.state import Double, Fault


class Streams(v1.grpc.StreamsServicer):  # type: ignore[misc]  # its base comes from either client
    """Protocol v1."""

    def __init__(self, double: Double) -> None:
        self._double = double

    async def BatchAppend(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802  # its name on the wire
        """Answer each append by itself, in whatever order they are done."""
        answers: asyncio.Queue[Any] = asyncio.Queue()
        receiving = asyncio.create_task(self._receive(requests, answers))
        receiving.add_done_callback(_look_at)
        try:
            while (response := await answers.get()) is not None:
                if isinstance(response, Abort):
                    await context.abort(*response.args)
                if isinstance(response, BaseException):
                    raise response
                yield response
        finally:
            receiving.cancel()

    async def _receive(self, requests: AsyncIterator[Any], answers: asyncio.Queue[Any]) -> None:
        options: dict[str, Any] = {}
        pending: dict[str, list[Proposed]] = {}
        async with asyncio.TaskGroup() as tasks:
            async for request in requests:
                if request.ByteSize() > _LARGEST_MESSAGE:
                    text = "Received message exceeds the maximum configured message size."
                    answers.put_nowait(Abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text))
                key = request.correlation_id.string
                if request.HasField("options"):
                    options[key] = request.options
                pending.setdefault(key, []).extend(map(to_proposed, request.proposed_messages))
                if request.is_final:
                    work = self._answer(request, options.pop(key), pending.pop(key))
                    task = tasks.create_task(work)
                    task.add_done_callback(partial(_put, answers))
        answers.put_nowait(None)

    async def _answer(self, request: Any, asked: Any, events: list[Proposed]) -> Any:
        fault = None
        if asked.stream_position < _UNREAL:
            fault = await self._double.face("BatchAppend")
        response = await self._append(asked, events, fault)
        response.correlation_id.CopyFrom(_structured(request.correlation_id))
        response.stream_identifier.CopyFrom(asked.stream_identifier)
        return response

    async def _append(self, asked: Any, events: list[Proposed], fault: Fault | None) -> Any:
        double = self._double
        stream = asked.stream_identifier.stream_name.decode()
        expected = to_expected(asked, "expected_stream_position", "stream_position")
        same = (stream, *(event.id for event in events))
        if same in double.in_flight:
            await asyncio.sleep(double.commit_timeout)
            return v1.streams.BatchAppendResp(error=status(InFlight()))

        def work() -> Appended | Exception:
            try:
                return double.database.append(stream, expected, events)
            except (WrongExpectedVersion, StreamDeleted, TooLarge, BadRequest) as exc:
                return exc

        double.in_flight.add(same)
        try:
            done = await double.perform(fault, work)
            while stream in double.held:  # noqa: ASYNC110  # a test changes it at any time
                await asyncio.sleep(0.02)
        finally:
            double.in_flight.discard(same)
        if isinstance(done, Exception):
            return v1.streams.BatchAppendResp(error=status(done))
        return v1.streams.BatchAppendResp(success=success(done))

    async def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802  # its name on the wire
        return await self._remove("Delete", request, context)

    async def Tombstone(self, request: Any, context: Any) -> Any:  # noqa: N802  # its name on the wire
        return await self._remove("Tombstone", request, context)

    async def _remove(self, method: str, request: Any, context: Any) -> Any:
        double = self._double
        fault = await double.meet(method, context)
        asked = request.options
        stream = asked.stream_identifier.stream_name.decode()
        expected = to_expected(asked, "expected_stream_revision", "revision")
        is_soft = method == "Delete"
        remove = double.database.delete if is_soft else double.database.tombstone
        try:
            await double.do(fault, context, lambda: remove(stream, expected))
        except WrongExpectedVersion as exc:
            text = (
                f"{method} failed due to WrongExpectedVersion. Stream: {stream}, "
                f"Expected version: {expected}, Actual version: {exc.current}"
            )
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
        except StreamDeleted:
            await abort_deleted(context, stream)
        return v1.streams.DeleteResp() if is_soft else v1.streams.TombstoneResp()

    async def Read(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802  # its name on the wire
        double = self._double
        fault = await double.meet("Read", context)
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(double.slowness)
        options = request.options
        read = self._read_stream if options.HasField("stream") else self._read_all
        async for response in read(options, context):
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
            await abort_deleted(context, name)
            return
        for record in records:
            yield read_response(record)

    async def _read_all(self, options: Any, context: Any) -> AsyncIterator[Any]:
        wanted = to_filter(options)
        backwards = options.read_direction == 1
        following = options.WhichOneof("count_option") == "subscription"
        place = await self._place(options, context, backwards=backwards, following=following)
        if following:
            async for response in self._follow(place, wanted):
                yield response
            return
        left = options.count
        log = self._double.database.read_log()
        for record in log[:place][::-1] if backwards else log[place:]:
            if left == 0:
                return
            if wanted(record):
                left -= 1
                yield read_response(record)

    async def _place(self, options: Any, context: Any, *, backwards: bool, following: bool) -> int:
        """Find where a read of `$all` begins, by the log's index."""
        database = self._double.database
        match options.all.WhichOneof("all_option"):
            case "start":
                return 0
            case "end":
                return len(database.log)
            case _:
                position = options.all.position.commit_position
        try:
            # A subscription starts after the position, a read at it.
            place = database.index_of(position) + following
        except InvalidPosition:
            place = -1
        if place < 0 or (backwards and position > database.end):
            await self._abort_position(context, position, following=following)
        return place

    async def _abort_position(self, context: Any, position: int, *, following: bool) -> None:
        reason = self._double.rules.invalid_position
        if not following:
            if position > self._double.database.end and reason != "Error":
                reason = "Error >> Requested position is greater than writer checkpoint"
            text = f"Unexpected FilteredReadAllResult: {reason}"
            await context.abort(grpc.StatusCode.UNKNOWN, text)
        if reason == "Error":
            await context.abort(grpc.StatusCode.UNKNOWN, "Exception was thrown by handler.")
        text = "Trying to read from an invalid position."
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)

    async def _follow(self, place: int, wanted: Any) -> AsyncIterator[Any]:
        confirmation = v1.streams.ReadResp.SubscriptionConfirmation(subscription_id=str(uuid4()))
        yield v1.streams.ReadResp(confirmation=confirmation)
        database = self._double.database
        while True:
            while place < len(database.log):
                record = database.log[place]
                place += 1
                if wanted(record):
                    yield read_response(record)
            await self._double.change()
            if self._double.database is not database:
                return


def _put(answers: asyncio.Queue[Any], task: asyncio.Task[Any]) -> None:
    """Hand on what became of an append: its answer, or what ends the call."""
    if not task.cancelled():
        answers.put_nowait(task.exception() or task.result())


def _look_at(task: asyncio.Task[Any]) -> None:
    """Take note of a task's error, which is handed on elsewhere."""
    if not task.cancelled():
        task.exception()


def _structured(id_: Any) -> Any:
    """Write an id in the form in which the server answers, whatever it was asked in."""
    number = UUID(id_.string).int
    answer = v1.shared.UUID()
    answer.structured.most_significant_bits = _signed(number >> 64)
    answer.structured.least_significant_bits = _signed(number & (2**64 - 1))
    return answer


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits
