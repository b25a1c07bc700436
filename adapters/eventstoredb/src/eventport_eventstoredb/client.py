"""Appends and reads on a server, in the terms of the port; errors are those of eventport."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar
from uuid import uuid4

from eventport.adapter import AnswerLostError, ConnectionLostError, EncodedEvent, limit_wait
from eventport.errors import NotSupportedError

from eventport_eventstoredb.calls import Calls, now
from eventport_eventstoredb.carrier import Carrier, SharedCallError
from eventport_eventstoredb.errors import (
    LostConnectionError,
    NotLeaderError,
    Refused,
    RefusedError,
    StreamDeletedError,
    of_append,
    translate,
)
from eventport_eventstoredb.messages import (
    RECORDS_LIMIT,
    SESSION_LIMIT,
    UNREAL,
    AllRead,
    append_request,
    check_message,
    check_size,
    follow_request,
    read_all_request,
    read_request,
    records_request,
    session_requests,
)
from eventport_eventstoredb.vendor import Channel, Connector
from eventport_eventstoredb.wire import Stored


T = TypeVar("T")

MultiStreamMode: TypeAlias = Literal["records", "streams"]
"""How a server commits several streams: records in any order, or stream by stream."""

AT_ONCE: Final = 64
"""How many appends are on the wire at the same time."""

PAGE_BYTES: Final = 4 * 1024 * 1024
"""A read stops at about this size."""


@dataclass(frozen=True)
class Appended:
    """An append to one stream that took place, now or before."""

    version: int
    """The version of its last event."""
    commit_position: int
    """The byte offset of its last event."""
    before: int | None = None
    """The version right before it, if that was asked for and was answered."""


@dataclass(frozen=True)
class AppendedSeveral:
    """A commit over several streams that took place, now or before."""

    versions: dict[str, int]
    """The version of the last event of each stream."""
    commit_position: int
    """The byte offset of its last event."""


class Client:
    """The requests that a store makes of a server.

    Args:
        connector: The vendor's client.
        timeout: For how many seconds the store makes a call again.
    """

    def __init__(self, connector: Connector, timeout: float) -> None:
        self._library = connector.library
        self._calls = Calls(connector, timeout)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._carriers: list[Carrier] = []
        self.attempt: Final = self._calls.attempt
        """How many seconds one call may take."""
        self.connect: Final = self._calls.connect

    async def close(self) -> None:
        """Close the connection, whatever state it is in."""
        await self._calls.close()
        for carrier in self._carriers:
            await carrier.end()

    async def multi_stream_mode(self) -> MultiStreamMode | None:
        """Return how the server commits several streams, found by a request that does nothing."""
        modes: tuple[MultiStreamMode, ...] = ("records", "streams")
        for mode in modes:
            try:
                await self._calls.run(self._commit_call(mode, [], {}), "")
            except NotSupportedError as exc:
                code = getattr(exc.__cause__, "code", None)
                if code is not None and code().name != "UNIMPLEMENTED":
                    return mode  # it knows the method, and refuses the request
        return None

    # Appending.

    async def append(
        self,
        stream: str,
        expected: int,
        events: Sequence[EncodedEvent],
        *,
        probe: bool = False,
    ) -> Appended | Refused:
        """Append to one stream, once.

        Args:
            stream: Its name.
            expected: The revision that it must have, or one of the constants.
            events: At least one.
            probe: Also ask, in the same call, for the version right before the append, which
                distinguishes a retry from an append that was written.

        Raises:
            AnswerLostError: it is not known whether it took place.
            EventportError: nothing was written.
        """
        check_size(events)
        own, asking = uuid4(), uuid4()

        async def work(channel: Channel, seconds: float) -> Appended | Refused:
            requests = [
                (own, append_request(self._library, stream, expected, events, own, seconds))
            ]
            if probe:
                question = append_request(
                    self._library, stream, UNREAL, [_a_question()], asking, seconds
                )
                requests.insert(0, (asking, question))
            check_message(requests[-1][1])
            try:
                async with limit_wait(seconds):
                    *asked, response = await self._carrier(channel).ask(requests)
            except SharedCallError as exc:
                raise self._of_shared_call(exc.__cause__, stream) from exc
            answer = self._answer(stream, response)
            if isinstance(answer, Exception):
                raise answer
            before = self._answer(stream, asked[0]) if asked and asked[0] else None
            if isinstance(answer, Appended) and isinstance(before, Refused):
                return Appended(answer.version, answer.commit_position, before.version)
            return answer

        with _sending():
            async with self._slots:
                return await self._calls.run(work, stream)

    def _of_shared_call(self, cause: BaseException | None, stream: str) -> ConnectionLostError:
        """Make the error of an append whose shared call ended, perhaps for another append."""
        error = translate(self._library, cause, stream) if isinstance(cause, Exception) else cause
        if isinstance(error, ConnectionLostError):
            return error
        return ConnectionLostError(f"the call that carries appends has ended: {error}")

    def _carrier(self, channel: Channel) -> Carrier:
        for carrier in self._carriers:
            if carrier.carries(channel):
                return carrier
        self._carriers = [*(one for one in self._carriers if not one.ended), Carrier(channel)]
        return self._carriers[-1]

    def _answer(self, stream: str, response: Any) -> Appended | Refused | Exception:
        if response.WhichOneof("result") == "success":
            success = response.success
            return Appended(success.current_revision + 1, success.position.commit_position)
        return of_append(self._library, response.error, stream)

    async def ask_version(self, stream: str) -> int:
        """Return a stream's version, learned from an append that must fail.

        There is no other way for a stream whose events are all hidden.
        """
        try:
            refused = await self.append(stream, UNREAL, [_a_question()])
        except StreamDeletedError:
            return 0
        return refused.version

    async def append_several(
        self,
        mode: MultiStreamMode,
        writes: Sequence[tuple[str, Sequence[EncodedEvent]]],
        expected: dict[str, int],
    ) -> AppendedSeveral | Refused:
        """Append to several streams in one commit, once; raise what `append` raises."""
        limit = RECORDS_LIMIT if mode == "records" else SESSION_LIMIT
        check_size([event for _, events in writes for event in events], limit)
        call = self._commit_call(mode, writes, expected)
        try:
            with _sending():
                async with self._slots:
                    answer = await self._calls.run(call, ", ".join(expected))
        except RefusedError as exc:
            return exc.refused
        if mode == "records":
            versions = {one.stream: one.revision + 1 for one in answer.revisions}
        else:
            versions = {one.stream: one.stream_revision + 1 for one in answer.output}
        return AppendedSeveral(versions, answer.position)

    def _commit_call(
        self,
        mode: MultiStreamMode,
        writes: Sequence[tuple[str, Sequence[EncodedEvent]]],
        expected: dict[str, int],
    ) -> Callable[[Channel, float], Awaitable[Any]]:
        async def work(channel: Channel, seconds: float) -> Any:
            if channel.sessions is None:
                raise NotSupportedError("this client cannot commit several streams together")
            arguments = {"timeout": seconds, **channel.for_appends}
            if mode == "records":
                request = records_request(self._library, writes, expected)
                check_message(request, RECORDS_LIMIT)
                return await channel.sessions.AppendRecords(request, **arguments)
            requests = session_requests(self._library, writes, expected)
            return await channel.sessions.AppendSession(iter(requests), **arguments)

        return work

    # Reading.

    async def read(
        self,
        stream: str,
        revision: int | None,
        limit: int,
        *,
        backwards: bool = False,
    ) -> tuple[list[Stored], bool] | None:
        """Read some events of a stream; None if it is missing.

        Args:
            stream: Its name.
            revision: Where to begin; None for the start, or the end if it goes backwards.
            limit: The most events wanted, at least 1.
            backwards: Newest first.

        Returns:
            The events, and whether there are no more.

        Raises:
            StreamDeletedError: the stream has a tombstone.
        """
        request = read_request(self._library, stream, revision, limit, backwards=backwards)
        found: list[Stored] = []
        ended = await self._read(request, stream, limit, found.append)
        return None if ended is None else (found, ended)

    async def read_all(self, query: AllRead, take: Callable[[Stored], object]) -> bool:
        """Read some events of all streams, and return whether there are no more.

        Args:
            query: Which events.
            take: Called with each event as it arrives, while the server prepares the next ones.
        """
        request = read_all_request(self._library, query)
        return await self._read(request, "$all", query.limit, take) is not False

    async def _read(
        self, request: Any, stream: str, limit: int, take: Callable[[Stored], object]
    ) -> bool | None:
        """Take what a read gives; return whether there is no more, or None if it is missing."""

        async def work(channel: Channel, seconds: float) -> bool | None:
            call = channel.streams.Read(request, timeout=seconds, **channel.for_reads)
            count = size = 0
            try:
                async for response in call:
                    kind = response.WhichOneof("content")
                    if kind == "stream_not_found":
                        return None
                    if kind == "event":
                        event = _checked(response.event)
                        take(event)
                        count += 1
                        size += len(event.data) + len(event.custom_metadata)
                        if count == limit or size > PAGE_BYTES:
                            return False
            finally:
                call.cancel()
            return True

        return await self._calls.run(work, stream)

    async def follow(self, pattern: str) -> AsyncGenerator[None, None]:
        """Yield when the server has begun to send new events, and for each of them."""
        channel = self._calls.channel
        call = channel.streams.Read(
            follow_request(self._library, pattern), timeout=None, **channel.for_reads
        )
        try:
            async with aclosing(_responses(call)) as responses:
                async for response in responses:
                    if response.WhichOneof("content") in {"confirmation", "event"}:
                        channel.heard = now()
                        yield
        except asyncio.CancelledError as exc:
            # gRPC raises this, too, if the connection was closed during the call.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise LostConnectionError("the connection to the server was closed meanwhile") from exc
        except Exception as exc:
            if (error := translate(self._library, exc, "$all")) is exc:
                raise
            raise error from exc


def _a_question() -> EncodedEvent:
    """Make an event that is never written: the append that carries it is bound to be refused."""
    return EncodedEvent("eventport-probe", "null", "{}", uuid4(), size=6)


def _checked(read: Any) -> Stored:
    """Return an event that was read, which must have a position."""
    if read.WhichOneof("position") != "commit_position":
        message = "the server gives no positions; EventStoreDB 22.10 or newer does"
        raise NotSupportedError(message)
    event: Stored = read.event
    return event


@contextmanager
def _sending() -> Generator[None]:
    """Report an append whose answer is lost as one that may have been written."""
    try:
        yield
    except NotLeaderError:
        raise
    except ConnectionLostError as exc:
        raise AnswerLostError(str(exc)) from exc


async def _responses(call: Any) -> AsyncGenerator[Any, None]:
    """Iterate over a call's responses, and cancel it when that is left."""
    try:
        async for response in call:
            yield response
    finally:
        call.cancel()
