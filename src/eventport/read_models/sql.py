"""Documents in two tables of an SQL database: one for them, one for what finds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from msgspec import Struct


class DocumentDialect(Struct, frozen=True):
    """How the SQL of a database is written, where databases differ."""

    documents: str
    """The name of the table of documents, as it stands in a statement."""
    lookups: str
    """The name of the table of the texts that find them."""
    equals: str = "="
    greater: str = ">"
    stored: str = "$3"
    """The third parameter, as the column of documents takes it."""
    shown: str = "document"
    """The column of documents as text."""
    lock: str | None = None
    """Locks a document of collection $1 and key $2 until the transaction ends, even if it does
    not exist; None if a transaction keeps all others from writing."""


class DocumentConnection(Protocol):
    """A connection to the tables."""

    async def prepare(self) -> bool:
        """Return whether the tables are there; one that writes makes them."""
        ...

    async def fetch(self, sql: str, *values: object) -> Sequence[Any]:
        """Run one statement, with parameters written ``$1``, and return its rows."""
        ...


class SqlDocuments:
    """A `DocumentReader` on an SQL database.

    Args:
        connection: Runs the statements.
        dialect: How they are written.
    """

    def __init__(self, connection: DocumentConnection, dialect: DocumentDialect) -> None:
        self.connection = connection
        self._sql = _Statements(dialect)

    async def get(self, collection: str, key: str, /) -> str | None:
        """See `DocumentReader.get`."""
        if not await self.connection.prepare():
            return None
        rows = await self.connection.fetch(self._sql.get, collection, key)
        return rows[0][0] if rows else None

    async def find(
        self, collection: str, lookups: Sequence[str], after: str, max_count: int, /
    ) -> Sequence[tuple[str, str]]:
        """See `DocumentReader.find`."""
        if not await self.connection.prepare():
            return []
        sql = self._sql.find(len(lookups))
        rows = await self.connection.fetch(sql, collection, after, max_count, *lookups)
        return [(key, document) for key, document in rows]


class SqlDocumentTransaction(SqlDocuments):
    """A `DocumentWriter` in the transaction that is open on a connection."""

    async def get(self, collection: str, key: str, /) -> str | None:
        """See `DocumentReader.get`; others wait until the end before they change it."""
        if self._sql.lock is not None and await self.connection.prepare():
            await self.connection.fetch(self._sql.lock, collection, key)
        return await super().get(collection, key)

    async def put(
        self, collection: str, key: str, document: str, lookups: Sequence[str], /
    ) -> None:
        """See `DocumentWriter.put`."""
        await self.connection.prepare()
        await self.connection.fetch(self._sql.put, collection, key, document)
        await self.connection.fetch(self._sql.clear, collection, key)
        if lookups:
            await self.connection.fetch(self._sql.add(len(lookups)), collection, key, *lookups)

    async def delete(self, collection: str, key: str, /) -> bool:
        """See `DocumentWriter.delete`."""
        await self.connection.prepare()
        await self.connection.fetch(self._sql.clear, collection, key)
        return bool(await self.connection.fetch(self._sql.delete, collection, key))


class _Statements:
    """The statements on the two tables."""

    def __init__(self, dialect: DocumentDialect) -> None:
        equals = dialect.equals
        this = f"collection {equals} $1 AND key {equals} $2"
        self._dialect: Final = dialect
        self.lock = dialect.lock
        self.get = f"SELECT {dialect.shown} FROM {dialect.documents} WHERE {this}"  # noqa: S608  # no value goes into the text
        self.put = f"""
            INSERT INTO {dialect.documents} (collection, key, document)
            VALUES ($1, $2, {dialect.stored})
            ON CONFLICT (collection, key) DO UPDATE SET document = excluded.document
        """  # noqa: S608  # as above
        self.clear = f"DELETE FROM {dialect.lookups} WHERE {this}"  # noqa: S608  # as above
        self.delete = f"DELETE FROM {dialect.documents} WHERE {this} RETURNING key"  # noqa: S608  # as above

    def add(self, count: int) -> str:
        """Return the statement that adds this many texts, which are parameters from $3."""
        rows = ", ".join(f"($1, ${number}, $2)" for number in range(3, count + 3))
        return f"INSERT INTO {self._dialect.lookups} (collection, lookup, key) VALUES {rows}"  # noqa: S608  # as above

    def find(self, count: int) -> str:
        """Return the query that is asked for this many texts, which are parameters from $4."""
        sql = self._dialect
        page = f"collection {sql.equals} $1 AND d.key {sql.greater} $2"
        if not count:
            return f"""
                SELECT d.key, {sql.shown} FROM {sql.documents} AS d
                WHERE d.{page} ORDER BY d.key LIMIT $3
            """  # noqa: S608  # as above
        others = "".join(
            f"""
            AND EXISTS (
                SELECT 1 FROM {sql.lookups} AS o WHERE o.collection {sql.equals} $1
                AND o.lookup {sql.equals} ${number} AND o.key {sql.equals} l.key
            )"""  # noqa: S608  # as above
            for number in range(5, count + 4)
        )
        return f"""
            SELECT d.key, {sql.shown} FROM {sql.lookups} AS l
            JOIN {sql.documents} AS d
            ON d.collection {sql.equals} l.collection AND d.key {sql.equals} l.key
            WHERE l.collection {sql.equals} $1 AND l.lookup {sql.equals} $4
            AND l.key {sql.greater} $2{others}
            ORDER BY l.key LIMIT $3
        """  # noqa: S608  # as above
