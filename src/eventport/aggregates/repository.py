"""The repository: aggregates by their ids, each of them a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

from eventport.aggregates.aggregate import (
    Aggregate,
    AggregateExistsError,
    AggregateNotFoundError,
    Folded,
    Place,
    Tracking,
)
from eventport.aggregates.finding import Finding
from eventport.aggregates.indexing import Column, Index
from eventport.aggregates.saving import (
    Written,
    append_pending,
    explain_conflicts,
    in_session,
    settle,
)
from eventport.aggregates.unit_of_work import UnitOfWork
from eventport.command_log import CommandLog, LoggedResult
from eventport.conflicts import ATTEMPTS
from eventport.errors import InvalidArgumentError, InvalidArgumentTypeError
from eventport.folding import EventCodec, Fold, StateLoader, load_many, replay
from eventport.protocols import EventStore, Session, Streams
from eventport.results import AggregateResult, SaveResult
from eventport.validation import show


S = TypeVar("S")
E = TypeVar("E")
T = TypeVar("T")
A = TypeVar("A", bound=Aggregate[Any])


def stream_name(category: str, aggregate_id: str) -> str:
    """Name the stream of an aggregate: ``order-42`` for the category ``order`` and the id 42."""
    return f"{category}-{aggregate_id}"


class Repository(Finding[A]):
    """Loads and saves the aggregates of one kind, each of which has a stream.

    Args:
        store: Any event store.
        category: What the aggregates are, such as ``"order"``.
        new: Makes an aggregate without events: its class, if that takes no arguments.
        types: What turns the events into instances of the program's classes, and back.
        loader: Finds the state of a stream; `Snapshots` is another one than the default.
        name_stream: Names an aggregate's stream, from the category and the id.
        index: Attributes by which aggregates are found, as columns: `unique` or `plain`. They are
            kept in the same commit as the events, which takes `Capability.SESSIONS`.
    """

    def __init__(
        self,
        store: EventStore,
        category: str,
        new: Callable[[], A],
        types: EventCodec[Any],
        *,
        loader: StateLoader = replay,
        name_stream: Callable[[str, str], str] = stream_name,
        index: Mapping[str, Column] | None = None,
    ) -> None:
        self._store = store
        self.category = category
        """What the aggregates are."""
        self.fold: Fold[Any, Any] = Fold(types, new, _apply)
        """How events become the state that the loader finds, and that a snapshot is of."""
        self._types = types
        self._loader = loader
        self._name_stream = name_stream
        self._index = Index(category, index or {}, self._attribute)

    @classmethod
    def of_fold(
        cls,
        store: EventStore,
        category: str,
        fold: Fold[S, E],
        *,
        loader: StateLoader = replay,
        name_stream: Callable[[str, str], str] = stream_name,
        index: Mapping[str, Column] | None = None,
    ) -> Repository[Folded[S, E]]:
        """Make a repository of aggregates that are a state and functions, instead of a class."""
        return _FoldRepository(
            store, category, fold, loader=loader, name_stream=name_stream, index=index
        )

    def stream(self, aggregate_id: str) -> str:
        """Return the name of an aggregate's stream."""
        if not isinstance(cast("object", aggregate_id), str):
            message = f"an id of {self.category!r} must be text, not {show(aggregate_id)}"
            raise InvalidArgumentTypeError(message)
        return self._name_stream(self.category, aggregate_id)

    async def load(
        self, aggregate_id: str, *, to_version: int | None = None, to_time: datetime | None = None
    ) -> A:
        """Load an aggregate, as it is or as it was.

        Args:
            aggregate_id: Its id.
            to_version: Apply no event beyond this version.
            to_time: Apply only the events that were recorded up to this time, an aware one.

        Raises:
            AggregateNotFoundError: it has no event so far.
        """
        return await self._load(self._store, aggregate_id, to_version, to_time)

    async def load_many(self, aggregate_ids: Iterable[str]) -> list[A]:
        """Load several aggregates, in the order of the ids, with as few round trips as can be.

        Raises:
            AggregateNotFoundError: one of them does not exist.
        """
        return await self._load_many(self._store, list(aggregate_ids))

    async def add(
        self, aggregate_id: str, aggregate: A, *, metadata: Mapping[str, Any] | None = None
    ) -> SaveResult:
        """Save a new aggregate under an id that is not taken.

        Args:
            aggregate_id: Its id.
            aggregate: What has recorded its first events.
            metadata: What else to store with each event, besides what `bind_context` has bound.

        Raises:
            AggregateExistsError: the id is taken; nothing was written.
        """
        self._adopt(aggregate_id, aggregate)
        return await self.save(aggregate, metadata=metadata)

    async def save(self, *aggregates: A, metadata: Mapping[str, Any] | None = None) -> SaveResult:
        """Append what aggregates have recorded, all in one commit; if nothing, write nothing.

        Args:
            aggregates: What was loaded or added.
            metadata: What else to store with each event, besides what `bind_context` has bound.

        Returns:
            The version of the last of them, and the position of the last event, for which a
            reader of a projection can wait.

        Raises:
            ConcurrencyError: one has moved since it was loaded; nothing was written, and what it
                has recorded is out of date. Load it again.
            AggregateExistsError: the id of a new one has been taken meanwhile.
            NotSupportedError: there are several to write, and the backend cannot do that.
            StoreUnavailableError: the outcome could not be learned; save the same objects again.
        """
        for aggregate in aggregates:
            if aggregate.aggregate_tracking.place is None:
                message = f"{show(aggregate)} has no id yet: add it, or save what was loaded"
                raise InvalidArgumentError(message)
        # By identity: aggregates may be equal, and need not be hashable.
        changed = list(
            {id(each): each for each in aggregates if each.aggregate_tracking.pending}.values()
        )
        moves = self._index.moves(changed)
        with explain_conflicts(changed):
            if len(changed) == 1 and not moves:
                written = await append_pending(self._store, self._types, changed, metadata)
                position = written[0].position
            else:

                async def append(session: Session) -> list[Written]:
                    found = await append_pending(session, self._types, changed, metadata)
                    await self._index.write(session, moves)
                    return found

                written, position = await in_session(self._store, append)
        settle(written)
        self._index.settle(moves)
        return SaveResult(aggregates[-1].aggregate_version if aggregates else 0, position)

    @asynccontextmanager
    async def unit_of_work(
        self, session: Session | None = None, *, metadata: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[UnitOfWork[A], None]:
        """Load, change and add aggregates, which are saved in one commit when the block ends.

        Within it an id stands for one object, however often it is loaded. If the block raises,
        nothing is saved.

        Args:
            session: Save in this session, together with all else that it writes, when its own
                block ends; with `run_in_session` all of it is done again after a conflict. None
                opens one for this block.
            metadata: What else to store with each event, besides what `bind_context` has bound.

        Raises:
            ConcurrencyError: at the end of the block, if an aggregate has moved meanwhile.
            AggregateExistsError: at the end, if the id of an added one has been taken.
        """
        aggregates: dict[str, A] = {}
        if session is not None:
            yield self._work_in(session, aggregates)
            with explain_conflicts(aggregates.values()):
                moves = self._index.moves(aggregates.values())
                written = await append_pending(session, self._types, aggregates.values(), metadata)
                await self._index.write(session, moves)
        else:
            with explain_conflicts(aggregates.values()):
                async with self._store.session() as own:
                    yield self._work_in(own, aggregates)
                    moves = self._index.moves(aggregates.values())
                    written = await append_pending(own, self._types, aggregates.values(), metadata)
                    await self._index.write(own, moves)
        settle(written)
        self._index.settle(moves)

    async def handle(
        self,
        command: object,
        function: Callable[[UnitOfWork[A]], Awaitable[T]],
        *,
        log: CommandLog,
        id: UUID | None = None,  # noqa: A002  # as `NewEvent` calls it
        metadata: Mapping[str, Any] | None = None,
        session: Session | None = None,
        attempts: int = ATTEMPTS,
    ) -> LoggedResult[T]:
        """Run a function on a unit of work for a command, which is recorded with what it saves.

        See `CommandLog.handle`: a conflict runs it again, an id that is delivered again is
        applied once, and a command that changes nothing is recorded, too.

        Args:
            command: What is wanted.
            function: What to do; it gets the unit of work, which is saved when it returns.
            log: Where to record the command.
            id: The command's identity; None makes a random one.
            metadata: What else to store with each event.
            session: Write in this session, and so at the end of its block.
            attempts: How often to try, at most.

        Raises:
            AggregateExistsError: the id of an added one has been taken.
            CommandIdReusedError: another command was applied under this id before.
            ConcurrencyError: the last attempt had a conflict, too; nothing was written.
        """

        async def work_on(own: Session) -> T:
            async with self.unit_of_work(own) as work:
                return await function(work)

        return await log.handle(
            command,
            work_on,
            id=id,
            metadata=metadata,
            session=session,
            store=self._store,
            attempts=attempts,
        )

    def _attribute(self, aggregate: Any, name: str) -> object:
        return getattr(aggregate, name)

    def _work_in(self, session: Session, aggregates: dict[str, A]) -> UnitOfWork[A]:
        return UnitOfWork(
            session,
            lambda ids: self._load_many(session, ids),
            self._adopt,
            lambda aggregate_id: AggregateExistsError(self.category, aggregate_id),
            aggregates,
        )

    def _restore(self, state: Any) -> A:
        """Make an aggregate of a state that was loaded: here it is that itself."""
        restored: A = state
        return restored

    async def _load(
        self,
        streams: Streams,
        aggregate_id: str,
        to_version: int | None = None,
        to_time: datetime | None = None,
    ) -> A:
        stream = self.stream(aggregate_id)
        if to_time is None:
            loaded = await self._loader.load(streams, stream, self.fold, to_version=to_version)
        elif to_version is None:
            loaded = await self._fold_to_time(streams, stream, to_time)
        else:
            raise InvalidArgumentError("give to_version or to_time, not both")
        return self._restored(aggregate_id, stream, loaded)

    async def _load_many(self, streams: Streams, ids: list[str]) -> list[A]:
        names = [self.stream(aggregate_id) for aggregate_id in ids]
        found = await load_many(self._loader, streams, list(dict.fromkeys(names)), self.fold)
        loaded = {
            aggregate_id: self._restored(aggregate_id, name, found[name])
            for aggregate_id, name in zip(ids, names, strict=True)
        }
        return [loaded[aggregate_id] for aggregate_id in ids]

    def _restored(self, aggregate_id: str, stream: str, loaded: AggregateResult[Any]) -> A:
        """Make an aggregate of a state that was loaded, at the version of its stream."""
        if loaded.version == 0:
            raise AggregateNotFoundError(self.category, aggregate_id)
        aggregate = self._restore(loaded.state)
        place = Place(self.category, aggregate_id, stream)
        columns = self._index.saved_values(aggregate)
        aggregate.aggregate_tracking = Tracking(place, loaded.version, columns=columns)
        return aggregate

    async def _fold_to_time(
        self, streams: Streams, stream: str, time: datetime
    ) -> AggregateResult[Any]:
        if time.tzinfo is None:
            message = f"to_time must be an aware time, not {time!r}: give it a timezone"
            raise InvalidArgumentError(message)
        fold = self.fold
        state, version = fold.initial(), 0
        async with aclosing(streams.iterate(stream)) as events:
            async for event in events:
                if event.recorded_at > time:
                    break
                state, version = fold.evolve(state, fold.types.decode(event)), event.version
        return AggregateResult(state, version, exists=version > 0)

    def _adopt(self, aggregate_id: str, aggregate: A) -> None:
        tracking = aggregate.aggregate_tracking
        if tracking.version:
            message = f"{show(aggregate)} was loaded or saved before: save it, do not add it"
            raise InvalidArgumentError(message)
        if not tracking.pending:
            message = f"{show(aggregate)} has recorded nothing: record its first event"
            raise InvalidArgumentError(message)
        place = Place(self.category, aggregate_id, self.stream(aggregate_id))
        aggregate.aggregate_tracking = Tracking(place, 0, tracking.pending)


class _FoldRepository(Repository[Folded[S, E]], Generic[S, E]):
    """A repository whose loader finds the state alone, so that a snapshot is of the state."""

    def __init__(
        self,
        store: EventStore,
        category: str,
        fold: Fold[S, E],
        *,
        loader: StateLoader,
        name_stream: Callable[[str, str], str],
        index: Mapping[str, Column] | None,
    ) -> None:
        super().__init__(
            store,
            category,
            lambda: Folded(fold),
            fold.types,
            loader=loader,
            name_stream=name_stream,
            index=index,
        )
        self.fold = fold

    def _attribute(self, aggregate: Any, name: str) -> object:
        return getattr(aggregate.state, name)

    def _restore(self, state: S) -> Folded[S, E]:
        aggregate = Folded[S, E](self.fold)
        aggregate.state = state
        return aggregate


def _apply(aggregate: A, event: Any) -> A:
    aggregate.apply(event)
    return aggregate
