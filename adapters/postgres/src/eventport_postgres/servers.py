"""Which servers will do: those that would neither lose nor reorder events."""

from __future__ import annotations

from typing import Final

from eventport.adapter import limit_wait
from eventport.errors import NotSupportedError

from eventport_postgres.asking import AnyConnection, ask, ask_one
from eventport_postgres.errors import StandbyError


OLDEST: Final = 14
"""The oldest version of PostgreSQL that is supported."""

_SEEN: Final = """
    SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'
        AND classid OPERATOR(pg_catalog.=) 20191 AND objid OPERATOR(pg_catalog.=) 14
        AND objsubid OPERATOR(pg_catalog.=) 2
        AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
"""


async def check_server(connection: AnyConnection) -> None:
    """Raise `NotSupportedError` for a server that would lose or reorder events."""
    version = connection.get_server_version()
    check_version(version.major, version.minor)
    await require_primary(connection)
    encoding, isolation = await ask_one(
        connection,
        "SELECT pg_catalog.current_setting('server_encoding'), "
        "pg_catalog.current_setting('default_transaction_isolation')",
    )
    if encoding != "UTF8":
        message = f"this database has the encoding {encoding}, which cannot hold all text: use UTF8"
        raise NotSupportedError(message)
    if isolation != "read committed":
        message = (
            f"the default isolation of these connections is {isolation}; it must be read committed"
        )
        raise NotSupportedError(message)
    async with connection.transaction():
        # Some servers accept these calls and do nothing.
        await connection.execute("SELECT pg_catalog.pg_advisory_xact_lock_shared(20191, 14)")
        seen = await ask(connection, _SEEN)
    if not seen:
        message = "this server only pretends to take advisory locks, on which the order depends"
        raise NotSupportedError(message)


async def require_primary(connection: AnyConnection) -> None:
    """Raise `StandbyError` for a server that cannot be written to."""
    if (await ask_one(connection, "SELECT pg_catalog.pg_is_in_recovery()"))[0]:
        raise StandbyError


async def refuse_standby(connection: AnyConnection, within: float) -> None:
    """Do what `require_primary` does, without asking a server that has said that it is one."""
    # A pooler may go on repeating what was true before a promotion.
    if getattr(connection.get_settings(), "in_hot_standby", "off") == "on":
        async with limit_wait(within):
            await require_primary(connection)


def check_version(major: int, minor: int) -> None:
    """Raise `NotSupportedError` for a server that is too old."""
    if major < OLDEST:
        message = f"this server is PostgreSQL {major}.{minor}: {OLDEST} or newer is needed"
        raise NotSupportedError(message)
