"""What became of a batch whose answer did not arrive."""

from __future__ import annotations

import asyncio

from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple
from uuid import UUID

from asyncpg import Record
from asyncpg.exceptions import InsufficientPrivilegeError

from eventport import StoreUnavailableError
from eventport.adapter import Commit, Committed, Written
from eventport.expectations import exact_version

from eventport_postgres.asking import AnyConnection, ask, ask_one
from eventport_postgres.batches import CONFIRM
from eventport_postgres.connections import Backend
from eventport_postgres.schema import Place, quoted
from eventport_postgres.servers import require_primary


_PAUSE: Final = 0.02
"""How many seconds are between two looks at a backend that has to end."""

# Where the role may not see when a backend was started, it may be the one.
_SAME: Final = """
    FROM pg_catalog.pg_stat_activity
    WHERE pid OPERATOR(pg_catalog.=) $1
        AND (backend_start OPERATOR(pg_catalog.=) $2) IS NOT FALSE
        AND pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
"""
_THERE: Final = f"SELECT pg_catalog.count(*) {_SAME}"
# One that waits for a standby has committed, and does nothing any more that we would wait for. If
# it were ended, others would see at once what a failover may still undo.
_END: Final = f"""
    SELECT pg_catalog.pg_terminate_backend(pid) {_SAME}
        AND coalesce(wait_event, '') OPERATOR(pg_catalog.<>) 'SyncRep'
"""


class Landmark(NamedTuple):
    """An event that was there before a batch was sent: what the batch writes comes after it."""

    position: int
    id: UUID


async def find_landmark(connection: AnyConnection, schema: str) -> Landmark | None:
    """Return the last event that is there, if there is any."""
    rows = await ask(
        connection,
        f"SELECT position, id FROM {quoted(schema)}.events ORDER BY position DESC LIMIT 1",  # noqa: S608  # quoted
    )
    return Landmark(*rows[0]) if rows else None


class Looker:
    """Looks for batches on one schema, each time on the connection that would write them again.

    Args:
        schema: The schema, not quoted.
        place: The store that was found there.
        transaction_pooling: Whether a pooler hides which backend does the work.
    """

    def __init__(self, schema: str, place: Place, *, transaction_pooling: bool) -> None:
        self._transaction_pooling = transaction_pooling
        name = quoted(schema)
        # After a failover, or a restore, positions may begin again below those that we know.
        self._find = f"""
            SELECT stream, id, version, position, recorded_at FROM {name}.events
            WHERE stream OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[])
                AND id OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.text[]::pg_catalog.uuid[])
                AND position OPERATOR(pg_catalog.>) (
                    SELECT coalesce(pg_catalog.max(l.position), 0) FROM {name}.events l
                    WHERE l.position OPERATOR(pg_catalog.=) $3 AND l.id OPERATOR(pg_catalog.=) $4
                )
                AND {name}.check_place({place.number})
            ORDER BY position
        """  # noqa: S608  # it is quoted

    async def look(
        self,
        connection: AnyConnection,
        commits: Sequence[Commit],
        asked: Backend | None,
        landmark: Landmark | None,
    ) -> Sequence[Committed | None]:
        """Find out which commits of a batch were written.

        The backend that was asked has to end first. It may not even have begun: what was sent to
        it may still be on its way, and would otherwise be carried out after we have looked. What
        is found is as durable as the answer would have been.

        Args:
            connection: Where to look.
            commits: The batch.
            asked: The backend that was asked; None behind a pooler that hides it.
            landmark: What narrows the search.

        Raises:
            StoreUnavailableError: it cannot be known.
        """
        if asked is not None:
            await _wait_for_the_end(connection, asked)
        rows = await self._rows(connection, commits, landmark)
        if not rows and self._transaction_pooling and not all(map(_is_exact, commits)):
            # The pooler may still carry it out, and nothing would stop the second one.
            raise StoreUnavailableError("a pooler hides whether an earlier attempt has ended")
        return _recognise(commits, rows)

    async def _rows(
        self, connection: AnyConnection, commits: Sequence[Commit], landmark: Landmark | None
    ) -> Sequence[Record]:
        """Fetch the events of a batch that are there, in a transaction that waits for its end."""
        streams = {write.stream for commit in commits for write in commit.writes}
        ids = {
            str(event.id) for commit in commits for write in commit.writes for event in write.events
        }
        try:
            # Somebody may lock the table for a moment; our own deadline is what counts.
            await connection.execute(
                "BEGIN ISOLATION LEVEL READ COMMITTED; "
                "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0"
            )
            await require_primary(connection)
            rows = await ask(
                connection, self._find, list(streams), list(ids), *(landmark or (0, None))
            )
            if rows:
                await connection.execute(CONFIRM)
            await connection.execute("COMMIT")
        except BaseException:
            connection.terminate()  # nobody may find a transaction open on it
            raise
        return rows


async def _wait_for_the_end(connection: AnyConnection, asked: Backend) -> None:
    while (await ask_one(connection, _THERE, *asked))[0]:
        # After SET ROLE we may not end it. Its connection is gone, so it ends with its work.
        with suppress(InsufficientPrivilegeError):
            await ask(connection, _END, *asked)
        await asyncio.sleep(_PAUSE)


def _is_exact(commit: Commit) -> bool:
    return all(exact_version(write.expected) is not None for write in commit.writes)


def _recognise(commits: Sequence[Commit], rows: Sequence[Record]) -> list[Committed | None]:
    """Return the commits whose events are among the rows."""
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
        for write in commit.writes:
            own = [stored[write.stream, event.id].popleft() for event in write.events]
            written.append(
                Written(
                    own[-1]["version"],
                    [row["position"] for row in own],
                    own[0]["version"] == 1,
                    [row["recorded_at"] for row in own],
                )
            )
        found.append(Committed(written))
    return found
