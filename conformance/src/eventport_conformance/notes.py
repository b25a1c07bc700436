"""What inline handlers write to in the clauses about them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from msgspec import Struct

from eventport import EventStore
from eventport.read_models import DocumentReader, ReadModel, open_read_models


class Notes(Protocol):
    """Texts that handlers write in the transaction of a commit, each of them once."""

    async def write(self, transaction: Any, text: str) -> None:
        """Write a text in the transaction of a handler."""
        ...

    async def committed(self) -> Sequence[str]:
        """Return what has been committed, in any order."""
        ...


class _Note(Struct):
    text: str


_NOTES: Final = ReadModel("eventport-conformance notes", _Note)


class DocumentNotes:
    """Notes that are documents of a read model.

    Args:
        reader: Reads the documents.
    """

    def __init__(self, reader: DocumentReader) -> None:
        self._reader = reader

    @classmethod
    @asynccontextmanager
    async def open(cls, store: EventStore) -> AsyncGenerator[DocumentNotes, None]:
        """Open the notes of a store that keeps documents."""
        async with open_read_models(store) as reader:
            yield cls(reader)

    async def write(self, transaction: Any, text: str) -> None:
        """See `Notes.write`."""
        await _NOTES.within(transaction).put(text, _Note(text))

    async def committed(self) -> Sequence[str]:
        """See `Notes.committed`."""
        found = await _NOTES.read(self._reader).find(max_count=10_000)
        return [one.document.text for one in found]
