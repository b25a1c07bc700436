"""What subscriptions of one store share: one task reads for all that are idle at the head."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from anyio import Event

from eventport._concurrency.checkpoints import checkpoint
from eventport._concurrency.shielding import start_task
from eventport._concurrency.signal import Signal
from eventport._engine.history import History
from eventport._engine.queries import AllPage, AllQuery


class Follower(Protocol):
    """A subscription that has reached the head."""

    @property
    def query(self) -> AllQuery:
        """What it wants next."""
        ...

    @property
    def seen(self) -> int | None:
        """What the signal had counted before the read that found the head; None if it is stale."""
        ...

    def trusts(self, losses: int) -> bool:
        """Return whether it has verified the history since this many losses."""
        ...

    def take(self, page: AllPage, seen: int, *, shared: bool) -> bool:
        """Take what it wants of a page, and return whether it has something to do now.

        Args:
            page: It begins at or before the follower's position.
            seen: What the signal had counted before the page was read.
            shared: Whether others get the same events, so that it needs copies.
        """
        ...

    def read_itself(self) -> None:
        """Do not wait any more, but read, and meet the error if there is one."""
        ...


class Feed:
    """Reads for all subscriptions of a store that are idle, however many they are, at once.

    A subscription that has fallen behind reads for itself until it has reached the head. The
    task that reads ends with the last idle subscription.

    Args:
        read: Fetches a page.
        history: Finds out whether the store still holds what was seen of it.
        losses: Returns how often connections have been lost so far: another server, with another
            history, may have answered since.
        signal: Notified when something may be new, and when the store is closed.
        polls: Whether there can be commits that wake nobody, so that polling is needed.
        pushed: Returns whether the backend wakes us at the moment, so that polling can be rare.
    """

    FIRST_INTERVAL: float = 0.01
    LONGEST_INTERVAL: float = 0.2
    PUSHED_INTERVAL: float = 5.0
    """Seconds between two polls: at first, after a while, and while the backend wakes us.

    A test that must not be helped by polling sets its own on a feed.
    """

    def __init__(
        self,
        read: Callable[[AllQuery], Awaitable[AllPage]],
        signal: Signal,
        history: History,
        *,
        losses: Callable[[], int],
        polls: bool,
        pushed: Callable[[], bool],
    ) -> None:
        self.read = read
        self.signal = signal
        self.history = history
        self._losses = losses
        self._failures = 0
        self._polls = polls
        self._pushed = pushed
        self._idle: dict[Event, Follower] = {}
        """Who waits, by what wakes it."""
        self._serving = False
        self._sleeping = False
        self._server: object = None

    def losses(self) -> int:
        """Return how often the store may have been another one so far, to be checked again."""
        return self._losses() + self._failures

    async def wait(self, follower: Follower) -> None:
        """Sleep until a follower at the head has got events, or has to read for itself."""
        woken = Event()
        self._idle[woken] = follower
        try:
            if not self._serving:
                self._serving = True
                self._server = start_task(self._serve, never_begun=self._stop)
            elif self._sleeping and follower.seen != self.signal.count:
                self.signal.notify()
            await woken.wait()
        finally:
            self._idle.pop(woken, None)

    def wake(self, follower: Follower) -> None:
        """Wake a follower that is leaving."""
        for woken in [woken for woken, one in self._idle.items() if one is follower]:
            self._wake(woken)

    def interval(self, idle: int) -> float:
        """Return the seconds to wait after a number of idle polls."""
        longest = self.PUSHED_INTERVAL if self._pushed() else self.LONGEST_INTERVAL
        return min(self.FIRST_INTERVAL * float(1 << min(idle, 20)), longest)

    async def _serve(self) -> None:
        """Read for all that are idle, until none is."""
        polls = 0
        try:
            while self._idle:
                count = self.signal.count
                if all(follower.seen == count for follower in self._idle.values()):
                    await self._sleep(count, polls)
                    if not self._idle:
                        break
                is_poll = self.signal.count == count
                has_moved = await self._read_for_all()
                polls = 0 if has_moved or not is_poll else polls + 1
        finally:
            self._stop()

    async def _sleep(self, count: int, polls: int) -> None:
        self._sleeping = True
        try:
            await self.signal.wait(count, self.interval(polls) if self._polls else None)
        finally:
            self._sleeping = False

    async def _read_for_all(self) -> bool:
        """Read once, hand out what was found, and return whether there was anything new."""
        losses, seen = self.losses(), self.signal.count
        asked = set(self._idle.values())
        query = _common([follower.query for follower in asked])
        try:
            page = await self.read(query)
        except Exception:  # noqa: BLE001  # each subscription meets its own error when it reads
            self._failures += 1
            self._wake_all()
            return True
        if self.losses() != losses:  # another history may have answered
            self._wake_all()
            return True
        for woken, follower in tuple(self._idle.items()):
            if woken not in self._idle:
                continue  # it has left
            if follower not in asked:
                continue  # it has come since, and may want what was left out: the next is its read
            if not follower.trusts(losses):
                follower.read_itself()
                self._wake(woken)
            elif follower.take(page, seen, shared=len(asked) > 1):
                self._wake(woken)
                await checkpoint()  # however many there are, others get a turn
        return page.position > query.after

    def _wake_all(self) -> None:
        for woken, follower in tuple(self._idle.items()):
            follower.read_itself()
            self._wake(woken)

    def _wake(self, woken: Event) -> None:
        del self._idle[woken]
        woken.set()

    def _stop(self) -> None:
        self._serving = False
        self._wake_all()  # there are some only if this task was ended from outside


def _common(queries: Collection[AllQuery]) -> AllQuery:
    """Return a query that finds all that any of these wants."""
    types: set[str] | None = set()
    for query in queries:
        types = None if types is None or query.types is None else types | query.types
    prefixes = {query.prefix for query in queries}
    streams = {query.stream for query in queries}
    return AllQuery(
        min(query.after for query in queries),
        min(query.max_count for query in queries),
        None if types is None else frozenset(types),
        prefixes.pop() if len(prefixes) == 1 else None,
        streams.pop() if len(streams) == 1 else None,
    )
