"""Transactions that handlers write in: what they get, and how documents are kept there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias

from msgspec import Struct

from eventport.errors import NotSupportedError
from eventport.events import RecordedEvent


if TYPE_CHECKING:
    from typing_extensions import TypeVar

    C = TypeVar("C", default=Any)
else:
    from typing import TypeVar  # a default, which only type checkers see, takes Python 3.13

    C = TypeVar("C")


class DocumentReader(Protocol):
    """Reads documents, which are JSON texts by key in collections.

    `eventport.read_models.ReadModel` makes typed documents of it; names and keys have been
    checked there.
    """

    async def get(self, collection: str, key: str, /) -> str | None:
        """Return a document; None if there is none."""
        ...

    async def find(
        self, collection: str, lookups: Sequence[str], after: str, max_count: int, /
    ) -> Sequence[tuple[str, str]]:
        """Return keys and documents in the order of the keys' code points.

        Args:
            collection: Where to look.
            lookups: Only documents that were put with all of these.
            after: Only keys after this one; "" for all.
            max_count: At most this many.
        """
        ...


class DocumentWriter(DocumentReader, Protocol):
    """Reads and writes documents in a transaction that is open; reads see what it wrote.

    What is read here cannot be changed by others before the transaction ends, or else it is
    undone: so a document can be read, changed and put back.
    """

    async def put(
        self, collection: str, key: str, document: str, lookups: Sequence[str], /
    ) -> None:
        """Keep a document in place of the one before, with the texts that find it."""
        ...

    async def delete(self, collection: str, key: str, /) -> bool:
        """Remove a document, and return whether there was one."""
        ...


class Transaction(Struct, Generic[C], frozen=True):
    """The transaction of a commit, which an inline handler writes in."""

    connection: C
    """What the database's driver calls a connection, in that transaction; None in memory."""
    documents: DocumentWriter
    """The documents of read models, in the same transaction; see `ReadModel.within`."""

    @property
    def suffix(self) -> str:
        """What `ProjectionContext.suffix` is for the first generation of a projection."""
        return "_1"


InlineHandler: TypeAlias = Callable[[Sequence[RecordedEvent], Transaction[C]], Awaitable[None]]
"""Called inside the transaction of each commit, with the events of that commit."""


class RefusedDocuments:
    """A `DocumentWriter` where no transaction holds documents: it says why, and what does.

    Args:
        reason: The text of the error.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def get(self, _: str, __: str, /) -> str | None:
        """Refuse."""
        raise NotSupportedError(self._reason)

    async def find(
        self, _: str, __: Sequence[str], ___: str, ____: int, /
    ) -> Sequence[tuple[str, str]]:
        """Refuse."""
        raise NotSupportedError(self._reason)

    async def put(self, _: str, __: str, ___: str, ____: Sequence[str], /) -> None:
        """Refuse."""
        raise NotSupportedError(self._reason)

    async def delete(self, _: str, __: str, /) -> bool:
        """Refuse."""
        raise NotSupportedError(self._reason)
