"""Commits to streams that another transaction keeps locked: they wait here, off the wire."""

from __future__ import annotations

import asyncio

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from eventport.adapter import Commit, Failed, Outcome
from eventport.errors import StoreUnavailableError

from eventport_postgres.background import Background
from eventport_postgres.connections import Connections
from eventport_postgres.errors import DRIVER_ERRORS, StreamBusyError
from eventport_postgres.schema import quoted


_PAUSES: Final = (0.02, 0.1)
"""How many seconds are between two looks at the locks: at first, and at most."""

# By the locks of the function `append`. Another transaction means that it was free in between.
_HOLDERS: Final = """
    SELECT u.stream, min(l.virtualtransaction)
    FROM (
        SELECT s.stream, hashtextextended(s.stream, $2::text::regclass::oid::integer)
        FROM unnest($1::text[]) AS s(stream)
    ) AS u(stream, key)
    LEFT JOIN pg_locks l ON l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
        AND l.classid = ((u.key >> 32) & 4294967295)::oid AND l.objid = (u.key & 4294967295)::oid
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    GROUP BY u.stream
"""


class _Waiter:
    """Waits until none of its streams is in the transaction that it was first seen in."""

    def __init__(self, streams: frozenset[str]) -> None:
        self.streams = streams
        self.free = asyncio.Event()
        self._first: dict[str, str | None] = {}

    def look(self, holders: dict[str, str | None]) -> None:
        if not self.streams <= holders.keys():
            return  # it came after the question
        if all(
            holders[stream] is None
            or self._first.setdefault(stream, holders[stream]) != holders[stream]
            for stream in self.streams
        ):
            self.free.set()


class Parking:
    """Lets commits wait for locked streams, each by itself, so that none holds up another.

    However many wait, one query at a time asks who holds the locks.

    Args:
        connections: Where to get a connection for that.
        schema: The schema, not quoted.
        timeout: How many seconds a commit waits.
    """

    def __init__(self, connections: Connections, schema: str, timeout: float) -> None:
        self._connections = connections
        self._sequence = f"{quoted(schema)}.positions"
        self._timeout = timeout
        self._waiters: dict[_Waiter, None] = {}  # in the order of their coming
        self._parked: Counter[str] = Counter()
        self._background = Background()
        self._watching = False
        self._pending = 0
        self._idle = asyncio.Event()

    def holds(self, commit: Commit) -> bool:
        """Return whether an earlier commit waits for one of its streams."""
        return bool(self._parked) and any(write.stream in self._parked for write in commit.writes)

    async def submit(
        self, commit: Commit, dispatch: Callable[[Commit], Awaitable[Outcome]]
    ) -> Outcome:
        """Dispatch a commit when its streams are free, as often as that takes.

        Raises:
            StoreUnavailableError: they have not been free in time.
        """
        streams = frozenset(write.stream for write in commit.writes)
        deadline = asyncio.get_running_loop().time() + self._timeout
        self._pending += 1
        try:
            while True:
                await self._wait(streams, deadline)
                outcome = await dispatch(commit)
                if not is_busy(outcome):
                    return outcome
        finally:
            self._pending -= 1
            if not self._pending:
                self._idle.set()

    async def drain(self) -> None:
        """Wait until nothing is pending."""
        while self._pending:
            self._idle.clear()
            await self._idle.wait()

    async def _wait(self, streams: frozenset[str], deadline: float) -> None:
        waiter = _Waiter(streams)
        self._waiters[waiter] = None
        self._parked.update(streams)
        try:
            if not self._watching:
                self._watching = True
                self._background.start(self._watch())
            async with asyncio.timeout_at(deadline):
                await waiter.free.wait()
        except TimeoutError as exc:
            raise _locked_error(streams, self._timeout) from exc
        finally:
            self._waiters.pop(waiter)
            self._parked -= Counter(streams)

    async def _watch(self) -> None:
        pause, most = _PAUSES
        try:
            while self._waiters:
                try:
                    holders = await self._holders()
                except (*DRIVER_ERRORS, StoreUnavailableError):
                    holders = {}  # whoever waits does so until its deadline
                for waiter in tuple(self._waiters):
                    waiter.look(holders)
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, most)
        finally:
            self._watching = False

    async def _holders(self) -> dict[str, str | None]:
        async with (
            asyncio.timeout(self._timeout),
            self._connections.reading(self._timeout) as connection,
        ):
            rows = await connection.fetch(_HOLDERS, list(self._parked), self._sequence)
            return {row[0]: row[1] for row in rows}


def is_busy(outcome: Outcome) -> bool:
    """Return whether a commit was not written because a stream of it is locked."""
    return isinstance(outcome, Failed) and isinstance(outcome.error, StreamBusyError)


def _locked_error(streams: frozenset[str], timeout: float) -> StoreUnavailableError:
    """Return the error of a commit that nothing was written of."""
    names = ", ".join(map(repr, sorted(streams)[:3]))
    message = (
        f"another transaction has kept a stream locked for {timeout:g} s (one of {names}); "
        "nothing was written: end that transaction, or raise the option timeout"
    )
    return StoreUnavailableError(message)
