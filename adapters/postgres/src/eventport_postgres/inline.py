"""Inline projections: handlers that run inside the transaction of the commits that they are for."""

from __future__ import annotations

import asyncio

from collections.abc import Sequence
from typing import Any, Final, TypeAlias, cast

import asyncpg

from anyio import CancelScope

from eventport.adapter import (
    Commit,
    InlineHandlers,
    Outcome,
    inline_failure,
    limit_wait,
    new_events,
    run_shielded,
)
from eventport.errors import InlineProjectionError, StoreUnavailableError
from eventport.events import RecordedEvent
from eventport.transactions import InlineHandler, Transaction

from eventport_postgres.asking import AnyConnection, ask_one
from eventport_postgres.batches import CONFIRM, only_found, outcomes
from eventport_postgres.connections import CLOSE_TIMEOUT
from eventport_postgres.documents import documents_on
from eventport_postgres.errors import DRIVER_ERRORS, is_lost, is_worth_a_retry, reason


Connection: TypeAlias = "asyncpg.Connection[Any]"
"""What a handler gets as `Transaction.connection`."""

_SAVEPOINT: Final = "SAVEPOINT eventport_commit"
_RELEASE: Final = "RELEASE SAVEPOINT eventport_commit"
_UNDO: Final = f"ROLLBACK TO SAVEPOINT eventport_commit; {_RELEASE}"

# Fails where COMMIT would fail or silently roll back: a deferred constraint, or a server error that
# a handler has caught.
_CHECK: Final = "SET CONSTRAINTS ALL IMMEDIATE"


class InlineProjections:
    """The handlers of one store, and the ways to write commits with them.

    Args:
        schema: The schema of the events, which holds documents, too.
    """

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._handlers = InlineHandlers[Connection]()

    def __bool__(self) -> bool:
        """Return whether there are any handlers."""
        return bool(self._handlers)

    def add(self, handler: InlineHandler[Connection]) -> None:
        """Add a handler."""
        self._handlers.add(handler)

    async def write(
        self,
        connection: AnyConnection,
        commits: Sequence[Commit],
        request: tuple[Any, ...],
        within: float,
    ) -> list[Outcome]:
        """Write a batch in a transaction of its own, and return the outcomes.

        The handlers of all its commits run in that transaction. If one of them fails, all of it
        is undone, and the members of the batch are worth trying one by one.

        Raises:
            InlineProjectionError: a handler has failed, or has not ended in time.
        """
        transaction = connection.transaction()
        try:
            async with limit_wait(within):
                await transaction.start()
            found = outcomes(commits, await ask_one(connection, *request, within=within))
            if only_found(found):
                await connection.execute(CONFIRM, timeout=within)
            await self._run(connection, commits, found, within)
            async with limit_wait(within):
                await _check(connection, _CHECK)
                await transaction.commit()
        except BaseException as exc:
            if isinstance(exc, Exception) and not is_lost(exc):
                await _roll_back(connection, transaction)
            else:
                connection.terminate()  # nobody may find a transaction open on it
            raise
        return found

    async def write_within(
        self, connection: AnyConnection, commits: Sequence[Commit], request: tuple[Any, ...]
    ) -> list[Outcome]:
        """Write in the transaction that is open on a connection; if it fails, that stays open."""
        try:
            await connection.execute(_SAVEPOINT)
            found = outcomes(commits, await ask_one(connection, *request))
            if only_found(found):
                await connection.execute(CONFIRM)
            await self._run(connection, commits, found, None)
            await _check(connection, _RELEASE)
        except BaseException:  # a caller that gives up may go on with its transaction
            # If the savepoint is gone already, this fails, and so aborts the transaction.
            await undo_within(connection, _UNDO)
            raise
        return found

    async def _run(
        self,
        connection: AnyConnection,
        commits: Sequence[Commit],
        found: Sequence[Outcome],
        within: float | None,
    ) -> None:
        transaction = Transaction(
            cast("Connection", connection), documents_on(connection, self._schema)
        )
        for events in new_events(commits, found):
            for handler in self._handlers:
                await _call(handler, events, transaction, within)


async def _call(
    handler: InlineHandler[Connection],
    events: Sequence[RecordedEvent],
    transaction: Transaction[Connection],
    within: float | None,
) -> None:
    connection = transaction.connection
    # It limits the handler's own work, which is no wait on the server: the error names the handler.
    timer = asyncio.timeout(within)
    try:
        async with timer:
            await handler(events, transaction)
    except (Exception, asyncio.CancelledError) as exc:
        if timer.expired():
            raise inline_failure(handler, "it did not end in time") from exc
        task = asyncio.current_task()
        if isinstance(exc, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # the event loop is being closed
        if connection.is_closed():
            message = "the connection was lost while an inline handler used it"
            raise asyncpg.ConnectionDoesNotExistError(message) from exc
        if is_worth_a_retry(exc):
            raise
        raise inline_failure(handler, exc) from exc
    if not connection.is_in_transaction() and not connection.is_closed():
        # It may have committed a part, or nothing, and others have no part in it any more.
        name = getattr(handler, "__qualname__", handler)
        message = f"inline handler {name} ended the transaction: what it committed is not known"
        raise StoreUnavailableError(message)


async def _check(connection: AnyConnection, sql: str) -> None:
    """Run a statement that fails if a handler has left what cannot be committed."""
    try:
        await connection.execute(sql)
    except asyncpg.PostgresError as exc:
        if is_lost(exc) or is_worth_a_retry(exc):
            raise
        message = (
            "what the inline handlers did cannot be committed, and nothing of this commit was "
            f"written: {reason(exc)}"
        )
        if isinstance(exc, asyncpg.InFailedSQLTransactionError):
            message += (
                " (to catch an error of the server, a handler has to cause it inside "
                "`async with connection.transaction()`)"
            )
        raise InlineProjectionError(message) from exc


async def undo_within(connection: AnyConnection, sql: str) -> None:
    """Undo something in the caller's transaction, whatever happens to the caller meanwhile.

    Args:
        connection: Where the transaction is open. It is closed if it gives no answer in time.
        sql: What undoes it; if the server refuses it, the transaction is aborted.
    """
    await run_shielded(_undo, connection, sql)


async def _undo(connection: AnyConnection, sql: str) -> None:
    try:
        async with limit_wait(CLOSE_TIMEOUT):
            await connection.execute(sql)
    except (*DRIVER_ERRORS, asyncio.CancelledError) as exc:
        if not isinstance(exc, asyncpg.PostgresError) or is_lost(exc):
            connection.terminate()  # nobody may commit what is left on it


async def _roll_back(connection: AnyConnection, transaction: Any) -> None:
    try:
        # The error that led to this is what the caller has to get, even if time is up meanwhile.
        with CancelScope(shield=True):
            async with limit_wait(CLOSE_TIMEOUT):
                await transaction.rollback()
    except DRIVER_ERRORS:
        connection.terminate()
