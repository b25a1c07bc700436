"""What an operator should know about a server: versions, rights, limits, unsafe settings."""

from __future__ import annotations

import time

from collections.abc import Mapping
from typing import Any, Final

from eventport.adapter import Level, Remark, fact, remark_on_clock

from eventport_postgres.asking import AnyConnection, ask, ask_one
from eventport_postgres.schema import FUNCTIONS, SCHEMA_VERSION, find_version, quoted


_SAFE: Final[Mapping[str, tuple[frozenset[str], Level, str, str]]] = {
    "fsync": (
        frozenset({"on"}),
        "error",
        "a crash of the machine may destroy the whole database",
        "set it to on in postgresql.conf",
    ),
    "full_page_writes": (
        frozenset({"on"}),
        "error",
        "a crash of the machine may leave pages that are half written",
        "set it to on, unless the file system itself writes whole pages",
    ),
    "synchronous_commit": (
        frozenset({"on", "remote_apply", "remote_write", "local"}),
        "warning",
        "a crash of the server may lose commits that were acknowledged",
        "set it to on for this role: ALTER ROLE ... SET synchronous_commit = on",
    ),
}
"""For each setting: its safe values, how much others matter, why, and what to do."""

_STANDBYS: Final = """
    SELECT application_name, sync_state FROM pg_catalog.pg_stat_replication
    WHERE sync_state IS NOT NULL
"""
_WAITED_FOR: Final = frozenset({"sync", "quorum"})
_ACROSS: Final = frozenset({"on", "remote_apply"})
"""The values of `synchronous_commit` that wait for the disk of a synchronous standby."""

_LIMITS: Final = """
    SELECT
        pg_catalog.current_setting('max_connections')::pg_catalog.int4,
        (SELECT pg_catalog.sum(numbackends) FROM pg_catalog.pg_stat_database)::pg_catalog.int4,
        pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int4,
        pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int4
"""
_FULL: Final = 0.8
"""The share of all connections from which on new ones may soon be refused."""

_RIGHTS: Final = """
    SELECT t.relation, t.privilege FROM (VALUES
        ('migrations', 'SELECT'), ('store', 'SELECT'), ('events', 'SELECT'), ('events', 'INSERT'),
        ('tags', 'SELECT'), ('tags', 'INSERT')
    ) AS t (relation, privilege)
    WHERE NOT pg_catalog.has_table_privilege(
        pg_catalog.concat($1::pg_catalog.text, '.', t.relation), t.privilege
    )
    UNION ALL
    SELECT 'positions', p.privilege FROM (VALUES ('SELECT'), ('USAGE')) AS p (privilege)
    WHERE NOT pg_catalog.has_sequence_privilege(
        pg_catalog.concat($1::pg_catalog.text, '.positions'), p.privilege
    )
"""
_FORBIDDEN: Final = """
    SELECT DISTINCT p.proname::pg_catalog.text FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
    WHERE n.nspname OPERATOR(pg_catalog.=) $1
        AND p.proname OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.name[])
        AND NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
"""


async def examine(connection: AnyConnection, schema: str) -> list[Remark]:
    """Look at a server and a schema.

    Args:
        connection: A connection of the store, with the settings that its commits have.
        schema: The schema, not quoted.
    """
    version = connection.get_server_version()
    found = [fact("server", f"PostgreSQL {version.major}.{version.minor}")]
    found.append(_schema(await find_version(connection, schema)))
    found += await _rights(connection, schema)
    found += await _durability(connection)
    found += await _limits(connection)
    sent = time.time()
    clock = "SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())"
    theirs = (await ask_one(connection, clock))[0]
    found.append(remark_on_clock(theirs, sent, time.time()))
    return found


def _schema(version: int) -> Remark:
    if version == SCHEMA_VERSION:
        return fact("schema", f"version {version}, the newest one")
    text = f"version {version}; this program needs {SCHEMA_VERSION}"
    return Remark("error", "schema", text, "run `eventport schema upgrade`")


async def _rights(connection: AnyConnection, schema: str) -> list[Remark]:
    lacks: list[tuple[str, str]] = [
        (f"{privilege} ON {schema}.{relation}", f"the right to {privilege} on {relation}")
        for relation, privilege in await ask(connection, _RIGHTS, quoted(schema))
    ]
    names = [file.removesuffix(".sql") for file in FUNCTIONS]
    if forbidden := [row[0] for row in await ask(connection, _FORBIDDEN, schema, names)]:
        what = f"the right to execute {', '.join(sorted(forbidden))}"
        lacks.append((f"EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema}", what))
    if not lacks:
        return [fact("grants", "the role may append and read")]
    (role,) = await ask_one(connection, "SELECT CURRENT_USER::pg_catalog.text")
    return [
        Remark("error", "grants", f"the role {role} lacks {what}", f"GRANT {grant} TO {role}")
        for grant, what in lacks
    ]


async def _durability(connection: AnyConnection) -> list[Remark]:
    settings: dict[str, str] = {}
    for name in (*_SAFE, "synchronous_standby_names"):
        row = await ask_one(connection, "SELECT pg_catalog.current_setting($1)", name)
        settings[name] = row[0]
    found: list[Remark] = []
    for name, (safe, level, danger, remedy) in _SAFE.items():
        value = settings[name]
        if value in safe:
            found.append(fact("durability", f"{name} is {value}"))
        else:
            text = f"{name} is {value}: {danger}"
            found.append(Remark(level, "durability", text, remedy))
    return [*found, *await _standbys(connection, settings)]


async def _standbys(connection: AnyConnection, settings: dict[str, str]) -> list[Remark]:
    """Say which standbys may lack commits that were acknowledged, as far as the role may know."""
    waits = settings["synchronous_standby_names"] and settings["synchronous_commit"] in _ACROSS
    rows = await ask(connection, _STANDBYS)
    if not rows:
        return [fact("standbys", "none, or none that this role may see")]
    late = sorted(name for name, state in rows if state not in _WAITED_FOR or not waits)
    if len(late) < len(rows):
        return [fact("standbys", f"{len(rows) - len(late)} of {len(rows)} have each commit")]
    text = (
        f"all standbys are asynchronous ({', '.join(late)}): a failover to one may lose commits "
        "that were acknowledged"
    )
    remedy = "name one in synchronous_standby_names, with synchronous_commit = on"
    return [Remark("warning", "standbys", text, remedy)]


async def _limits(connection: AnyConnection) -> list[Remark]:
    row: Any = await ask_one(connection, _LIMITS)
    most, used, locks, prepared = row
    text = f"{used} of {most} connections are in use"
    remedy = "raise max_connections, put a pooler before the server, or lower pool_size"
    full = used >= _FULL * most
    return [
        Remark("warning", "limits", text, remedy) if full else fact("limits", text),
        fact("limits", f"the server has room for {locks * (most + prepared):,} locks"),
    ]
