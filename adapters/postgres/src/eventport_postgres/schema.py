"""The tables and functions: how they are created, upgraded, repaired, and what else is refused."""

from __future__ import annotations

import re

from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from eventport.adapter import control_character
from eventport.errors import ConfigurationError, IncompatibleStoreError

from eventport_postgres.asking import AnyConnection, ask, ask_one


DEFAULT_SCHEMA: Final = "eventport"
"""The schema in which the tables are, if no other is named."""

MIGRATIONS: Final = (
    "1_tables.sql",
    "2_identity.sql",
    "3_times.sql",
    "4_copies.sql",
    "5_tags.sql",
)
"""What leads from each version to the next, from nothing to the first onwards."""

FUNCTIONS: Final = (
    "check_place.sql",
    "lock_key.sql",
    "append.sql",
    "frontier.sql",
    "read_all.sql",
    "matching.sql",
    "append_guarded.sql",
    "read_matches.sql",
)
"""What is made anew with each version, and when the schema was given another name."""

SCHEMA_VERSION: Final = len(MIGRATIONS)
"""The version of the tables and functions that this package reads and writes."""

_PLACE: Final = re.compile(r"('?)\{schema\}")


class Place(NamedTuple):
    """A store, as it was found in a schema."""

    number: int
    """Of its sequence: no other store in this database has it, whatever its name."""
    head: int
    """The position of the last event, or 0."""
    store_id: str
    """What backups, restores and renames keep."""


def check_schema(name: object) -> str:
    """Return the name of a schema, or raise `ConfigurationError`."""
    if not isinstance(name, str) or not name or "$" in name or control_character(name):
        message = f"schema must be the name of a schema, not {name!r}"
        raise ConfigurationError(message)
    if len(name.encode(errors="replace")) > 63 or name.startswith("pg_"):
        message = (
            f"schema {name!r} is no name for a schema: at most 63 bytes, not beginning with pg_"
        )
        raise ConfigurationError(message)
    return name


def quoted(name: str) -> str:
    """Return an identifier as it stands in SQL."""
    return '"' + name.replace('"', '""') + '"'


def migration_sql(schema: str, since: int = 0) -> str:
    """Return the SQL that leads from a version to this one.

    Args:
        schema: The schema, not quoted.
        since: The version that is there; 0 if there is nothing.
    """
    if since >= SCHEMA_VERSION:
        return ""
    name = quoted(schema)
    parts = [] if since else [f"CREATE SCHEMA IF NOT EXISTS {name};\n"]
    for version, file in enumerate(MIGRATIONS[since:], since + 1):
        parts.append(load_sql(file, name))
        parts.append(f"INSERT INTO {name}.migrations (version) VALUES ({version});\n")  # noqa: S608  # it is quoted
    return "\n".join([*parts, functions_sql(schema)])


def functions_sql(schema: str) -> str:
    """Return the SQL that makes the functions of this version, or makes them anew."""
    return "\n".join(load_sql(file, quoted(schema)) for file in FUNCTIONS)


def fence_sql(schema: str) -> str:
    """Return the SQL that makes what the trigger of a fence calls."""
    return load_sql("fence.sql", quoted(schema))


async def find_version(connection: AnyConnection, schema: str) -> int:
    """Return the version of the schema that is there; 0 if there is nothing.

    Raises:
        IncompatibleStoreError: it is of a newer version, or belongs to something else.
    """
    rows = await ask(connection, _TABLES, schema)
    found = {row[0] for row in rows}
    if not found:
        return 0
    if not found >= {"events", "migrations", "positions"}:
        message = (
            f"schema {schema!r} holds tables of something else (such as {min(found)!r}); it was "
            "not touched: name another with the option schema"
        )
        raise IncompatibleStoreError(message)
    sql = f"SELECT pg_catalog.max(version) FROM {quoted(schema)}.migrations"  # noqa: S608  # quoted
    version: int | None = (await ask_one(connection, sql))[0]
    if version is None:
        message = (
            f"the table migrations of schema {schema!r} is empty, as after a restore of single "
            "tables: restore it with the others"
        )
        raise IncompatibleStoreError(message)
    if version > SCHEMA_VERSION:
        message = (
            f"schema {schema!r} has version {version}; this eventport-postgres knows "
            f"{SCHEMA_VERSION}: install the eventport-postgres that made it, or a newer one"
        )
        raise IncompatibleStoreError(message)
    return version


async def require_current(connection: AnyConnection, schema: str) -> None:
    """Raise `IncompatibleStoreError` unless the schema is there in this version."""
    version = await find_version(connection, schema)
    if version < SCHEMA_VERSION:
        fault = (
            f"has version {version}, and {SCHEMA_VERSION} is needed"
            if version
            else "is not there: check its name, and that of the database"
        )
        remedy = "run `eventport schema upgrade`, or open the store with migrate='auto'"
        message = f"schema {schema!r} {fault}; {remedy}"
        raise IncompatibleStoreError(message)


async def find_place(connection: AnyConnection, schema: str) -> Place:
    """Return the store that is there in this version.

    Raises:
        IncompatibleStoreError: it was moved or restored in a way that leaves it unusable.
    """
    number, head, taken, store_id, moved = await _look(connection, schema)
    if moved:
        fault = "was given another name, or restored in part: its functions do not work in it"
    elif store_id is None:
        fault = "has no identity in its table store, as after a restore of single tables"
    elif taken < head:
        fault = (
            f"has an event at position {head}, but its sequence positions is at {taken} only, as "
            "after a restore of the events alone, or on the receiving side of logical replication"
        )
    else:
        return Place(number, head, store_id)
    message = f"schema {schema!r} {fault}: `eventport schema upgrade` repairs that"
    raise IncompatibleStoreError(message)


async def upgrade(connection: AnyConnection, schema: str, *, repair: bool = False) -> int:
    """Bring the schema to this version, and return the version that was there.

    Any number of processes may do so at the same time: one does it, the others wait.

    Args:
        connection: Where to do it.
        schema: The schema, not quoted.
        repair: Whether to bring its sequence up to its events, too, and to give it an identity
            if it has lost it.
    """
    before = await find_version(connection, schema)
    if before == SCHEMA_VERSION and not repair:
        *_, moved = await _look(connection, schema)
        if not moved:
            return before
    async with connection.transaction(isolation="read_committed"):
        await connection.execute("SET LOCAL lock_timeout = 0")
        await ask(connection, LOCK, f"eventport schema {schema}")
        before = await find_version(connection, schema)
        sql = migration_sql(schema, before)
        if before == SCHEMA_VERSION:
            *_, moved = await _look(connection, schema)
            sql = functions_sql(schema) if moved else ""
        elif before == 0 and await exists(connection, schema):
            # Even IF NOT EXISTS needs the right to create schemas.
            sql = sql.partition(";\n")[2]
        if sql:
            await connection.execute(sql)
        if repair:
            await _repair(connection, schema)
    return before


async def exists(connection: AnyConnection, schema: str) -> bool:
    """Return whether there is a schema of this name."""
    sql = "SELECT pg_catalog.to_regnamespace($1) IS NOT NULL"
    return bool((await ask_one(connection, sql, quoted(schema)))[0])


LOCK: Final = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))"
"""Taken before tables are made; IF NOT EXISTS does not keep two sessions apart."""

_TABLES: Final = """
    SELECT c.relname::pg_catalog.text FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE n.nspname OPERATOR(pg_catalog.=) $1 AND c.relname OPERATOR(pg_catalog.=)
        ANY ('{migrations,events,positions,store}'::pg_catalog.name[])
"""


async def _look(connection: AnyConnection, schema: str) -> tuple[int, int, int, str | None, bool]:
    name = quoted(schema)
    functions = [file.removesuffix(".sql") for file in FUNCTIONS]
    row = await ask_one(
        connection, load_sql("look.sql", name), schema, f"{name}.", functions, "''", "'"
    )
    return row[0], row[1], row[2], row[3], row[4]


async def _repair(connection: AnyConnection, schema: str) -> None:
    await connection.execute(load_sql("repair.sql", quoted(schema)))


@cache
def load_sql(file: str, name: str) -> str:
    """Return SQL of this package, for a schema that is quoted already."""
    text = files("eventport_postgres").joinpath("sql", file).read_text(encoding="utf-8")
    return _fill(text, name)


def _fill(text: str, name: str) -> str:
    """Put the quoted schema into SQL, in string literals and elsewhere."""
    literal = name.replace("'", "''")
    return _PLACE.sub(lambda match: f"'{literal}" if match[1] else name, text)
