"""Bugs of inline handlers, and of stores in a transaction of the caller's."""

# They override methods, and do it wrong.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any
from unittest.mock import patch

from adapters.sqlite.tests.joining import caller_transaction
from conformance.tests.toolkit_mutants import MUTANTS, Right, mutant

from eventport import EventStore, InlineProjectionError, NotSupportedError
from eventport.adapter import Commit, Failed, Outcome, call_inline, new_events
from eventport.transactions import Transaction

from eventport_conformance import Capabilities, UrlHarness
from eventport_conformance.notes import DocumentNotes, Notes
from eventport_memory import MemoryEventStore
from eventport_memory.engine import MemoryEngine
from eventport_sqlite import SQLiteEventStore


__all__ = ["MUTANTS", "Joining"]


class _Inline(Right):
    """A store in memory whose engine has a bug."""

    made: type[MemoryEngine]

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        async with MemoryEventStore() as store:
            store.engine.__class__ = self.made
            vars(store)["_check_caller"] = store.engine.check_caller  # type: ignore[attr-defined]  # it is one in memory
            yield store


class _OtherHandlers(MemoryEngine):
    """It calls other handlers than were registered."""

    def change(self, handlers: tuple[Any, ...]) -> tuple[Any, ...]:
        return handlers

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        kept = tuple(self.inline)
        self.inline._handlers = self.change(kept)
        try:
            return await super().commit(batch)
        finally:
            self.inline._handlers = kept


@mutant("INL-01", "INL-02")
class HandlersRunForEachEvent(_Inline):
    """It calls the handlers with one event at a time."""

    class made(_OtherHandlers):  # noqa: N801  # as above
        def change(self, handlers: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(map(_one_by_one, handlers))


def _one_by_one(handler: Any) -> Any:
    async def call(events: Sequence[Any], transaction: Any) -> None:
        for event in events:
            await handler([event], transaction)

    return call


@mutant("INL-01")
class LastHandlerFirst(_Inline):
    """It calls the handlers in the opposite order."""

    class made(_OtherHandlers):  # noqa: N801  # as above
        def change(self, handlers: tuple[Any, ...]) -> tuple[Any, ...]:
            return handlers[::-1]


@mutant("INL-04")
class FailuresAreIgnored(_Inline):
    """A handler that raises is passed over."""

    class made(_OtherHandlers):  # noqa: N801  # as above
        def change(self, handlers: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(map(_quiet, handlers))


def _quiet(handler: Any) -> Any:
    async def call(events: Sequence[Any], transaction: Any) -> None:
        with suppress(Exception):
            await handler(events, transaction)

    return call


@mutant("INL-03")
class RunsBeforeItKnows(_Inline):
    """It calls the handlers before it checks what is expected."""

    class made(MemoryEngine):  # noqa: N801  # as above
        async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
            for handler in self.inline:
                await handler([], Any)  # type: ignore[arg-type]  # they do not look
            return await super().commit(batch)


@mutant("INL-04", "INL-05")
class WritesAtOnce(_Inline):
    """Others see what handlers write before the commit, and whatever becomes of it."""

    class made(_OtherHandlers):  # noqa: N801  # as above
        def change(self, handlers: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(map(_leaking, handlers))


def _leaking(handler: Any) -> Any:
    async def call(events: Sequence[Any], transaction: Any) -> None:
        written = transaction.documents
        put = written.put

        async def put_at_once(*args: Any) -> None:
            await put(*args)
            written.commit()

        written.put = put_at_once
        await handler(events, transaction)

    return call


@mutant("INL-06")
class HandlersNest(_Inline):
    """It writes what a handler appends to its own store, inside of the commit."""

    class made(MemoryEngine):  # noqa: N801  # as above
        is_handling = False

        def check_caller(self) -> None:
            """Check nothing."""

        async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
            if self.is_handling:
                return [self._applied(commit) for commit in batch]
            self.is_handling = True
            try:
                return await super().commit(batch)
            finally:
                self.is_handling = False

        def _applied(self, commit: Commit) -> Outcome:
            outcome, stored = self._log.prepare(commit)
            self._log.add(stored)
            return outcome


@mutant("INL-06")
class HandlersKeepOthersOut(_Inline):
    """It refuses all appends while a handler runs, those of other tasks included."""

    class made(MemoryEngine):  # noqa: N801  # as above
        is_handling = False

        def check_caller(self) -> None:
            if self.is_handling:
                raise NotSupportedError("a handler is running")

        async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
            self.is_handling = True
            try:
                return await super().commit(batch)
            finally:
                self.is_handling = False


@mutant("INL-07")
class WritesBeforeItsHandlers(_Inline):
    """It writes a commit before its handlers run, and takes it out again if one raises."""

    class made(MemoryEngine):  # noqa: N801  # as above
        async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
            return [await self._written(commit) for commit in batch]

        async def _written(self, commit: Commit) -> Outcome:
            outcome, stored = self._log.prepare(commit)
            self._log.add(stored)
            try:
                with self.documents.transaction() as documents:
                    for events in new_events([commit], [outcome]):
                        for handler in self.inline:
                            await call_inline(handler, events, Transaction(None, documents))
            except InlineProjectionError as exc:
                for one in stored:
                    self._log.streams[one.stream].remove(one)
                    self._log.events.remove(one)
                return Failed(exc)
            return outcome


class Joining(UrlHarness):
    """Stores in a transaction of the caller's, on SQLite."""

    name, location = "joining", "sqlite:///{folder}/events.db"
    capabilities = Capabilities.only(
        "sessions",
        "global_order",
        "shared",
        "durable",
        "guards",
        "conditions",
        "times",
        "catalogue",
        "hooks",
    )

    @asynccontextmanager
    async def using(
        self,
        store: EventStore,
        commits: bool,  # as the hook
    ) -> AsyncGenerator[EventStore, None]:
        assert isinstance(store, SQLiteEventStore)
        async with caller_transaction(self.url(), commits=commits) as connection:
            yield store.using(connection)

    def inline_notes(self, store: EventStore) -> AbstractAsyncContextManager[Notes]:
        return DocumentNotes.open(store)


@mutant("USE-04")
class JoinedInTwo(Joining):
    """Its joined store writes several events in two steps."""

    @asynccontextmanager
    async def using(self, store: EventStore, commits: bool) -> AsyncGenerator[EventStore, None]:
        async with super().using(store, commits) as joined:
            append: Any = joined.append

            async def append_in_two(*args: Any, **asked: Any) -> Any:
                stream, events = args
                await append(stream, events[:1], **asked)
                return await append(stream, events[1:], **asked)

            joined.append = append_in_two  # type: ignore[method-assign]  # the bug
            yield joined


@mutant("USE-05")
class KeepsWhatWasCancelled(Joining):
    """Its joined store does not undo an append that is cancelled while its handlers run."""

    @asynccontextmanager
    async def using(self, store: EventStore, commits: bool) -> AsyncGenerator[EventStore, None]:
        async with super().using(store, commits) as joined:
            engine: Any = vars(joined)["_engine"]

            async def write(batch: Sequence[Commit]) -> list[Outcome]:
                return [
                    await engine._inline.write_commit(engine._connection, commit, 0)
                    for commit in batch
                ]

            engine._write_with_handlers = write
            yield joined


@mutant("USE-01", "USE-03")
class NotJoinedAtAll(Joining):
    """Its joined store is one like any other."""

    @asynccontextmanager
    async def using(
        self, store: EventStore, _: bool
    ) -> AsyncGenerator[EventStore, None]:  # as the hook
        async with self.second_client() as other:
            yield other


@mutant("USE-02")
class ConflictsAbort(Joining):
    """A conflict undoes the caller's transaction."""

    @asynccontextmanager
    async def using(
        self,
        store: EventStore,
        commits: bool,  # as the hook
    ) -> AsyncGenerator[EventStore, None]:
        assert isinstance(store, SQLiteEventStore)
        async with caller_transaction(self.url(), commits=commits) as connection:
            joined = store.using(connection)
            append = joined.append

            async def append_or_abort(*args: Any, **asked: Any) -> Any:
                try:
                    return await append(*args, **asked)
                except Exception:
                    await connection.execute("ROLLBACK")
                    await connection.execute("BEGIN IMMEDIATE")
                    raise

            joined.append = append_or_abort  # type: ignore[method-assign]  # the bug
            yield joined


@mutant("USE-06")
class JoinsAfterClosing(Joining):
    """A store that has been closed still joins transactions."""

    @asynccontextmanager
    async def using(self, store: EventStore, commits: bool) -> AsyncGenerator[EventStore, None]:
        with patch.object(type(store), "closed", new=False):
            async with super().using(store, commits) as joined:
                yield joined


@mutant("USE-07")
class WaitsForNobody(Joining):
    """It does not wait for a transaction that keeps it from writing."""

    location = "sqlite:///{folder}/events.db?busy_timeout=0.001"
