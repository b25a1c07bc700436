"""Commits to streams that another transaction keeps locked: they wait here, off the wire."""

from __future__ import annotations

import logging

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Final

from anyio import CancelScope, Event, current_time, fail_after, get_cancelled_exc_class, sleep

from eventport._concurrency.backoff import Backoff
from eventport._concurrency.shielding import start_task
from eventport._engine.commits import Blocked, Commit, Outcome, StreamGuard
from eventport._engine.engine import Unblocks
from eventport._logs import about
from eventport.errors import StoreUnavailableError
from eventport.validation import control_character


_log: Final = logging.getLogger("eventport")

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.1
"""Seconds between two polls of the locks: at first, and at most."""


class _Waiter:
    """Waits until none of its streams is in the transaction that first kept it locked."""

    def __init__(self, streams: frozenset[str]) -> None:
        self.streams = streams
        self.free = Event()
        self._first: dict[str, Hashable | None] = {}

    def look(self, lockers: Mapping[str, Hashable | None]) -> None:
        if not self.streams <= lockers.keys():
            return  # it came after the question
        if all(
            lockers[stream] is None
            or self._first.setdefault(stream, lockers[stream]) != lockers[stream]
            for stream in self.streams
        ):
            self.free.set()


class Parking:
    """Lets commits wait for locked streams, each by itself, so that none holds up another.

    However many wait, one question at a time asks who holds the locks.

    Args:
        engine: What says who holds the locks.
        write: Writes a commit; it returns `Blocked` if a stream of it is locked.
        store: The store, which log records name.
    """

    def __init__(
        self, engine: Unblocks, write: Callable[[Commit], Awaitable[Outcome]], store: object
    ) -> None:
        self._store = store
        self._engine = engine
        self._write = write
        self._waiters: dict[_Waiter, None] = {}  # in the order of their coming
        self.parked: Final[Counter[str]] = Counter()
        """How many commits wait for each stream."""
        self._watching = False
        self._watcher: object = None

    async def submit(self, commit: Commit) -> Outcome:
        """Write a commit, as soon as its streams are free.

        A caller that is cancelled while its commit is parked leaves nothing behind.

        Raises:
            StoreUnavailableError: they have not been free in time; nothing was written.
        """
        if not self.parked or self.parked.keys().isdisjoint(_streams(commit)):
            outcome = await self._write(commit)
            if not isinstance(outcome, Blocked):
                return outcome
            streams = outcome.on or _streams(commit)
        else:
            streams = _streams(commit)
        deadline = current_time() + self._engine.timeout
        while True:
            await self._wait(streams, deadline)
            outcome = await self._write(commit)
            if not isinstance(outcome, Blocked):
                return outcome
            streams = outcome.on or _streams(commit)

    async def _wait(self, streams: frozenset[str], deadline: float) -> None:
        waiter = _Waiter(streams)
        self._waiters[waiter] = None
        self.parked.update(streams)
        try:
            if not self._watching:
                self._watching = True
                self._watcher = start_task(self._watch, never_begun=self._stop)
            with CancelScope(deadline=deadline):
                await waiter.free.wait()
            if not waiter.free.is_set():
                raise self._locked_error(streams)
        finally:
            del self._waiters[waiter]
            self.parked.subtract(streams)
            for stream in streams:
                if not self.parked[stream]:
                    del self.parked[stream]

    async def _watch(self) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        try:
            while self._waiters:
                lockers = await self._lockers()
                for waiter in tuple(self._waiters):
                    waiter.look(lockers)
                await sleep(backoff.next())
        except get_cancelled_exc_class():
            pass  # the event loop is being closed
        finally:
            self._stop()

    def _stop(self) -> None:
        self._watching = False

    async def _lockers(self) -> Mapping[str, Hashable | None]:
        try:
            with fail_after(self._engine.timeout):
                return await self._engine.find_lockers(list(self.parked))
        except Exception as exc:  # noqa: BLE001  # what waits does so until its deadline
            extra = about(store=self._store)
            _log.info("cannot see who keeps streams locked: %s", exc, extra=extra)
            return {}

    def _locked_error(self, streams: frozenset[str]) -> StoreUnavailableError:
        named = sorted(name for name in streams if control_character(name) is None)
        names = ", ".join(map(repr, named[:3])) or "what a condition depends on"
        message = (
            f"another transaction has kept a stream locked for {self._engine.timeout:g} s (one of "
            f"{names}); nothing was written: end that transaction, or raise the option timeout"
        )
        return StoreUnavailableError(message)


def _streams(commit: Commit) -> frozenset[str]:
    guarded = [guard.stream for guard in commit.guards if isinstance(guard, StreamGuard)]
    return frozenset([*guarded, *(write.stream for write in commit.writes)])
