"""Batches on their way: one round trip each, and certainty if the line is cut in the middle."""

from __future__ import annotations

import asyncio

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from asyncpg import Record
from asyncpg.exceptions import LockNotAvailableError

from eventport.adapter import Commit, Committed, Failed, Outcome, Written
from eventport.errors import EventportError, StoreUnavailableError
from eventport.expectations import exact_version

from eventport_postgres.asking import AnyConnection, ask, ask_one
from eventport_postgres.batches import Statements, outcomes
from eventport_postgres.connections import Connections, not_used_again_if_lost
from eventport_postgres.errors import (
    NothingWrittenError,
    StreamBusyError,
    is_lost,
    is_worth_a_retry,
    reason,
    translated,
)
from eventport_postgres.inline import InlineProjections
from eventport_postgres.schema import Place, quoted


_PAUSE: Final = 0.02
"""How many seconds to wait before the server is tried again."""

_END: Final = """
    SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
    WHERE pid OPERATOR(pg_catalog.=) $1 AND backend_start OPERATOR(pg_catalog.<)
        (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $2))
"""
# By the locks of the function `append`; those that this takes itself end with it.
_LOCKED: Final = """
    SELECT u.stream FROM pg_catalog.unnest($1::pg_catalog.text[]) AS u(stream)
    WHERE NOT pg_catalog.pg_try_advisory_xact_lock(
        pg_catalog.hashtextextended(u.stream, $2::pg_catalog.oid::integer)
    )
"""


class _Lost(NamedTuple):
    """A backend whose answer did not arrive, and when it had been asked."""

    pid: int
    asked_at: float


class Writer:
    """Writes batches through the server's function ``append``.

    Args:
        connections: Where to get the connection from.
        schema: The schema, not quoted.
        timeout: How many seconds a batch may take, and after a lost connection once more.
        place: The store that was found there.
        inline: What runs in the transactions of the batches.
        transaction_pooling: Whether a pooler hides which backend does the work.
        patient: Whether a batch waits for streams that are locked, however long. If not, the
            commits to these streams end with `Failed` and `StreamBusyError`.
    """

    def __init__(
        self,
        connections: Connections,
        schema: str,
        timeout: float,
        place: Place,
        inline: InlineProjections,
        *,
        transaction_pooling: bool,
        patient: bool = False,
    ) -> None:
        self._connections = connections
        self._timeout = timeout
        self._inline = inline
        self.head = place.head
        """The position of an event that is there: what comes next is behind it."""
        self._transaction_pooling = transaction_pooling
        self._patient = patient
        name = quoted(schema)
        self._statements = Statements(schema, place)
        self._find = f"""
            SELECT stream, id, version, position, recorded_at FROM {name}.events
            WHERE position OPERATOR(pg_catalog.>) $1 AND id OPERATOR(pg_catalog.=)
                ANY ($2::pg_catalog.text[]::pg_catalog.uuid[])
                AND {name}.check_place({place.number})
            ORDER BY position
        """  # noqa: S608  # it is quoted
        self._sequence = place.number

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Write a batch.

        Raises:
            StoreUnavailableError: the server was out of reach, and is not back in time.
            NothingWrittenError: it refused the batch.
            InlineProjectionError: a handler kept the batch from being written.
        """
        request = self._statements.write(commits)
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        lost: _Lost | None = None
        found: Sequence[Outcome | None] | None = None
        while found is None:
            # Whether it was written has to be found out, even if that takes longer.
            limit = deadline if lost is None else deadline + self._timeout
            left = max(limit - clock(), 0.01)
            try:
                async with (
                    self._connections.writing(left, patient=self._patient) as connection,
                    not_used_again_if_lost(connection),
                ):
                    if lost is not None:
                        found = await self._settle(connection, commits, lost, left)
                    if found is None:
                        lost = _Lost(connection.get_server_pid(), clock())
                        found = await self._ask(connection, commits, request, left)
            except EventportError:
                raise
            except Exception as exc:
                if not is_lost(exc):
                    lost = None  # the server has answered
                    if not is_worth_a_retry(exc):
                        if len(commits) > 1:
                            raise NothingWrittenError(reason(exc)) from exc
                        raise translated(exc) from exc
                if clock() > (deadline if lost is None else deadline + self._timeout):
                    raise translated(exc) from exc
                await asyncio.sleep(_PAUSE)
        return await self._complete(commits, found)

    async def _ask(
        self,
        connection: AnyConnection,
        commits: Sequence[Commit],
        request: tuple[Any, ...],
        within: float,
    ) -> Sequence[Outcome | None]:
        """Let the server write a batch, or tell which of its commits it cannot write for now."""
        try:
            if self._inline:
                row = await self._inline.write(connection, commits, request, within)
            else:
                row = await ask_one(connection, *request, within=within)
        except LockNotAvailableError:
            if self._patient:
                raise
            streams = {write.stream for commit in commits for write in commit.writes}
            rows = await ask(connection, _LOCKED, list(streams), self._sequence, within=within)
            locked = {row["stream"] for row in rows}
            if not locked:
                raise  # it was another lock, or these have been released by now
            return [
                Failed(StreamBusyError("a stream of this commit is locked"))
                if any(write.stream in locked for write in commit.writes)
                else None
                for commit in commits
            ]
        found = outcomes(commits, row)
        self.head = max(self.head, _last(found))
        return found

    async def _settle(
        self, connection: AnyConnection, commits: Sequence[Commit], lost: _Lost, within: float
    ) -> Sequence[Outcome | None] | None:
        """Find out what became of a batch: each commit that was written, or None if none was.

        The backend that was asked is ended first. It may not even have begun: what was sent to
        it may still be on its way, and would otherwise be carried out after we have looked.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + within
        while not self._transaction_pooling and await ask(
            connection, _END, lost.pid, clock() - lost.asked_at, within=within
        ):
            if clock() > deadline:
                raise TimeoutError("an earlier connection does not end")
            await asyncio.sleep(_PAUSE)
        events = [event for commit in commits for write in commit.writes for event in write.events]
        rows = await ask(
            connection, self._find, self.head, [str(event.id) for event in events], within=within
        )
        if rows:
            return _recognise(commits, rows)
        if self._transaction_pooling and not all(map(_is_exact, commits)):
            # The pooler may still carry it out, and nothing would tell the second one.
            message = "the connection was lost; whether the append was written is not known"
            raise StoreUnavailableError(message)
        return None

    async def _complete(
        self, commits: Sequence[Commit], found: Sequence[Outcome | None]
    ) -> Sequence[Outcome]:
        """Write the commits of a batch that have no outcome yet; the others have theirs."""
        left = [commit for commit, outcome in zip(commits, found, strict=True) if outcome is None]
        rest = iter(await self._commit_rest(left))
        return [outcome or next(rest) for outcome in found]

    async def _commit_rest(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Write a part of a batch: an error of it must not be taken for one of the whole."""
        if not commits:
            return ()
        try:
            return await self.commit(commits)
        except NothingWrittenError:
            return [one for commit in commits for one in await self._commit_rest([commit])]
        except EventportError as exc:
            return [Failed(exc)] * len(commits)


def _last(found: Sequence[Outcome]) -> int:
    """Return the last position of what was written or found, or 0."""
    return max(
        (w.positions[-1] for one in found if isinstance(one, Committed) for w in one.writes),
        default=0,
    )


def _is_exact(commit: Commit) -> bool:
    return all(exact_version(write.expected) is not None for write in commit.writes)


def _recognise(commits: Sequence[Commit], rows: Sequence[Record]) -> list[Committed | None]:
    """Tell commits from the rows that have the ids of their events."""
    # Two commits may hold the same event, so each row serves once.
    stored: defaultdict[tuple[str, UUID], deque[Record]] = defaultdict(deque)
    for row in rows:
        stored[row["stream"], row["id"]].append(row)
    found: list[Committed | None] = []
    for commit in commits:
        keys = [(write.stream, event.id) for write in commit.writes for event in write.events]
        if not all(stored[key] for key in keys):
            found.append(None)
            continue
        written: list[Written] = []
        recorded_at = stored[keys[0]][0]["recorded_at"]
        for write in commit.writes:
            own = [stored[write.stream, event.id].popleft() for event in write.events]
            positions = [row["position"] for row in own]
            written.append(Written(own[-1]["version"], positions, own[0]["version"] == 1))
        found.append(Committed(written, recorded_at))
    return found
