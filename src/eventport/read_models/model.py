"""A read model: documents of one class by key, found by the values of some of their fields."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar, get_type_hints

import msgspec

from eventport.errors import CorruptEventError, InvalidArgumentError, InvalidArgumentTypeError
from eventport.transactions import DocumentReader, DocumentWriter
from eventport.typed.conversion import conversion_of, is_record
from eventport.validation import check_int, check_key, show


T = TypeVar("T")

LONGEST_LOOKUP: Final = 500
"""Texts that are longer, in bytes, are kept as their hash: they are only compared."""

_RESERVED: Final = frozenset({"after", "max_count", "self"})


class HoldsDocuments(Protocol):
    """What handlers get: a `ProjectionContext`, or the `Transaction` of an inline handler."""

    @property
    def documents(self) -> DocumentWriter:
        """The documents of the transaction that is open."""
        ...

    @property
    def suffix(self) -> str:
        """Which generation of the read model is being written, as ``_2``."""
        ...


class Found(NamedTuple, Generic[T]):
    """A document and its key."""

    key: str
    document: T


class DocumentView(Generic[T]):
    """The documents of a read model, to be read; see `ReadModel.read`."""

    def __init__(self, model: ReadModel[T], reader: DocumentReader, collection: str) -> None:
        self._model = model
        self._reader = reader
        self._collection = collection

    async def get(self, key: str) -> T | None:
        """Return a document; None if there is none.

        Raises:
            CorruptEventError: what is stored does not fit the class.
        """
        text = await self._reader.get(self._collection, check_key(key, "key"))
        return None if text is None else self._model.decode(key, text)

    async def find(
        self, *, after: str | None = None, max_count: int = 100, **fields: object
    ) -> list[Found[T]]:
        """Return documents in the order of their keys, by the code points of the keys.

        Args:
            after: Only keys after this one, such as the last one of the page before.
            max_count: At most this many.
            fields: The values that fields must have. Only fields that the model was given as
                `lookups` can be named. Without any, all documents are returned.
        """
        found = await self._reader.find(
            self._collection,
            self._model.wanted(fields),
            "" if after is None else check_key(after, "after"),
            check_int("max_count", max_count),
        )
        return [Found(key, self._model.decode(key, text)) for key, text in found]


class Documents(DocumentView[T]):
    """The documents of a read model in a transaction, whose writes they share the fate of."""

    def __init__(self, model: ReadModel[T], writer: DocumentWriter, collection: str) -> None:
        super().__init__(model, writer, collection)
        self._writer = writer

    async def put(self, key: str, document: T) -> None:
        """Keep a document, in place of the one that has this key.

        Raises:
            InvalidEventError: it would not come back equal and of equal types.
        """
        key = check_key(key, "key")
        text, lookups = self._model.encode(key, document)
        await self._writer.put(self._collection, key, text, lookups)

    async def delete(self, key: str) -> bool:
        """Remove a document, and return whether there was one."""
        return await self._writer.delete(self._collection, check_key(key, "key"))


class ReadModel(Generic[T]):
    """What documents are called, what they are, and by which fields they are found.

    Handlers of projections and inline handlers write it within their transaction, so that each
    event counts exactly once. The same program runs in memory, on SQLite, PostgreSQL and MongoDB.

    Args:
        name: What the documents are kept under.
        cls: Their class: a dataclass, attrs class, `msgspec.Struct` or pydantic model.
        lookups: The fields that `find` can be asked for. Their values are text, integers, bools
            or None, or what JSON keeps as text, such as dates, UUIDs and enumerations.
    """

    def __init__(self, name: str, cls: type[T], *, lookups: Collection[str] = ()) -> None:
        self.name: Final = check_key(name, "name of a read model")
        """What its documents are kept under."""
        if isinstance(lookups, str):
            message = f"lookups must be a collection of names, such as [{show(lookups)}]"
            raise InvalidArgumentTypeError(message)
        self._conversion = conversion_of(cls)
        if not is_record(cls):
            message = (
                f"{cls.__qualname__} is no dataclass, attrs class, msgspec.Struct or pydantic "
                "model: make it one of these"
            )
            raise InvalidArgumentTypeError(message)
        known = get_type_hints(cls)
        for field in lookups:
            if field not in known or field in _RESERVED:
                message = f"{cls.__qualname__} has no field {show(field)} that could be looked up"
                raise InvalidArgumentError(message)
        self._lookups = tuple(sorted(set(lookups)))

    def __repr__(self) -> str:
        """Show the name."""
        return f"<ReadModel: {self.name}>"

    def within(self, transaction: HoldsDocuments) -> Documents[T]:
        """Return the documents in the transaction of a handler.

        Args:
            transaction: What the handler was called with. Each generation of a projection has
                documents of its own.
        """
        return Documents(self, transaction.documents, self.name + transaction.suffix)

    def read(self, reader: DocumentReader, *, generation: int = 1) -> DocumentView[T]:
        """Return the documents that have been committed.

        Args:
            reader: What `open_read_models` gave.
            generation: Which generation of the projection; inline handlers write the first.
        """
        number = check_int("generation", generation, least=1)
        return DocumentView(self, reader, f"{self.name}_{number}")

    def encode(self, key: str, document: T) -> tuple[str, list[str]]:
        """Return a document as JSON, and the texts by which it is found."""
        what = f"document {show(key)} of {self.name!r}"
        plain = self._conversion.to_json(document, what)
        lookups = [_lookup(name, plain.get(name), what) for name in self._lookups]
        return msgspec.json.encode(plain).decode(), lookups

    def decode(self, key: str, text: str) -> T:
        """Return a document that was kept as JSON."""
        try:
            document: T = self._conversion.decode(msgspec.json.decode(text))
        except Exception as exc:
            message = (
                f"document {show(key)} of {self.name!r} does not fit its class: give the "
                "projection a new generation, so that the documents are built anew"
            )
            raise CorruptEventError(message) from exc
        return document

    def wanted(self, fields: dict[str, Any]) -> Sequence[str]:
        """Return the texts by which documents with these values are found."""
        for name in fields:
            if name not in self._lookups:
                known = ", ".join(self._lookups) or "none"
                message = f"{self.name!r} has no look-up {show(name)} (lookups: {known})"
                raise InvalidArgumentError(message)
        what = f"a look-up of {self.name!r}"
        return [
            _lookup(name, msgspec.to_builtins(value, enc_hook=_refuse), what)
            for name, value in sorted(fields.items())
        ]


def _lookup(name: str, value: object, what: str) -> str:
    """Return the text that stands for a field and its value."""
    if not (value is None or isinstance(value, str | int)):
        message = (
            f"{what}: {name!r} must be text, an integer, a bool or None to be looked up, not "
            f"{type(value).__name__}"
        )
        raise InvalidArgumentTypeError(message)
    text = f"{name}={msgspec.json.encode(value).decode()}"
    if len(text.encode()) <= LONGEST_LOOKUP:
        return text
    return f"{name}~{sha256(text.encode()).hexdigest()}"


def _refuse(value: object) -> str:
    message = f"a value of type {type(value).__name__} cannot be looked up"
    raise InvalidArgumentTypeError(message)
