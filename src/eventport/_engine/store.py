"""The one implementation of `EventStore`, over any engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self

from anyio import Event

from eventport._concurrency.affinity import Affinity
from eventport._concurrency.blocks import entered_as
from eventport._concurrency.checkpoints import checkpoint
from eventport._concurrency.shielding import run_shielded
from eventport._concurrency.signal import Signal
from eventport._concurrency.turnstile import Turnstile
from eventport._engine.all_reader import iterate_all, read_all
from eventport._engine.buffered_session import BufferedSession
from eventport._engine.calls import RemoteCalls
from eventport._engine.codec import encode_events
from eventport._engine.commits import (
    Commit,
    Committed,
    EncodedEvent,
    Outcome,
    QueryConflict,
    StreamWrite,
    require_committed,
)
from eventport._engine.engine import (
    ChecksCaller,
    Engine,
    Interruptible,
    Listens,
    Remote,
    Unblocks,
)
from eventport._engine.feed import Feed
from eventport._engine.fetching import Pages
from eventport._engine.group_commit import MAX_BATCH_COMMITS, Batching, GroupCommit
from eventport._engine.history import History
from eventport._engine.hooks import Hooks
from eventport._engine.listener import Listener
from eventport._engine.listing import Lister, NameQuery
from eventport._engine.parking import Parking
from eventport._engine.queries import StreamPage, StreamQuery, check_all_query
from eventport._engine.querying import Querying, check_guard, check_match_query
from eventport._engine.stream_reader import StreamReader, require
from eventport._engine.subscription import PollingSubscription
from eventport.boundaries import Query
from eventport.callbacks import AfterCommitHook
from eventport.errors import NotSupportedError, StoreClosedError
from eventport.events import NewEvent, RecordedEvent
from eventport.expectations import ANY, Expectation
from eventport.protocols import After, Capability, Session, Subscription
from eventport.results import AllResult, AppendResult, QueryResult, StreamInfo
from eventport.validation import (
    TOOLKIT_STREAMS,
    check_expectation,
    check_stream,
    check_toolkit_types,
)


class Store(StreamReader, Lister):
    """An `EventStore` over an engine.

    It checks and encodes, groups commits, runs sessions, folds, iterates, subscribes, calls hooks
    and closes. A backend's own class derives from it only to add public methods of its own.

    Args:
        engine: What keeps the events. The store closes it.
        batching: How commits are grouped.
    """

    def __init__(self, engine: Engine, *, batching: Batching = "always") -> None:
        self._engine = engine
        self._remote = RemoteCalls(engine, engine) if isinstance(engine, Remote) else None
        self._batching = batching
        self._check_caller = engine.check_caller if isinstance(engine, ChecksCaller) else None
        self._affinity = Affinity()
        self._signal = Signal()
        self._turnstile = Turnstile(MAX_BATCH_COMMITS)
        interrupt = engine.interrupt if isinstance(engine, Interruptible) else None
        self._group = GroupCommit(
            self._commit,
            self._remote.interrupt if self._remote else interrupt,
            self._commit_here if batching == "contended" else None,
        )
        self._parking = Parking(engine, self._write, self) if isinstance(engine, Unblocks) else None
        self._pending = 0
        self._drained: Event | None = None
        self._hooks = Hooks(self)
        self._listener = (
            Listener(engine, self._signal, self) if isinstance(engine, Listens) else None
        )
        self._fetch = Pages(engine, self._remote, self._check_open)
        self._querying = Querying(engine, self._page, self._fetch.all, self._fetch.matching)
        self._feed = Feed(
            self._fetch.all,
            self._signal,
            History(self, self._fetch.all, self._fetch.last_position()),
            losses=lambda: 0 if self._remote is None else self._remote.losses,
            polls=Capability.SHARED in engine.capabilities,
            pushed=lambda: self._listener is not None and self._listener.listening,
        )
        self._closed: Event | None = None
        """Made when closing begins, set when it has ended."""

    def __repr__(self) -> str:
        """Show where the events are, without any password."""
        return f"<{type(self).__name__}: {self._engine.name}>"

    @property
    def engine(self) -> Engine:
        """What keeps the events, for tests that wrap it; the store closes it."""
        return self._engine

    @property
    def capabilities(self) -> frozenset[Capability]:
        """See `EventStore.capabilities`."""
        return self._engine.capabilities

    @property
    def limitations(self) -> Mapping[Capability, str]:
        """Why this store cannot do the rest, and what can."""
        return self._engine.limitations

    @property
    def closed(self) -> bool:
        """Whether closing has begun."""
        return self._closed is not None

    def after_commit(self, hook: AfterCommitHook, /) -> AfterCommitHook:
        """See `HookStore.after_commit`."""
        return self._hooks.add(hook)

    async def query(
        self,
        query: Query,
        /,
        *,
        after: int = 0,
        max_count: int | None = None,
        backwards: bool = False,
    ) -> QueryResult:
        """See `Streams.query`."""
        wanted = check_match_query(query, after, max_count, backwards=backwards)
        self._check_open()
        self._require(Capability.GLOBAL_ORDER)
        return await self._querying.read(wanted)

    async def append(
        self,
        stream: str,
        events: Iterable[NewEvent],
        *,
        expected: Expectation = ANY,
        unless: Query | None = None,
        since: str | None = None,
    ) -> AppendResult:
        """See `Streams.append`."""
        self._check_open()
        if not self._turnstile.may_pass():
            await self._wait_in_line()
        stream = check_stream(stream)
        expected = check_expectation(expected)
        guards = check_guard(unless, since)
        encoded = self._encode(stream, events)
        if guards:
            self._check_open()
            self._require(Capability.CONDITIONS)
        if not encoded:
            page = await self._page(StreamQuery(stream, max_count=0))
            require(stream, expected, page.version)
            await self._querying.look(guards)
            return AppendResult(page.version, None, created=False, deduplicated=False)
        committed = await self._submit(Commit((StreamWrite(stream, expected, encoded),), guards))
        written = committed.writes[0]
        return AppendResult(
            written.version, written.positions[-1], written.created, committed.deduplicated
        )

    @entered_as("async with store.session() as session:")
    async def session(self) -> AsyncGenerator[Session, None]:
        """See `EventStore.session`."""
        self._check_open()
        session = BufferedSession(
            self._fetch, self._submit_session, self._querying, self._encode, self._require
        )
        try:
            yield session
        except BaseException:
            session.end()
            raise
        await session.commit()

    async def read_all(
        self,
        *,
        after: int = 0,
        max_count: int = 1000,
        types: Collection[str] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
    ) -> AllResult:
        """See `EventStore.read_all`."""
        wanted = check_all_query(after, types, prefix, query, max_count)
        self._check_open()
        self._require(Capability.GLOBAL_ORDER)
        return await read_all(self._fetch.all, wanted)

    async def iterate_all(
        self,
        *,
        after: int = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """See `EventStore.iterate_all`."""
        wanted = check_all_query(after, types, prefix, query)
        self._require(Capability.GLOBAL_ORDER)
        async with aclosing(iterate_all(self._fetch.all, wanted)) as events:
            async for event in events:
                yield event

    @entered_as("async with store.subscribe() as events:")
    async def subscribe(
        self,
        *,
        after: After = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
        query: Query | None = None,
        stream: str | None = None,
    ) -> AsyncGenerator[Subscription, None]:
        """See `EventStore.subscribe`."""
        self._check_open()
        self._require(Capability.GLOBAL_ORDER)
        from_end = isinstance(after, str) and after == "end"
        wanted = check_all_query(0 if from_end else after, types, prefix, query, stream=stream)
        subscription = PollingSubscription(self._feed, wanted, self._check_loop)
        await subscription.begin(from_end=from_end)
        if self._listener is not None:
            self._listener.start()
        try:
            yield subscription
        finally:
            subscription.leave()

    async def aclose(self) -> None:
        """See `EventStore.aclose`."""
        if self._closed is None or not self._closed.is_set():
            self._check_loop()
        if self._closed is None:
            self._closed = Event()
            try:
                await run_shielded(self._close)
            finally:
                self._closed.set()
                self._signal.notify()
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

    def _encode(self, stream: str, events: object) -> tuple[EncodedEvent, ...]:
        """Encode events, and refuse those that do not belong into the stream, or the store."""
        encoded = encode_events(events)
        if stream.startswith(TOOLKIT_STREAMS):
            check_toolkit_types(stream, (event.type for event in encoded))
        for event in encoded:
            if event.recorded_at is not None:
                self._require(Capability.TIMES)
                break
        return encoded

    async def _wait_in_line(self) -> None:
        """Wait for another turn of the event loop; the append is pending meanwhile."""
        self._pending += 1
        try:
            await self._turnstile.wait()
        finally:
            self._end_pending()

    async def _submit_session(self, commit: Commit) -> Committed:
        self._check_open()
        return await self._submit(commit)

    async def _submit(self, commit: Commit) -> Committed:
        """Commit, call the hooks, and raise for a conflict."""
        if self._hooks:
            detailed = Commit(commit.writes, commit.guards, detailed=True)
            return await run_shielded(self._submit_with_hooks, detailed)
        return await self._written(await self._dispatch(commit))

    async def _submit_with_hooks(self, commit: Commit) -> Committed:
        committed = await self._written(await self._dispatch(commit))
        await self._hooks.call(commit, committed)
        return committed

    async def _written(self, outcome: Outcome) -> Committed:
        """Return what was written, or raise what kept it from that."""
        if isinstance(outcome, QueryConflict):
            raise await self._querying.boundary_error(outcome)
        return require_committed(outcome)

    async def _dispatch(self, commit: Commit) -> Outcome:
        """Write a commit, and count it as pending until then."""
        if self._check_caller is not None:
            self._check_caller()
        self._pending += 1
        try:
            if self._parking is not None:
                return await self._parking.submit(commit)
            return await self._write(commit)
        finally:
            self._end_pending()

    def _end_pending(self) -> None:
        self._pending -= 1
        if not self._pending and self._drained is not None:
            self._drained.set()

    async def _write(self, commit: Commit) -> Outcome:
        """Write a commit, alone or together with others."""
        if self._batching != "never":
            return await self._group.submit(commit, is_alone=self._pending == 1)
        await checkpoint()  # nothing may come between the commit and its result
        return (await self._commit([commit]))[0]

    async def _commit_here(self, commit: Commit) -> Sequence[Outcome]:
        try:
            if self._remote is None:
                return await self._engine.commit([commit])
            return await self._remote.commit_here(commit)
        finally:
            self._signal.notify()

    async def _commit(self, batch: Sequence[Commit]) -> Sequence[Outcome]:
        try:
            if self._remote is None:
                return await self._engine.commit(batch)
            return await self._remote.commit(batch)
        finally:
            self._signal.notify()

    def _page(self, query: StreamQuery) -> Awaitable[StreamPage]:
        return self._fetch.stream(query)

    async def _page_many(self, streams: Sequence[str]) -> Mapping[str, StreamPage]:
        return await self._fetch.many(streams)

    async def _heads(self, streams: Sequence[str]) -> Mapping[str, int]:
        return await self._fetch.heads(streams)

    async def _names(self, query: NameQuery) -> Sequence[StreamInfo]:
        return await self._fetch.names(query)

    async def _close(self) -> None:
        await checkpoint()  # an append that was called before this has reached the queue by then
        while self._pending:
            self._drained = Event()
            await self._drained.wait()
            await checkpoint()  # as above: it may have waited in line
        if self._listener is not None:
            await self._listener.close()
        await self._engine.close()

    def _check_open(self, cause: Exception | None = None) -> None:
        if self._closed is not None:
            message = f"{self!r} has been closed"
            raise StoreClosedError(message) from cause
        self._check_loop()

    def _check_loop(self) -> None:
        """Raise `WrongEventLoopError` unless the store is used where it was opened."""
        self._affinity.check(self)

    def _require(self, capability: Capability) -> None:
        """Raise `NotSupportedError` unless the engine has a capability."""
        if capability not in self.capabilities:
            reason = self.limitations.get(capability, "this backend cannot do it")
            message = f"{type(self).__name__}: no {capability.value}: {reason}"
            raise NotSupportedError(message)
