"""Batches on their way: one round trip each, and certainty if the connection is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from asyncpg.exceptions import LockNotAvailableError, OutOfMemoryError

from eventport import EventportError, PayloadTooLargeError
from eventport.adapter import (
    AnswerLostError,
    Blocked,
    Commit,
    Committed,
    ConnectionLostError,
    Failed,
    LimitedWait,
    Outcome,
    limit_wait,
)

from eventport_postgres.asking import AnyConnection, ask, ask_one
from eventport_postgres.batches import Statements, write_batch
from eventport_postgres.connections import Backend, Connections
from eventport_postgres.errors import (
    DRIVER_ERRORS,
    NothingWrittenError,
    is_lost,
    is_worth_a_retry,
    lost,
    reason,
    translated,
)
from eventport_postgres.guards import count_locks, independent_parts, resources_of
from eventport_postgres.inline import InlineProjections
from eventport_postgres.looking import Landmark, Looker
from eventport_postgres.schema import Place


_PATIENCE: Final = "50ms"
"""How long a batch of commits waits for a stream that another transaction keeps locked."""

# The key of what a name stands for: a stream, or one of the locks beside them.
_KEY: Final = """
    CASE WHEN pg_catalog.left(u.name, 1) OPERATOR(pg_catalog.=) E'\\x01'
        THEN ($2::pg_catalog.oid::bigint OPERATOR(pg_catalog.<<) 32)
            OPERATOR(pg_catalog.|) pg_catalog.substr(u.name, 2)::bigint
        ELSE pg_catalog.hashtextextended(u.name, $2::pg_catalog.oid::integer)
    END
"""
# By the locks of the function `append`; those that this takes itself end with it.
_LOCKED: Final = f"""
    SELECT u.name FROM ROWS FROM (
        pg_catalog.unnest($1::pg_catalog.text[]),
        pg_catalog.unnest($3::pg_catalog.text::pg_catalog.bool[])
    ) AS u(name, exclusive)
    WHERE NOT CASE WHEN u.exclusive
        THEN pg_catalog.pg_try_advisory_xact_lock({_KEY})
        ELSE pg_catalog.pg_try_advisory_xact_lock_shared({_KEY})
    END
"""  # noqa: S608  # it is a constant
# Another transaction than before means that the stream was free in between.
_LOCKERS: Final = f"""
    SELECT u.name, pg_catalog.min(l.virtualtransaction)
    FROM (
        SELECT u.name, {_KEY} FROM pg_catalog.unnest($1::pg_catalog.text[]) AS u(name)
    ) AS u(name, key)
    LEFT JOIN pg_catalog.pg_locks l ON l.locktype OPERATOR(pg_catalog.=) 'advisory'
        AND l.objsubid OPERATOR(pg_catalog.=) 1 AND l.granted
        AND l.classid OPERATOR(pg_catalog.=) (
            (u.key OPERATOR(pg_catalog.>>) 32) OPERATOR(pg_catalog.&) 4294967295
        )::pg_catalog.oid
        AND l.objid OPERATOR(pg_catalog.=)
            (u.key OPERATOR(pg_catalog.&) 4294967295)::pg_catalog.oid
        AND l.database OPERATOR(pg_catalog.=) (
            SELECT d.oid FROM pg_catalog.pg_database d
            WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
        )
    GROUP BY u.name
"""  # noqa: S608  # it is a constant

# How many locks there are room for; the server spares some more, on which nobody can count.
_CAPACITY: Final = """
    SELECT pg_catalog.current_setting('max_locks_per_transaction')::bigint
        OPERATOR(pg_catalog.*) (
            pg_catalog.current_setting('max_connections')::bigint OPERATOR(pg_catalog.+)
            pg_catalog.current_setting('max_prepared_transactions')::bigint
        )
"""


class _Refused(Exception):  # noqa: N818  # it is an answer
    """The server's own answer to a batch is an error: nothing of it was written."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Writer:
    """Writes batches through the server's function ``append``, one at a time.

    Args:
        connections: Where to get the connection from.
        schema: The schema, not quoted.
        place: The store that was found there.
        landmark: An event that was there before the first batch.
        inline: What runs in the transactions of the batches.
        transaction_pooling: Whether a pooler hides which backend does the work.
    """

    def __init__(
        self,
        connections: Connections,
        schema: str,
        place: Place,
        landmark: Landmark | None,
        inline: InlineProjections,
        *,
        transaction_pooling: bool,
    ) -> None:
        self._connections = connections
        self._inline = inline
        self._transaction_pooling = transaction_pooling
        self._statements = Statements(schema, place, lock_timeout=_PATIENCE)
        self._looker = Looker(schema, place, transaction_pooling=transaction_pooling)
        self._landmark = landmark
        self._sequence = place.number
        self._asked: Backend | None = None
        """The backend that has not answered yet; None if there is none, or a pooler hides it."""
        self._interrupted = False
        self._sent: LimitedWait | None = None
        """What ends the wait for the server's answer to a batch."""

    def interrupt(self) -> None:
        """Let the batch that is on its way end soon; its outcome is unknown then."""
        self._interrupted = True
        if self._sent is not None:
            self._sent.cut()

    async def commit(self, commits: Sequence[Commit], within: float) -> Sequence[Outcome]:
        """Write a batch, in one attempt.

        Raises:
            ConnectionLostError: nothing was sent, or the server undid it.
            AnswerLostError: it was sent, and no answer came.
            NothingWrittenError: the server refused the batch.
            InlineProjectionError: a handler kept the batch from being written.
        """
        parts = independent_parts(commits)
        if len(parts) == 1:
            return await self._commit(commits, within)
        outcomes: list[Outcome] = []
        lost: ConnectionLostError | None = None
        for part in parts:
            if lost is not None:
                outcomes += [Failed(ConnectionLostError("it was not sent"))] * len(part)
                continue
            try:
                outcomes += await self._commit(part, within)
            except EventportError as exc:
                # Others may be written already: the batch must not be taken for unwritten.
                outcomes += [Failed(exc)] * len(part)
                lost = exc if isinstance(exc, ConnectionLostError) else None
        return outcomes

    async def _commit(self, commits: Sequence[Commit], within: float) -> Sequence[Outcome]:
        self._interrupted = False
        self._asked = None  # a search must not end a backend that serves somebody else by now
        write = self._statements.write if self._inline else self._statements.write_first
        request = write(commits)
        sent = False
        try:
            async with self._connections.writing(within) as connection:
                # The backend has to be known before anything is sent that might get lost.
                backend = (
                    None
                    if self._transaction_pooling
                    else await self._connections.backend(connection, within)
                )
                self._asked, sent = backend, True
                return await self._send_first(connection, commits, request, within)
        except _Refused as refusal:
            raise _refused(commits, refusal.error) from refusal.error
        except EventportError:
            raise
        except Exception as exc:
            if sent:
                raise lost(exc, AnswerLostError) from exc
            if is_lost(exc):
                raise lost(exc) from exc
            raise _refused(commits, exc) from exc

    async def find(self, commits: Sequence[Commit], within: float) -> Sequence[Committed | None]:
        """Find out which commits of the last batch were written; see `Looker.look`."""
        try:
            async with (
                self._connections.writing(within) as connection,
                limit_wait(within),
            ):
                found = await self._looker.look(connection, commits, self._asked, self._landmark)
        except DRIVER_ERRORS as exc:
            raise lost(exc, AnswerLostError) from exc
        self._remember(commits, found)
        return found

    async def find_lockers(self, streams: Sequence[str], within: float) -> Mapping[str, str | None]:
        """Return which transactions keep streams, or other locks of ours, locked."""
        try:
            async with self._connections.reading(within) as connection:
                rows = await ask(connection, _LOCKERS, list(streams), self._sequence, within=within)
        except DRIVER_ERRORS as exc:
            raise translated(exc) from exc
        return {row[0]: row[1] for row in rows}

    async def _send_first(
        self,
        connection: AnyConnection,
        commits: Sequence[Commit],
        request: tuple[Any, ...],
        within: float,
    ) -> Sequence[Outcome]:
        """Send a batch, and forget the backend when it has answered.

        Its connection may serve somebody else by the time of a search, which would end it.
        """
        try:
            found = await self._send(connection, commits, request, within)
        except Exception as exc:
            if not is_lost(exc):
                self._asked = None
            raise
        self._asked = None
        return found

    async def _send(
        self,
        connection: AnyConnection,
        commits: Sequence[Commit],
        request: tuple[Any, ...],
        within: float,
    ) -> Sequence[Outcome]:
        if self._interrupted:
            raise ConnectionLostError("it was interrupted before it was sent")
        try:
            # Handlers may take longer than the server: they have a limit of their own.
            async with limit_wait(None if self._inline else within) as self._sent:
                return await self._ask(connection, commits, request, within)
        except LockNotAvailableError as exc:
            refusal = exc
        finally:
            self._sent = None
        return await self._write_free(connection, commits, refusal, within)

    async def _ask(
        self,
        connection: AnyConnection,
        commits: Sequence[Commit],
        request: tuple[Any, ...],
        within: float,
    ) -> Sequence[Outcome]:
        """Let the server write a batch."""
        try:
            if self._inline:
                found = await self._inline.write(connection, commits, request, within)
            else:
                found = await write_batch(connection, self._statements, commits, request)
        except (EventportError, LockNotAvailableError):
            raise
        except Exception as exc:
            if is_lost(exc):
                raise
            raise _Refused(await _judge(connection, commits, exc, within)) from exc
        self._remember(commits, found)
        return found

    async def _write_free(
        self,
        connection: AnyConnection,
        commits: Sequence[Commit],
        refusal: LockNotAvailableError,
        within: float,
    ) -> Sequence[Outcome]:
        """Write what a batch that was refused has for what nobody keeps locked."""
        wanted: dict[str, bool] = {}
        for commit in commits:
            for name, exclusive in resources_of(commit).items():
                wanted[name] = wanted.get(name, False) or exclusive
        flags = "{" + ",".join("t" if one else "f" for one in wanted.values()) + "}"
        try:
            rows = await ask(
                connection, _LOCKED, list(wanted), self._sequence, flags, within=within
            )
        except DRIVER_ERRORS as exc:
            connection.terminate()
            raise _Refused(refusal) from exc  # that remains the answer
        locked = {row["name"] for row in rows}
        if not locked:
            raise _Refused(refusal)  # it was another lock, or these have been released by now
        blocked = [locked & resources_of(commit).keys() for commit in commits]
        free = [commit for commit, waits in zip(commits, blocked, strict=True) if not waits]
        # Nothing was written of the others, so an error of these may be that of the whole batch.
        rest = iter(
            await self._send(connection, free, self._statements.write(free), within) if free else ()
        )
        return [Blocked(frozenset(waits)) if waits else next(rest) for waits in blocked]

    def _remember(self, commits: Sequence[Commit], found: Sequence[Outcome | None]) -> None:
        """Keep the last event that was written: the next batch comes after it."""
        for commit, outcome in zip(reversed(commits), reversed(found), strict=True):
            if isinstance(outcome, Committed) and not outcome.deduplicated:
                position = outcome.writes[-1].positions[-1]
                assert position is not None  # noqa: S101  # the last one is always there
                self._landmark = Landmark(position, commit.writes[-1].events[-1].id)
                return


async def _judge(
    connection: AnyConnection, commits: Sequence[Commit], exc: Exception, within: float
) -> Exception:
    """Return the error for a lone commit that needs more locks than the server has, or the same."""
    if len(commits) > 1 or not isinstance(exc, OutOfMemoryError):
        return exc
    needed = count_locks(commits[0])
    try:
        (capacity,) = await ask_one(connection, _CAPACITY, within=within)
    except DRIVER_ERRORS:
        connection.terminate()
        return exc  # that remains the answer
    if needed <= capacity:
        return exc
    message = (
        f"a commit that takes {needed} locks is too large for this server, which has at most "
        f"{capacity}: raise its max_locks_per_transaction, or write to fewer streams at once"
    )
    return PayloadTooLargeError(message)


def _refused(commits: Sequence[Commit], exc: Exception) -> EventportError:
    # A batch that needs too many locks is worth trying one by one.
    if is_worth_a_retry(exc) and not (len(commits) > 1 and isinstance(exc, OutOfMemoryError)):
        return ConnectionLostError(f"PostgreSQL undid the transaction: {reason(exc)}")
    # Its members are worth trying one by one.
    return NothingWrittenError(reason(exc)) if len(commits) > 1 else translated(exc)
