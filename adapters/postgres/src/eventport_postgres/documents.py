"""Documents of read models in PostgreSQL: two tables of a schema."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from eventport.adapter import require_asyncio
from eventport.read_models.sql import DocumentDialect, SqlDocuments, SqlDocumentTransaction
from eventport.transactions import DocumentReader, DocumentWriter

from eventport_postgres.asking import AnyConnection, ask, ask_one
from eventport_postgres.connections import Connections, OwnConnections
from eventport_postgres.errors import DRIVER_ERRORS, translated
from eventport_postgres.places import check_url
from eventport_postgres.schema import DEFAULT_SCHEMA, LOCK, check_schema, exists, load_sql, quoted


_IS_THERE: Final = "SELECT pg_catalog.to_regclass($1) IS NOT NULL"


def documents_on(connection: AnyConnection, schema: str) -> DocumentWriter:
    """Return the documents of a schema in the transaction that is open on a connection."""
    return SqlDocumentTransaction(_Transaction(connection, schema), _dialect(schema))


@asynccontextmanager
async def open_documents(
    connections: Connections, schema: str, seconds: float
) -> AsyncGenerator[DocumentReader]:
    """Read the documents of a schema through connections, and close these at the end."""
    try:
        yield SqlDocuments(_Pool(connections, schema, seconds), _dialect(schema))
    finally:
        await connections.close()


@asynccontextmanager
async def connect_documents(
    url: str,
    *,
    schema: str = DEFAULT_SCHEMA,
    pool_size: int = 4,
    timeout: float = 30.0,  # noqa: ASYNC109  # it is not that of this call alone
    transaction_pooling: bool = False,
) -> AsyncGenerator[DocumentReader]:
    """Open the documents in the database that a URL names, to read them."""
    require_asyncio("Postgres", "asyncpg does")
    connections = OwnConnections(check_url(url), pool_size, transaction_pooling=transaction_pooling)
    async with open_documents(connections, check_schema(schema), timeout) as reader:
        yield reader


def _dialect(schema: str) -> DocumentDialect:
    name = quoted(schema)
    place = f"eventport document {schema} ".replace("'", "''")
    return DocumentDialect(
        documents=f"{name}.documents",
        lookups=f"{name}.lookups",
        equals="OPERATOR(pg_catalog.=)",
        greater="OPERATOR(pg_catalog.>)",
        stored="CAST(CAST($3 AS pg_catalog.text) AS pg_catalog.json)",
        shown="CAST(document AS pg_catalog.text)",
        # A row that does not exist yet cannot be locked.
        lock=(
            "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended("
            f"pg_catalog.concat('{place}', $1::pg_catalog.text, ' ', $2::pg_catalog.text), 0))"
        ),
    )


class _Transaction:
    """A transaction, as a `DocumentConnection` that makes the tables."""

    def __init__(self, connection: AnyConnection, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self._is_ready = False

    async def prepare(self) -> bool:
        """See `DocumentConnection.prepare`.

        The tables are made in the same transaction; what is undone with it is made again.
        """
        if not self._is_ready:
            (there,) = await ask_one(self._connection, _IS_THERE, _last(self._schema))
            if not there:
                await self._make()
            self._is_ready = True
        return True

    async def fetch(self, sql: str, *values: object) -> Sequence[Any]:
        """See `DocumentConnection.fetch`."""
        return await ask(self._connection, sql, *values)

    async def _make(self) -> None:
        await ask(self._connection, LOCK, f"eventport documents {self._schema}")
        name = quoted(self._schema)
        if not await exists(self._connection, self._schema):
            await self._connection.execute(f"CREATE SCHEMA {name}")
        await self._connection.execute(load_sql("documents.sql", name))


class _Pool:
    """Connections, as a `DocumentConnection` that reads."""

    def __init__(self, connections: Connections, schema: str, seconds: float) -> None:
        self._connections = connections
        self._schema = schema
        self._seconds = seconds
        self._is_ready = False

    async def prepare(self) -> bool:
        """See `DocumentConnection.prepare`."""
        if not self._is_ready:
            ((self._is_ready,),) = await self.fetch(_IS_THERE, _last(self._schema))
        return self._is_ready

    async def fetch(self, sql: str, *values: object) -> Sequence[Any]:
        """See `DocumentConnection.fetch`."""
        try:
            async with self._connections.reading(self._seconds) as connection:
                return await ask(connection, sql, *values, within=self._seconds)
        except DRIVER_ERRORS as exc:
            raise translated(exc) from exc


def _last(schema: str) -> str:
    """Return the name of what is made last."""
    return f"{quoted(schema)}.lookups_of_keys"
