"""Columns of aggregates: values by which they are found, kept in the commits of their events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from eventport.aggregates.aggregate import Aggregate
from eventport.errors import InvalidArgumentError, InvalidArgumentTypeError
from eventport.events import NewEvent
from eventport.keys import UniqueKeys
from eventport.protocols import EventStore, Session, Streams
from eventport.toolkit_streams import parts_of, toolkit_stream
from eventport.validation import show


ADDED: Final = "eventport.IndexEntryAdded"
REMOVED: Final = "eventport.IndexEntryRemoved"

_PAGE: Final = 1_000
_KIND: Final = "index"


class Column(Struct, frozen=True):
    """A value of aggregates by which they are found: an attribute that is text, or None for none.

    The constants `unique` and `plain` are the usual ones.
    """

    is_unique: bool = False
    """Whether at most one aggregate can have a value."""
    normalise: Callable[[str], str] | None = None
    """Maps values that count as the same to one, such as `str.casefold`. It must not change."""


unique: Final = Column(is_unique=True)
"""At most one aggregate has a value."""

plain: Final = Column()
"""Any number of aggregates have a value."""


class Move(NamedTuple):
    """What a save changes of the columns of an aggregate."""

    aggregate: Aggregate[Any]
    id: str
    before: Mapping[str, str]
    after: Mapping[str, str]


class Index:
    """The columns of one kind of aggregates.

    A unique column keeps a key stream for each value. A plain one keeps a stream for each value
    and id: an event adds the entry, the next one removes it, and so on, so an entry is there if
    the version of its stream is odd, which a list of streams shows without reading any.

    Args:
        category: What the aggregates are.
        columns: The columns by name.
        read: Returns an attribute of an aggregate.
    """

    def __init__(
        self,
        category: str,
        columns: Mapping[str, Column],
        read: Callable[[Any, str], object],
    ) -> None:
        self._category = category
        self._columns = columns
        self._read = read
        self._keys = {
            name: UniqueKeys(f"{category}.{name}", normalise=column.normalise)
            for name, column in columns.items()
            if column.is_unique
        }

    def values(self, aggregate: Aggregate[Any]) -> dict[str, str]:
        """Return the values that an aggregate has now, by column."""
        found: dict[str, str] = {}
        for name in self._columns:
            value = self._read(aggregate, name)
            if value is not None:
                found[name] = self._stored(name, value)
        return found

    def saved_values(self, aggregate: Aggregate[Any]) -> dict[str, str]:
        """Return the values that an aggregate has as it was saved, by column.

        It may have been saved before there was an index, with what no column can hold. That was
        never indexed, so it counts as no value, and the aggregate can be loaded to be repaired.
        """
        found: dict[str, str] = {}
        for name in self._columns:
            value = self._read(aggregate, name)
            if isinstance(value, str):
                with suppress(InvalidArgumentError):
                    found[name] = self._stored(name, value)
        return found

    def moves(self, aggregates: Iterable[Aggregate[Any]]) -> list[Move]:
        """Return what saving these aggregates changes of their columns."""
        found: list[Move] = []
        for aggregate in aggregates if self._columns else ():
            tracking = aggregate.aggregate_tracking
            after = self.values(aggregate)
            if tracking.place is not None and tracking.pending and tracking.columns != after:
                found.append(Move(aggregate, tracking.place.id, tracking.columns, after))
        return found

    async def write(self, session: Session, moves: Sequence[Move]) -> None:
        """Make the columns what they are after some moves, in the commit of a session.

        What is so already is not written again.

        Raises:
            DuplicateKeyError: a value of a unique column belongs to another aggregate.
        """
        for name, keys in self._keys.items():
            async with keys.changes(session) as changes:
                for move in moves:
                    before, after = move.before.get(name), move.after.get(name)
                    if before is not None and before != after:
                        changes.release(before, move.id)
                    if after is not None:
                        changes.claim(after, move.id)
        for name in self._columns.keys() - self._keys.keys():
            for move in moves:
                before, after = move.before.get(name), move.after.get(name)
                if before is not None and before != after:
                    await self._set(session, name, before, move.id, there=False)
                if after is not None:
                    await self._set(session, name, after, move.id, there=True)

    async def owner(self, streams: Streams, name: str, value: object) -> str | None:
        """Return the id of the aggregate that has a value of a unique column; None if none has."""
        column = self._column(name)
        if not column.is_unique:
            message = f"column {name!r} of {self._category!r} is not unique: list_by finds all"
            raise InvalidArgumentError(message)
        return await self._keys[name].find_by(streams, self._stored(name, value))

    async def ids(
        self, store: EventStore, name: str, value: object, after: str | None, max_count: int
    ) -> list[str]:
        """Return a page of the ids that have a value of a plain column, in their order."""
        if self._column(name).is_unique:
            message = f"column {name!r} of {self._category!r} is unique: find_by finds the one"
            raise InvalidArgumentError(message)
        stored = self._stored(name, value)
        prefix = toolkit_stream(_KIND, self._category, name, stored) + "/"
        last = None if after is None else self._entry(name, stored, after)
        found: list[str] = []
        while len(found) < max_count:
            page = await store.streams(prefix=prefix, after=last, max_count=_PAGE)
            found += (parts_of(one.stream)[-1] for one in page if one.version % 2)
            if len(page) < _PAGE:
                break
            last = page[-1].stream
        return found[:max_count]

    def settle(self, moves: Iterable[Move]) -> None:
        """Note what has been saved."""
        for move in moves:
            tracking = move.aggregate.aggregate_tracking
            move.aggregate.aggregate_tracking = replace(tracking, columns=move.after)

    async def _set(
        self, session: Session, name: str, value: str, aggregate_id: str, *, there: bool
    ) -> None:
        stream = self._entry(name, value, aggregate_id)
        version = (await session.read(stream, max_count=0)).version
        if bool(version % 2) != there:
            event = NewEvent(ADDED if there else REMOVED, {"id": aggregate_id})
            await session.append(stream, [event], expected=version)

    def _entry(self, name: str, value: str, aggregate_id: str) -> str:
        stream = toolkit_stream(_KIND, self._category, name, value, aggregate_id)
        if "~" in stream:
            message = (
                f"column {name!r} of {self._category!r}: the value and the id are too long "
                "together: make them shorter than about 400 bytes"
            )
            raise InvalidArgumentError(message)
        return stream

    def _column(self, name: str) -> Column:
        if name not in self._columns:
            known = ", ".join(self._columns) or "none"
            message = f"there is no column {show(name)} of {self._category!r}: there are {known}"
            raise InvalidArgumentError(message)
        return self._columns[name]

    def _stored(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            message = (
                f"column {name!r} of {self._category!r} must be text, or None for no value, not a "
                f"{type(value).__name__}: give it a property that is text"
            )
            raise InvalidArgumentTypeError(message)
        normalise = self._columns[name].normalise
        text = value if normalise is None else normalise(value)
        if not text:
            message = f"column {name!r} of {self._category!r} is empty: None stands for no value"
            raise InvalidArgumentError(message)
        return text
