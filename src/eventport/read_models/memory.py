"""Documents in memory: for tests, and for read models that live as long as the process."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeAlias

from anyio import Lock, Semaphore

from eventport._concurrency.checkpoints import checkpoint
from eventport.errors import NotSupportedError


_Kept: TypeAlias = tuple[str, frozenset[str]]
"""A document, and the texts that find it."""


class MemoryDocuments:
    """Documents that live as long as the object: a `DocumentReader`.

    One transaction at a time reads and writes them, as on SQLite.
    """

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, _Kept]] = {}
        self._turn = Semaphore(1)

    @property
    def current(self) -> MemoryTransaction | None:
        """The transaction that the caller is in, if there is one."""
        found = _current.get()
        return found if found is not None and found.is_of(self) else None

    @contextmanager
    def transaction(self) -> Generator[MemoryTransaction]:
        """Open a transaction, whose writes are kept at the end of the block unless it raises."""
        transaction = MemoryTransaction(self, self._kept, self._turn, self.current)
        token = _current.set(transaction)
        try:
            yield transaction
            transaction.commit()
        finally:
            _current.reset(token)
            transaction.end()

    async def get(self, collection: str, key: str, /) -> str | None:
        """See `DocumentReader.get`."""
        await checkpoint()
        found = self._kept.get(collection, {}).get(key)
        return None if found is None else found[0]

    async def find(
        self, collection: str, lookups: Sequence[str], after: str, max_count: int, /
    ) -> Sequence[tuple[str, str]]:
        """See `DocumentReader.find`."""
        await checkpoint()
        return _select(self._kept.get(collection, {}), lookups, after, max_count)


class MemoryTransaction:
    """A `DocumentWriter` whose writes nobody else sees before its end.

    It waits for its turn when it is first used, so those that use no documents never wait.
    """

    def __init__(
        self,
        documents: MemoryDocuments,
        kept: dict[str, dict[str, _Kept]],
        turn: Semaphore,
        around: MemoryTransaction | None,
    ) -> None:
        self._documents = documents
        self._kept = kept
        self._turn = turn
        self._around = around
        self._changes: dict[str, dict[str, _Kept | None]] = {}
        self._beginning = Lock()
        self._has_turn = False
        self._is_open = True

    def is_of(self, documents: MemoryDocuments) -> bool:
        """Return whether it is open, and writes these documents."""
        return self._is_open and self._documents is documents

    async def get(self, collection: str, key: str, /) -> str | None:
        """See `DocumentReader.get`."""
        await self._begin()
        found = self._seen(collection).get(key)
        return None if found is None else found[0]

    async def find(
        self, collection: str, lookups: Sequence[str], after: str, max_count: int, /
    ) -> Sequence[tuple[str, str]]:
        """See `DocumentReader.find`."""
        await self._begin()
        return _select(self._seen(collection), lookups, after, max_count)

    async def put(
        self, collection: str, key: str, document: str, lookups: Sequence[str], /
    ) -> None:
        """See `DocumentWriter.put`."""
        await self._begin()
        self._changes.setdefault(collection, {})[key] = document, frozenset(lookups)

    async def delete(self, collection: str, key: str, /) -> bool:
        """See `DocumentWriter.delete`."""
        await self._begin()
        was_there = key in self._seen(collection)
        self._changes.setdefault(collection, {})[key] = None
        return was_there

    def commit(self) -> None:
        """Let others see what was written."""
        for collection in self._changes:
            self._kept[collection] = self._seen(collection)

    def end(self) -> None:
        """Let the next transaction have its turn."""
        self._is_open = False
        if self._has_turn:
            self._has_turn = False
            self._turn.release()

    async def _begin(self) -> None:
        await checkpoint()
        async with self._beginning:
            if not self._is_open:
                raise NotSupportedError("the transaction of these documents has ended")
            if self._has_turn:
                return
            if self._around is not None and self._around._has_turn:  # noqa: SLF001  # of one class
                message = (
                    "this handler would wait for itself: the documents are in the transaction of "
                    "another handler, which appended to the store"
                )
                raise NotSupportedError(message)
            await self._turn.acquire()
            self._has_turn = True

    def _seen(self, collection: str) -> dict[str, _Kept]:
        merged = {**self._kept.get(collection, {}), **self._changes.get(collection, {})}
        return {key: kept for key, kept in merged.items() if kept is not None}


_current: Final[ContextVar[MemoryTransaction | None]] = ContextVar(
    "eventport_memory_transaction", default=None
)


def _select(
    kept: Mapping[str, _Kept], lookups: Sequence[str], after: str, max_count: int
) -> list[tuple[str, str]]:
    wanted = set(lookups)
    keys = sorted(key for key, (_, texts) in kept.items() if key > after and wanted <= texts)
    return [(key, kept[key][0]) for key in keys[:max_count]]
