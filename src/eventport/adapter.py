"""The base class for adapters: what must be alike on every backend stands here, once."""

from __future__ import annotations

import logging

from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import ClassVar, Final, Self, TypeAlias

from anyio import Event, get_cancelled_exc_class
from anyio.lowlevel import checkpoint

from eventport.affinity import Affinity
from eventport.codec import decode_commit, decode_event, encode_events
from eventport.commits import (
    AllPage,
    Commit,
    Committed,
    Conflict,
    EncodedEvent,
    Failed,
    Outcome,
    StreamPage,
    StreamWrite,
    Written,
    plan,
)
from eventport.errors import ConcurrencyError, NotSupportedError, StoreClosedError
from eventport.events import NewEvent, RecordedEvent
from eventport.expectations import ANY, Expectation
from eventport.group_commit import GroupCommit
from eventport.protocols import Capability, Session, Subscription
from eventport.results import AllResult, AppendResult
from eventport.session import UnitOfWork
from eventport.shielding import run_shielded
from eventport.signal import Signal
from eventport.streams import StreamReader, require
from eventport.subscriptions import PollingSubscription
from eventport.validation import (
    check_expectation,
    check_int,
    check_prefix,
    check_stream,
    check_types,
)


__all__ = [
    "AfterCommitHook",
    "AllPage",
    "BaseEventStore",
    "Commit",
    "Committed",
    "Conflict",
    "EncodedEvent",
    "Failed",
    "Outcome",
    "StreamPage",
    "StreamWrite",
    "Written",
    "decode_event",
    "plan",
]

_log: Final = logging.getLogger("eventport")

AfterCommitHook: TypeAlias = Callable[[Sequence[RecordedEvent]], Awaitable[None]]
"""Called with the events of one commit, after it."""


class BaseEventStore(StreamReader):
    """An `EventStore` on top of three methods: `_commit`, `_read_stream` and `_read_all`.

    It validates, encodes, groups commits, runs sessions, folds, iterates, subscribes, calls hooks
    and closes. An adapter implements the three methods and `_close`, and says in `capabilities`
    what its backend can do and in `limitations` why it cannot do the rest.
    """

    capabilities: frozenset[Capability] = frozenset()
    """What this backend can do beyond what all of them can."""

    limitations: ClassVar[dict[Capability, str]] = {}
    """Why it cannot do the rest, and what can: it becomes the text of `NotSupportedError`."""

    poll_interval: float | None = 0.01
    """How many seconds an idle subscription first waits before it looks again.

    None if no commit can take place without `wake` being called.
    """

    max_poll_interval: float = 0.2
    """How many seconds an idle subscription waits at the most; what push would take away."""

    def __init__(self) -> None:
        self.signal = Signal()
        self._affinity = Affinity()
        self._group = GroupCommit(self._commit_batch, self._give_up)
        self._hooks: list[AfterCommitHook] = []
        self._closed: Event | None = None
        """Made when closing begins, set when it has ended."""

    # What an adapter implements.

    @abstractmethod
    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Write a batch of commits and return an outcome for each, in the same order.

        Each commit is atomic, and independent of the others: one's conflict is its outcome and
        keeps no other from being written. An exception means that nothing of the whole batch was
        written (its members are then tried one by one), except `StoreUnavailableError`, which
        means that it is not known. Where members are written each by itself, an error of one is
        its outcome, too: `Failed`. It is never called twice at the same time, and never
        cancelled.
        """

    @abstractmethod
    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        """Do what `read_page` describes; that the store is open has been checked."""

    async def _read_all(
        self,
        after: int,  # noqa: ARG002  # for those who implement it
        max_count: int,  # noqa: ARG002
        types: frozenset[str] | None,  # noqa: ARG002
        prefix: str | None,  # noqa: ARG002
    ) -> AllPage:
        """Fetch events of all streams behind a position, in global order.

        It may stop early, to bound memory or time, if `AllPage.position` has moved on.
        """
        raise self._refusal(Capability.GLOBAL_ORDER)

    async def _last_position(self, near: int) -> int:
        """Return the position of the newest event that a caller may know from anywhere.

        Where reads of all streams stop before it, because of commits that are under way, an
        adapter finds it in another way than this.
        """
        return (await self._read_all(near, 1, None, None)).head

    def _give_up(self) -> None:
        """Let the `_commit` that is running end early: all its callers have been cancelled.

        It need not do anything. If `_commit` then raises, it must have written nothing, or raise
        `StoreUnavailableError`.
        """

    async def _close(self) -> None:
        """Let go of what the store holds; it is called once, and never cancelled."""

    # What it may use.

    def wake(self) -> None:
        """Make subscriptions look for new events now."""
        self.signal.notify()

    @property
    def has_hooks(self) -> bool:
        """Whether anybody is told all about each commit; if not, some of it need not be found."""
        return bool(self._hooks)

    def check_event_loop(self) -> None:
        """Raise `WrongEventLoopError` unless the store is used where it belongs."""
        self._affinity.check(self)

    def require_capability(self, capability: Capability) -> None:
        """Raise `NotSupportedError` unless the backend has a capability."""
        if capability not in self.capabilities:
            raise self._refusal(capability)

    # The event store.

    def after_commit(self, hook: AfterCommitHook) -> AfterCommitHook:
        """Register a hook that is called once after each commit, in the order of registration.

        It is called by the task that commits, with the events as they were recorded. If it
        raises, that is logged, and the commit stands. It also serves as a decorator.
        """
        self._hooks.append(hook)
        return hook

    async def append(
        self, stream: str, events: Iterable[NewEvent], *, expected: Expectation = ANY
    ) -> AppendResult:
        """See `Streams.append`."""
        stream = check_stream(stream)
        expected = check_expectation(expected)
        encoded = encode_events(events)
        if not encoded:
            page = await self.read_page(stream, 1, 1, 0, backwards=False)
            require(stream, expected, page.version)
            return AppendResult(page.version, None, created=False, deduplicated=False)
        committed = await self.submit(Commit((StreamWrite(stream, expected, encoded),)))
        written = committed.writes[0]
        return AppendResult(
            written.version, written.positions[-1], written.created, committed.deduplicated
        )

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session, None]:
        """See `EventStore.session`."""
        self._check_open()
        unit = UnitOfWork(self)
        try:
            yield unit
        except BaseException:
            unit.end()
            raise
        await unit.commit()

    async def read_all(
        self,
        *,
        after: int = 0,
        max_count: int = 1000,
        types: Collection[str] | None = None,
        prefix: str | None = None,
    ) -> AllResult:
        """See `EventStore.read_all`."""
        position = check_int("after", after)
        max_count = check_int("max_count", max_count)
        chosen, start = check_types(types), check_prefix(prefix)
        self._check_open()
        self.require_capability(Capability.GLOBAL_ORDER)
        events: list[RecordedEvent] = []
        head: int | None = None
        while len(events) < max_count and (head is None or position < head):
            page = await self.read_all_page(position, max_count - len(events), chosen, start)
            head = page.head if head is None else head
            events += _up_to(head, page.events)
            position = max(position, min(page.position, head))
        return AllResult(events, position)

    async def iterate_all(
        self,
        *,
        after: int = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """See `EventStore.iterate_all`."""
        position = check_int("after", after)
        chosen, start = check_types(types), check_prefix(prefix)
        self.require_capability(Capability.GLOBAL_ORDER)
        head: int | None = None
        while head is None or position < head:
            page = await self.read_all_page(position, self.page_size, chosen, start)
            head = page.head if head is None else head
            for event in _up_to(head, page.events):
                yield event
            position = max(position, page.position)

    @asynccontextmanager
    async def subscribe(
        self,
        *,
        after: int = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
    ) -> AsyncGenerator[Subscription, None]:
        """See `EventStore.subscribe`."""
        self._check_open()
        self.require_capability(Capability.GLOBAL_ORDER)
        subscription = PollingSubscription(
            self, check_int("after", after), check_types(types), check_prefix(prefix)
        )
        await subscription.begin()
        try:
            yield subscription
        finally:
            subscription.leave()

    async def aclose(self) -> None:
        """See `EventStore.aclose`."""
        if self._closed is None or not self._closed.is_set():
            self.check_event_loop()
        if self._closed is None:
            self._closed = Event()
            try:
                await run_shielded(self._finish)
            finally:
                self._closed.set()
                self.wake()
        else:
            await self._closed.wait()

    async def __aenter__(self) -> Self:
        """Return the store itself."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        await self.aclose()

    # What sessions and subscriptions of this package use.

    async def submit(self, commit: Commit) -> Committed:
        """Commit, call the hooks, and raise `ConcurrencyError` for a conflict."""
        self._check_open()
        if self._hooks:
            return await run_shielded(self._submit_with_hooks, commit)
        return _committed(await self._dispatch(commit))

    async def read_page(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        """See `StreamReader.read_page`."""
        self._check_open()
        return await self._read_stream(stream, first, last, max_count, backwards=backwards)

    async def read_all_page(
        self,
        after: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        """Fetch a page of all streams."""
        self._check_open()
        return await self._read_all(after, max_count, types, prefix)

    async def last_position(self, near: int) -> int:
        """Return the position of the newest event, or at least one at or above `near`."""
        self._check_open()
        return await self._last_position(near)

    async def _dispatch(self, commit: Commit) -> Outcome:
        """Hand one commit over; only an adapter without a wire has no use for sharing it."""
        return await self._group.submit(commit)

    async def _commit_batch(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes = await self._commit(commits)
        self.wake()
        return outcomes

    async def _submit_with_hooks(self, commit: Commit) -> Committed:
        committed = _committed(await self._dispatch(commit))
        if not committed.deduplicated:
            events = decode_commit(commit, committed)
            for hook in self._hooks:
                try:
                    await hook(events)
                # It runs shielded: a cancellation in here is the hook's own.
                except (Exception, get_cancelled_exc_class()):  # noqa: BLE001
                    _log.exception("after-commit hook %r failed; the commit stands", hook)
        return committed

    async def _finish(self) -> None:
        await checkpoint()  # an append that was called before this has reached the queue by then
        await self._group.drain()
        await self._close()

    def _check_open(self) -> None:
        if self._closed is not None:
            message = f"{self!r} has been closed"
            raise StoreClosedError(message)
        self.check_event_loop()

    def _refusal(self, capability: Capability) -> NotSupportedError:
        reason = self.limitations.get(capability, "this backend cannot do it")
        return NotSupportedError(f"{type(self).__name__}: no {capability.value}: {reason}")


def _committed(outcome: Outcome) -> Committed:
    if isinstance(outcome, Conflict):
        raise ConcurrencyError(outcome.stream, outcome.expected, outcome.actual)
    if isinstance(outcome, Failed):
        raise outcome.error
    return outcome


def _up_to(head: int, events: Sequence[RecordedEvent]) -> Sequence[RecordedEvent]:
    """Leave out what was committed after a read had fixed its end."""
    if not events or events[-1].position <= head:
        return events
    return [event for event in events if event.position <= head]
