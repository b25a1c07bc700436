"""Commits: each a request of its own, and what becomes of it if its answer is lost."""

from __future__ import annotations

import asyncio

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias, TypeVar

from eventport.adapter import (
    Commit,
    Committed,
    Conflict,
    EncodedEvent,
    Failed,
    Outcome,
    StreamWrite,
    Written,
)
from eventport.errors import NotSupportedError, StoreUnavailableError
from eventport.events import RecordedEvent
from eventport.expectations import Expectation, exact_version

from eventport_eventstoredb.client import (
    ANY,
    EXISTS,
    NO_STREAM,
    Appended,
    Client,
    Refused,
    Together,
)
from eventport_eventstoredb.wire import to_position


T = TypeVar("T")

AT_ONCE: Final = 64
"""How many requests are on the wire at the same time."""

_REMEMBERED: Final = 10_000
"""Of how many streams the heads are remembered."""

Events: TypeAlias = Callable[[str, int, int], Awaitable[Sequence[RecordedEvent]]]
"""Gives the events of a stream from a version to a version, as far as they are there."""


class Heads:
    """What this store has seen of streams' heads; a stream may have moved on since."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, int] = OrderedDict()
        self.position = 0
        """The last global position seen."""

    def get(self, stream: str) -> int | None:
        """Return a head seen before."""
        return self._seen.get(stream)

    def note(self, stream: str, version: int, position: int = 0) -> None:
        """Remember a head. An older view, which arrives late, never replaces a newer one.

        A stream that is gone may have been deleted, or be seen late: of that, nothing is known.
        """
        if version == 0 and self._seen.pop(stream, 0):
            return
        self._seen[stream] = max(version, self._seen.get(stream, 0))
        self._seen.move_to_end(stream)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        self.position = max(self.position, position)


class Committer:
    """Writes commits.

    Args:
        client: The connection.
        heads: What the store has seen.
        head: Asks for a stream's head.
        events: Reads events.
        way: How the server commits several streams; None if it does not.
        timeout: For how long an unknown outcome is looked into, in seconds.
    """

    def __init__(
        self,
        client: Client,
        heads: Heads,
        head: Callable[[str], Awaitable[int]],
        events: Events,
        way: Together | None,
        timeout: float,
    ) -> None:
        self._client = client
        self._heads = heads
        self._ask_head = head
        self._ask_events = events
        self._way: Together | None = way
        self._timeout = timeout

    async def commit(self, commits: Sequence[Commit], *, fully: bool) -> Sequence[Outcome]:
        """Write commits at the same time, those of one stream in their order.

        Args:
            commits: What to write.
            fully: Whether somebody wants to know each position and the time.
        """
        if len(commits) == 1:
            return [await self._settle(commits[0], fully=fully)]
        slots = asyncio.Semaphore(AT_ONCE)
        latest: dict[str, asyncio.Task[Outcome]] = {}
        tasks: list[asyncio.Task[Outcome]] = []

        async def in_turn(commit: Commit, before: Sequence[asyncio.Task[Outcome]]) -> Outcome:
            if before:
                await asyncio.wait(before)
            async with slots:
                return await self._settle(commit, fully=fully)

        for commit in commits:
            streams = {write.stream for write in commit.writes}
            before = [latest[stream] for stream in streams if stream in latest]
            task = asyncio.create_task(in_turn(commit, before))
            latest.update(dict.fromkeys(streams, task))
            tasks.append(task)
        return await asyncio.gather(*tasks)

    async def _settle(self, commit: Commit, *, fully: bool) -> Outcome:
        try:
            if len({write.stream for write in commit.writes}) > 1:
                return await self._many(commit)
            outcome = await self._one(commit)
            if isinstance(outcome, Committed) and (fully or len(commit.writes) > 1):
                return await self._told(commit, [one.version for one in outcome.writes], outcome)
            return outcome
        # Others of the batch may have been written: an error of this one must not be theirs.
        except Exception as exc:  # noqa: BLE001
            return Failed(exc)

    # One stream.

    async def _one(self, commit: Commit) -> Outcome:
        stream, expected = commit.writes[0].stream, commit.writes[0].expected
        events = [event for write in commit.writes for event in write.events]
        exact = exact_version(expected)
        if exact is None:
            outcome = await self._loose(stream, expected, events)
        else:
            outcome = await self._exact(stream, expected, exact, events)
        if isinstance(outcome, Conflict):
            return outcome
        version, position, deduplicated = outcome
        self._heads.note(stream, version, position)
        first = version - len(events)
        written: list[Written] = []
        for write in commit.writes:
            created = not written and (first == 0 or exact == 0)
            first += len(write.events)
            written.append(Written(first, [position], created))
        return Committed(written, datetime.now(UTC), deduplicated)

    async def _exact(
        self, stream: str, expected: Expectation, exact: int, events: Sequence[EncodedEvent]
    ) -> Conflict | tuple[int, int, bool]:
        """Append at one version. The server knows a retry, but does not say that it was one."""
        if self._heads.get(stream) != exact:
            head = await self._head(stream)
            if head != exact:
                found = await self._earlier(stream, exact, events)
                return found or Conflict(stream, expected, head)
        revision = NO_STREAM if exact == 0 else exact - 1

        async def attempt() -> Conflict | tuple[int, int, bool]:
            result = await self._client.append(stream, revision, events)
            if isinstance(result, Refused):
                self._heads.note(stream, result.version)
                return Conflict(stream, expected, result.version)
            return result.version, to_position(result.commit_position), False

        # To send it again is safe: the server compares the ids.
        return await self._until_known(attempt)

    async def _loose(
        self, stream: str, expected: Expectation, events: Sequence[EncodedEvent]
    ) -> Conflict | tuple[int, int, bool]:
        """Append at whatever version. Sent again, it might be written twice, so it is looked for.

        What is sent again names the head at which the events were not found.
        """
        floor = self._heads.position
        if expected == "stream_exists" and await self._head(stream) == 0:
            # The server would be content with a stream of which only metadata was ever set.
            return Conflict(stream, expected, 0)
        revision: int | None = ANY if expected == "any" else EXISTS

        async def attempt() -> Conflict | tuple[int, int, bool] | None:
            nonlocal revision
            if revision is None:
                head = await self._head(stream)
                if found := await self._find(stream, events, head, floor):
                    return found
                sent = head - 1
            else:
                sent, revision = revision, None
            result = await self._client.append(stream, sent, events)
            if isinstance(result, Appended):
                position = to_position(result.commit_position)
                # The server knows ids that it has seen lately, and does not write them again.
                return result.version, position, position <= floor
            if sent == EXISTS:
                return Conflict(stream, expected, result.version)
            return None  # somebody was faster, perhaps an attempt of our own

        return await self._until_known(attempt)

    async def _earlier(
        self, stream: str, before: int, events: Sequence[EncodedEvent]
    ) -> tuple[int, int, bool] | None:
        """Find an earlier try of an append, by its ids at its versions."""
        last = before + len(events)
        found = await self._events(stream, before + 1, last)
        if [one.id for one in found] != [one.id for one in events]:
            return None
        return last, found[-1].position, True

    async def _find(
        self, stream: str, events: Sequence[EncodedEvent], head: int, floor: int
    ) -> tuple[int, int, bool] | None:
        """Find where an attempt of this append was written, behind all that was seen before it."""
        last = head
        while last > 0:
            found = await self._events(stream, max(last - 499, 1), last)
            for place, event in enumerate(found):
                if event.id == events[-1].id and event.position > floor:
                    return event.version, event.position, False
                if place == 0 and event.position <= floor:
                    last = 0
            last = min(last, found[0].version if found else 0) - 1
        return None

    # Several streams.

    async def _many(self, commit: Commit) -> Outcome:
        if self._way is None:
            message = "this server or client cannot commit several streams together"
            raise NotSupportedError(message)
        writes = _adjacent(commit.writes)
        if self._way == "streams":
            _require_one_turn_each([stream for stream, _ in writes])
        expected: dict[str, int] = {}
        for write in commit.writes:
            expected.setdefault(write.stream, _revision(write.expected))
        way, sent = self._way, False

        async def attempt() -> Outcome:
            nonlocal sent
            if sent and (found := await self._earlier_commit(commit, deduplicated=False)):
                return found
            before, sent = sent, True
            refused = await self._client.append_together(way, writes, expected)
            if refused is None:
                for stream in expected:
                    self._heads.note(stream, await self._head(stream))
                return await self._told(commit, await self._versions(commit), None)
            if found := await self._earlier_commit(commit, deduplicated=not before):
                return found
            wanted: Expectation = next(
                write.expected for write in commit.writes if write.stream == refused.stream
            )
            return Conflict(refused.stream, wanted, refused.version)

        return await self._until_known(attempt)

    async def _versions(self, commit: Commit) -> list[int]:
        """Tell which version each write has led to; look it up where none was expected."""
        versions: list[int] = []
        for write in commit.writes:
            before = exact_version(write.expected)
            if before is None:
                head = await self._head(write.stream)
                found = await self._find(write.stream, write.events, head, 0)
                versions.append(found[0] if found else head)
            else:
                versions.append(before + len(write.events))
        return versions

    async def _earlier_commit(self, commit: Commit, *, deduplicated: bool) -> Committed | None:
        """Find a whole commit by the ids of its events, at the versions that it expects."""
        for write in commit.writes:
            before = exact_version(write.expected)
            if before is None or not await self._earlier(write.stream, before, write.events):
                return None
        told = await self._told(commit, await self._versions(commit), None)
        return Committed(told.writes, told.recorded_at, deduplicated)

    # Both.

    async def _told(
        self, commit: Commit, versions: Sequence[int], known: Committed | None
    ) -> Committed:
        """Read back what the server did not tell: each position, and the time."""
        written: list[Written] = []
        time = datetime.now(UTC)
        for place, (write, last) in enumerate(zip(commit.writes, versions, strict=True)):
            first = last - len(write.events) + 1
            found = await self._events(write.stream, first, last)
            created = known.writes[place].created if known else first == 1
            written.append(Written(last, [event.position for event in found], created))
            time = found[-1].recorded_at
        return Committed(written, time, known is not None and known.deduplicated)

    async def _head(self, stream: str) -> int:
        return await self._until_known(lambda: self._ask_head(stream))

    async def _events(self, stream: str, first: int, last: int) -> Sequence[RecordedEvent]:
        return await self._until_known(lambda: self._ask_events(stream, first, last))

    async def _until_known(self, attempt: Callable[[], Awaitable[T | None]]) -> T:
        """Attempt something again until its outcome is known, or the time is up.

        It goes for what is read before and after an append, too: what is there must not be
        reported as failed because the line was cut while it was read back.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        delay = 0.05
        while True:
            try:
                if (outcome := await attempt()) is not None:
                    return outcome
            except StoreUnavailableError as exc:
                if loop.time() + delay > deadline:
                    message = f"it is not known whether the append took place: {exc}"
                    raise StoreUnavailableError(message) from exc
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)


def _revision(expected: Expectation) -> int:
    match expected:
        case "any":
            return ANY
        case "no_stream" | 0:
            return NO_STREAM
        case "stream_exists":
            return EXISTS
        case version:
            return version - 1


def _adjacent(writes: Sequence[StreamWrite]) -> list[tuple[str, list[EncodedEvent]]]:
    """Join writes of one stream that follow each other."""
    joined: list[tuple[str, list[EncodedEvent]]] = []
    for write in writes:
        if joined and joined[-1][0] == write.stream:
            joined[-1][1].extend(write.events)
        else:
            joined.append((write.stream, list(write.events)))
    return joined


def _require_one_turn_each(streams: Sequence[str]) -> None:
    """Refuse what `AppendSession` cannot do, rather than do something else."""
    if len({stream.lower() for stream in streams}) < len(streams):
        message = (
            "KurrentDB 25.1 commits several streams one after the other, each once, and takes "
            "names that differ in case only for one: append to each stream in one turn, "
            "or use KurrentDB 26.1"
        )
        raise NotSupportedError(message)
