"""Typed events: classes of the program's own in place of names and JSON, version by version."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet  # msgspec resolves field types at run time
from copy import deepcopy
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast, overload
from uuid import UUID

from msgspec import Struct

from eventport._ids import new_id
from eventport.context import SCHEMA_VERSION
from eventport.errors import InvalidArgumentError, InvalidArgumentTypeError, InvalidEventError
from eventport.events import NewEvent, RecordedEvent
from eventport.protocols import EventStore, Streams
from eventport.typed.conversion import (
    Conversion,
    conversion_of,
    custom_conversion,
    explain,
    is_record,
)
from eventport.typed.refusals import EventDataError, EventVersionError, UnknownEventTypeError
from eventport.typed.streams import TypedStore, TypedStreams
from eventport.typed.tagging import tags_of
from eventport.validation import check_event_type, check_int, check_metadata, show


Upcaster: TypeAlias = Callable[[Any], Any]
"""Turns the data of one version into that of the next: a dict, or what `encode` returned."""

E = TypeVar("E")
C = TypeVar("C")


class EventTypes(Generic[E]):
    """The classes that a program has for its events, and the names they are stored under.

    ``EventTypes[Placed | Shipped](Placed, Shipped)`` knows two. A class may be a dataclass, an
    attrs class, a `msgspec.Struct` or a pydantic model. Its name is the event's type, unless
    `register` gives another one.

    Args:
        classes: Classes to register under their own names, at version 1.
        unknown: What becomes of a stored event of another type: ``"raise"`` an
            `UnknownEventTypeError`, or leave it ``"raw"``, with the data as it is stored.
    """

    def __init__(self, *classes: type[E], unknown: Literal["raise", "raw"] = "raise") -> None:
        if unknown not in {"raise", "raw"}:
            message = f"unknown must be 'raise' or 'raw', not {show(unknown)}"
            raise InvalidArgumentError(message)
        self._unknown = unknown
        self._by_name: dict[str, _Registered] = {}
        self._by_class: dict[type, _Registered] = {}
        for cls in classes:
            self.register(cls)

    @property
    def names(self) -> frozenset[str]:
        """The names of all types known: pass them as `types` to read or follow just these."""
        return frozenset(self._by_name)

    @overload
    def register(
        self,
        cls: type[C],
        /,
        *,
        name: str | None = None,
        aliases: Collection[str] = (),
        version: int = 1,
        upcasters: Mapping[int, Upcaster] | None = None,
        encode: Callable[[C], Any] | None = None,
        decode: Callable[[Any], C] | None = None,
        tags: Callable[[Any], AbstractSet[str]] | None = None,
    ) -> type[C]: ...

    @overload
    def register(
        self,
        /,
        *,
        name: str | None = None,
        aliases: Collection[str] = (),
        version: int = 1,
        upcasters: Mapping[int, Upcaster] | None = None,
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
        tags: Callable[[Any], AbstractSet[str]] | None = None,
    ) -> Callable[[type[C]], type[C]]: ...

    def register(
        self,
        cls: type[C] | None = None,
        /,
        *,
        name: str | None = None,
        aliases: Collection[str] = (),
        version: int = 1,
        upcasters: Mapping[int, Upcaster] | None = None,
        encode: Callable[[C], Any] | None = None,
        decode: Callable[[Any], C] | None = None,
        tags: Callable[[Any], AbstractSet[str]] | None = None,
    ) -> type[C] | Callable[[type[C]], type[C]]:
        """Register a class; without one, return a decorator that does.

        Args:
            cls: The class.
            name: What its events are stored as; if None, the class's own name.
            aliases: Names that its events were stored under before, and are still read from.
                Versions count on across all names.
            version: The version of the data that the class now has.
            upcasters: For each version before it, what turns its data into the next version's:
                ``{1: from_1_to_2, 2: from_2_to_3}`` for version 3.
            encode: Turns an instance into bytes, or into JSON values, in a way of the program's
                own, such as Protobuf, Avro or MessagePack. The class may then be of any kind.
            decode: Turns that into an instance again.
            tags: Returns what an event of the class is about, such as
                ``lambda enrolled: {f"course:{enrolled.course}"}``; besides, fields that are
                marked with `Tag` are tags.

        Raises:
            InvalidArgumentError: the class or its name is registered already, or a step is
                missing or too many.
        """
        if cls is None:
            return lambda decorated: self.register(
                decorated,
                name=name,
                aliases=aliases,
                version=version,
                upcasters=upcasters,
                encode=encode,
                decode=decode,
                tags=tags,
            )
        conversion = _conversion(cls, encode, decode)
        name = check_event_type(cls.__name__ if name is None else name)
        steps = _check_steps(name, check_int("version", version, least=1), upcasters or {})
        names = (name, *_check_aliases(name, aliases))
        for known in (*map(self._by_name.get, names), self._by_class.get(cls)):
            if known is not None:
                message = f"{known.cls.__qualname__} is registered as {known.name!r} already"
                raise InvalidArgumentError(message)
        registered = _Registered(
            cls, name, f"event {name!r}", version, steps, conversion, tags_of(cls, tags)
        )
        self._by_class[cls] = registered
        self._by_name.update(dict.fromkeys(names, registered))
        return cls

    def name_of(self, cls: type) -> str:
        """Return the name that the events of a class are stored under.

        Raises:
            UnknownEventTypeError: it is not registered.
        """
        if (registered := self._by_class.get(cls)) is None:
            raise UnknownEventTypeError(cls.__qualname__, self.names)
        return registered.name

    def names_of(self, cls: type) -> frozenset[str]:
        """Return all names that the events of a class are read from.

        Raises:
            UnknownEventTypeError: it is not registered.
        """
        newest = self._by_name[self.name_of(cls)]
        return frozenset(name for name, known in self._by_name.items() if known is newest)

    def new(
        self,
        event: E,
        *,
        metadata: Mapping[str, Any] | None = None,
        id: UUID | None = None,  # noqa: A002  # as `NewEvent` calls it
        tags: AbstractSet[str] = frozenset(),
    ) -> NewEvent:
        """Make an event that can be appended.

        Args:
            event: An instance of a registered class.
            metadata: What else to store with it.
            id: The event's identity; a random one if None.
            tags: What it is about, besides what its class says.

        Raises:
            UnknownEventTypeError: its class is not registered.
            InvalidEventError: it holds what would not come back equal and of equal types; the
                message has the path of the field.
        """
        registered = self._by_class.get(type(event))
        if registered is None:
            raise UnknownEventTypeError(type(event).__qualname__, self.names)
        data = registered.conversion.to_json(event, registered.what)
        own = check_metadata(metadata)
        if SCHEMA_VERSION in own:
            message = f"{registered.what}: the key {SCHEMA_VERSION!r} of metadata is taken"
            raise InvalidEventError(message)
        if registered.version != 1:
            own[SCHEMA_VERSION] = registered.version
        if registered.tags is not None:
            tags |= registered.tags(event)
        return NewEvent(registered.name, data, own, new_id() if id is None else id, tags)

    def typed(self, event: RecordedEvent) -> RecordedEvent[E]:
        """Return a stored event with its data as an instance of its class.

        Raises:
            UnknownEventTypeError: its type is not known, and `unknown` is ``"raise"``.
            EventVersionError: it was written by a newer program.
            EventDataError: its data does not fit the class, or an upcaster failed.
        """
        return RecordedEvent(
            event.stream,
            event.version,
            event.position,
            event.type,
            self.decode(event),
            event.metadata,
            event.id,
            event.recorded_at,
            event.tags,
        )

    def decode(self, event: RecordedEvent) -> E:
        """Return only the data of a stored event, as `typed` does."""
        registered = self._by_name.get(event.type)
        if registered is None:
            if self._unknown == "raw":
                return cast("E", event.data)
            raise UnknownEventTypeError(event.type, self.names)
        data = event.data
        version = event.metadata.get(SCHEMA_VERSION, 1)
        if version != registered.version:
            data = _upcast(registered, event, version)
        try:
            return cast("E", registered.conversion.decode(data))
        except Exception as exc:
            path, why = explain(exc)
            reason = f"its data is no {registered.cls.__qualname__}: {why}"
            raise EventDataError(event, reason + (path and f" at {path}")) from exc

    @overload
    def on(self, streams: EventStore, /) -> TypedStore[E]: ...

    @overload
    def on(self, streams: Streams, /) -> TypedStreams[E]: ...

    def on(self, streams: EventStore | Streams, /) -> TypedStore[E] | TypedStreams[E]:
        """Return a store or session that takes and returns instances of these classes.

        Args:
            streams: Any event store, or a session of one. It stays open as long as before.
        """
        if not hasattr(streams, "subscribe"):  # a session
            return TypedStreams(self, streams)
        store = cast("EventStore", streams)
        return TypedStore(self, store, None if self._unknown == "raw" else self.names)


class _Registered(Struct, frozen=True):
    """A class, and how its events are stored."""

    cls: type
    name: str
    what: str  # as messages name its events
    version: int
    steps: Mapping[int, Upcaster]
    conversion: Conversion
    tags: Callable[[Any], AbstractSet[str]] | None


def _conversion(
    cls: type[C], encode: Callable[[C], Any] | None, decode: Callable[[Any], C] | None
) -> Conversion:
    """Return how instances become data: by what the program gives, or by what the class is."""
    if encode is not None and decode is not None:
        return custom_conversion(cls, encode, decode)
    if encode is not None or decode is not None:
        message = f"{show(cls)} needs both, encode and decode, or none of them"
        raise InvalidArgumentError(message)
    conversion = conversion_of(cls)
    if not is_record(cls):
        message = (
            f"{cls.__qualname__} is no dataclass, attrs class, msgspec.Struct or pydantic model: "
            "make it one of these, or register it with encode= and decode="
        )
        raise InvalidArgumentTypeError(message)
    return conversion


def _check_aliases(name: str, aliases: object) -> list[str]:
    if isinstance(aliases, str) or not isinstance(aliases, Collection):
        message = f"aliases must be a collection of names, such as [{show(aliases)}]"
        raise InvalidArgumentTypeError(message)
    checked = [check_event_type(alias) for alias in cast("Collection[object]", aliases)]
    if len({name, *checked}) <= len(checked):
        message = f"event type {name!r}: a name is among its aliases twice, or is the newest one"
        raise InvalidArgumentError(message)
    return checked


def _check_steps(name: str, version: int, steps: Mapping[int, Upcaster]) -> Mapping[int, Upcaster]:
    for before in range(1, version):
        if before not in steps:
            message = f"event type {name!r}: no upcaster from version {before} to {before + 1}"
            raise InvalidArgumentError(message)
    for before in steps:
        if before not in range(1, version):
            message = f"event type {name!r}: version {version} needs no upcaster from {before!r}"
            raise InvalidArgumentError(message)
    return dict(steps)


def _upcast(registered: _Registered, event: RecordedEvent, version: Any) -> Any:
    """Bring old data to the version that the class now has."""
    if type(version) is not int or not 1 <= version <= registered.version:
        raise EventVersionError(event, version, registered.version)
    data = deepcopy(event.data)  # a step may work in place, and the caller keeps its event
    for before in range(version, registered.version):
        try:
            data = registered.steps[before](data)
        except Exception as exc:
            # Its text may quote the data.
            reason = (
                f"the upcaster from version {before} to {before + 1} raised {type(exc).__name__}"
            )
            raise EventDataError(event, reason) from exc
    return data
