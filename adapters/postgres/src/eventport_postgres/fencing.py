"""The fence: a trigger that refuses new events, so that appends without it pay nothing for it."""

from __future__ import annotations

from typing import Final

from asyncpg import LockNotAvailableError

from eventport.errors import StoreUnavailableError

from eventport_postgres.asking import AnyConnection, ask
from eventport_postgres.schema import fence_sql, quoted


_PATIENCE: Final = 1
"""How many seconds to wait for transactions that write; new appends wait behind this meanwhile."""

_REASON: Final = """
    SELECT pg_catalog.encode(t.tgargs, 'hex') FROM pg_catalog.pg_trigger t
    WHERE t.tgrelid OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.regclass
        AND t.tgname OPERATOR(pg_catalog.=) 'eventport_fence'
"""


async def fenced(connection: AnyConnection, schema: str) -> str | None:
    """Return what the fence says; None if there is none."""
    rows = await ask(connection, _REASON, f"{quoted(schema)}.events")
    if not rows:
        return None
    return bytes.fromhex(rows[0][0]).removesuffix(b"\0").decode()


async def set_fence(
    connection: AnyConnection, schema: str, before: str | None, after: str | None
) -> bool:
    """Change the fence in a transaction, if it says what is expected; return whether it did.

    Raises:
        StoreUnavailableError: a transaction that has written events did not end in time.
    """
    name = quoted(schema)
    try:
        async with connection.transaction(isolation="read_committed"):
            # It waits for all transactions that have written events, and keeps others away; what
            # they read through a trigger or a function is not older than this lock.
            await connection.execute(
                f"SET LOCAL lock_timeout = '{_PATIENCE}s'; "
                f"LOCK TABLE {name}.events IN SHARE ROW EXCLUSIVE MODE"
            )
            if await fenced(connection, schema) != before:
                return False
            await connection.execute(_change(schema, before, after))
    except LockNotAvailableError as exc:
        message = (
            f"a transaction that has appended events did not end within {_PATIENCE} s, so the "
            "fence was not changed: end that transaction, and try again"
        )
        raise StoreUnavailableError(message) from exc
    return True


def _change(schema: str, before: str | None, after: str | None) -> str:
    """Return the SQL for all of a change, which thus takes one round trip."""
    name = quoted(schema)
    if after is None:
        return (
            f"DROP TRIGGER IF EXISTS eventport_fence ON {name}.events; "
            f"DROP FUNCTION IF EXISTS {name}.refuse_append()"
        )
    # The text may be anybody's; written like this, it ends where it ends under all settings.
    text = after.replace("\\", "\\\\").replace("'", "''")
    return f"""
        {fence_sql(schema) if before is None else ""}
        CREATE OR REPLACE TRIGGER eventport_fence BEFORE INSERT ON {name}.events
        FOR EACH ROW EXECUTE FUNCTION {name}.refuse_append(E'{text}')
    """
