"""The repository: aggregates by their ids, each of them a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from eventport.aggregates.aggregate import Aggregate, Folded, Place
from eventport.aggregates.work import Work
from eventport.context import current_context
from eventport.errors import (
    AggregateExistsError,
    AggregateNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidArgumentTypeError,
)
from eventport.folding import Fold, StateLoader, replay
from eventport.protocols import EventStore, Session, Streams
from eventport.results import AggregateResult, SaveResult
from eventport.typed import EventTypes
from eventport.validation import show


S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A", bound=Aggregate[Any])


def stream_name(category: str, aggregate_id: str) -> str:
    """Name the stream of an aggregate: ``order-42`` for the category ``order`` and the id 42."""
    return f"{category}-{aggregate_id}"


class Repository(Generic[A]):
    """Loads and saves the aggregates of one kind, each of which has a stream.

    Args:
        store: Any event store.
        category: What the aggregates are, such as ``"order"``.
        new: Makes an aggregate without events: its class, if that takes no arguments.
        types: What turns the events into instances of the program's classes, and back.
        loader: Finds the state of a stream; `Snapshots` is another one than the default.
        name_stream: Names an aggregate's stream, from the category and the id.
    """

    def __init__(
        self,
        store: EventStore,
        category: str,
        new: Callable[[], A],
        types: EventTypes[Any],
        *,
        loader: StateLoader = replay,
        name_stream: Callable[[str, str], str] = stream_name,
    ) -> None:
        self._store = store
        self.category = category
        """What the aggregates are."""
        self.fold: Fold[Any, Any] = Fold(types, new, _apply)
        """How events become the state that the loader finds, and that a snapshot is of."""
        self._restore: Callable[[Any], A] = _itself
        self._loader = loader
        self._name_stream = name_stream

    @classmethod
    def of_fold(
        cls,
        store: EventStore,
        category: str,
        fold: Fold[S, E],
        *,
        loader: StateLoader = replay,
        name_stream: Callable[[str, str], str] = stream_name,
    ) -> Repository[Folded[S, E]]:
        """Make a repository of aggregates that are a state and functions, instead of a class."""

        def restore(state: S) -> Folded[S, E]:
            aggregate = Folded(fold)
            aggregate.state = state
            return aggregate

        repository = Repository[Folded[S, E]](
            store,
            category,
            lambda: Folded(fold),
            fold.types,
            loader=loader,
            name_stream=name_stream,
        )
        repository.fold = fold
        repository._restore = restore
        return repository

    def stream(self, aggregate_id: str) -> str:
        """Return the name of an aggregate's stream."""
        if not isinstance(aggregate_id, str):
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
            to_time: Apply events only as long as they were recorded by then; an aware time.

        Raises:
            AggregateNotFoundError: it has no event so far.
        """
        return await self._load(self._store, aggregate_id, to_version, to_time)

    async def load_many(self, aggregate_ids: Iterable[str]) -> list[A]:
        """Load several aggregates, one after the other, in the order of the ids."""
        return [await self.load(aggregate_id) for aggregate_id in aggregate_ids]

    async def add(self, aggregate_id: str, aggregate: A) -> SaveResult:
        """Save a new aggregate under an id that nobody has taken.

        Raises:
            AggregateExistsError: the id is taken; nothing was written.
        """
        self._give_place(aggregate_id, aggregate)
        return await self.save(aggregate)

    async def save(self, *aggregates: A) -> SaveResult:
        """Append what aggregates have recorded, all in one commit; if nothing, write nothing.

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
            if aggregate._place is None:
                message = f"{show(aggregate)} has no id yet: add it, or save what was loaded"
                raise InvalidArgumentError(message)
        # Told apart by identity: aggregates may be equal, and need not be hashable.
        changed = list({id(each): each for each in aggregates if each._pending}.values())
        with _explained(changed):
            if len(changed) == 1:
                written = await self._append(self._store, changed)
                position = written[0].position
            else:
                async with self._store.session() as session:
                    written = await self._append(session, changed)
                position = session.position
        _settle(written)
        return SaveResult(aggregates[-1].aggregate_version if aggregates else 0, position)

    @asynccontextmanager
    async def unit_of_work(self, session: Session | None = None) -> AsyncGenerator[Work[A], None]:
        """Load, change and add aggregates, which are saved in one commit when the block ends.

        Within it an id stands for one object, however often it is loaded. If the block raises,
        nothing is saved.

        Args:
            session: Save in this session, together with all else that it writes, when its own
                block ends; with `run_in_session` all of it is done again after a conflict. None
                opens one for this block.

        Raises:
            ConcurrencyError: at the end of the block, if an aggregate has moved meanwhile.
            AggregateExistsError: at the end, if the id of an added one has been taken.
        """
        if session is not None:
            work = Work(self, session)
            yield work
            with _explained(work.aggregates.values()):
                written = await self._append(session, work.aggregates.values())
        else:
            aggregates: dict[str, A] = {}
            with _explained(aggregates.values()):
                async with self._store.session() as own:
                    yield Work(self, own, aggregates)
                    written = await self._append(own, aggregates.values())
        _settle(written)

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
        if loaded.version == 0:
            raise AggregateNotFoundError(self.category, aggregate_id)
        aggregate = self._restore(loaded.state)
        aggregate._place = Place(self.category, aggregate_id, stream)
        aggregate._version = loaded.version
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

    def _give_place(self, aggregate_id: str, aggregate: A) -> None:
        if aggregate._version:
            message = f"{show(aggregate)} was loaded or saved before: save it, do not add it"
            raise InvalidArgumentError(message)
        if not aggregate._pending:
            message = f"{show(aggregate)} has recorded nothing: record its first event"
            raise InvalidArgumentError(message)
        stream = self.stream(aggregate_id)
        aggregate._place = Place(self.category, aggregate_id, stream)

    async def _append(self, streams: Streams, aggregates: Iterable[A]) -> list[_Written]:
        metadata = current_context().metadata
        written: list[_Written] = []
        for aggregate in aggregates:
            place, pending = aggregate._place, aggregate._pending
            if place is None or not pending:
                continue
            events = [
                self.fold.types.new(event, metadata=metadata, id=id_) for event, id_ in pending
            ]
            appended = await streams.append(place.stream, events, expected=aggregate._version)
            written.append(_Written(aggregate, len(pending), appended.version, appended.position))
        return written


class _Written(NamedTuple):
    """What was appended of an aggregate."""

    aggregate: Aggregate[Any]
    events: int
    version: int
    position: int | None


def _settle(written: Iterable[_Written]) -> None:
    """Note what has been saved; an aggregate may have recorded more meanwhile."""
    for one in written:
        one.aggregate._pending = one.aggregate._pending[one.events :]
        one.aggregate._version = one.version


@contextmanager
def _explained(aggregates: Iterable[Aggregate[Any]]) -> Generator[None]:
    """Say of a conflict that comes of a new aggregate that there is one already."""
    try:
        yield
    except ConcurrencyError as exc:
        for aggregate in aggregates:
            place = aggregate._place
            if place is not None and place.stream == exc.stream and not aggregate._version:
                raise AggregateExistsError(place.category, place.id) from exc
        raise


def _apply(aggregate: A, event: Any) -> A:
    aggregate.apply(event)
    return aggregate


def _itself(state: A) -> A:
    return state
