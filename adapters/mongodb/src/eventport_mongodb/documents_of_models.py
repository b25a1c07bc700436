"""Documents of read models in MongoDB: a collection beside that of the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from pymongo import ASCENDING

from eventport_mongodb.asking import Asker
from eventport_mongodb.driver import Collection
from eventport_mongodb.log import Log
from eventport_mongodb.translation import translated


_BETWEEN: Final = "\n"
"""Stands between the parts of an `_id`; no name and no key contains it."""


class MongoTransaction(Struct, frozen=True):
    """What handlers write with: ``collection.insert_one(..., session=transaction.session)``."""

    database: Any
    """The database of the events, of the driver's class."""
    session: Any
    """The session of the driver whose transaction is open."""


class ModelCollection:
    """The collection of documents, with the asker that reads it.

    Args:
        log: The events.
        asker: Asks the server.
    """

    def __init__(self, log: Log, asker: Asker) -> None:
        self._log = log
        self._asker = asker
        self.collection: Collection = log.beside("documents")
        self._is_ready = False

    async def prepare(self) -> None:
        """Make the collection and its indexes, outside of any transaction."""
        if not self._is_ready:
            key = ("key", ASCENDING)
            for fields in (["collection"], ["collection", "lookups"]):
                keys = [*((field, ASCENDING) for field in fields), key]
                await self._asker.once(self.collection.create_index, keys)
            self._is_ready = True

    def within(self, session: Any) -> MongoDocuments:
        """Return the documents in the transaction of a session."""
        return MongoDocuments(self, session)

    async def get(self, collection: str, key: str, /) -> str | None:
        """See `DocumentReader.get`."""
        with translated(self._log.name):
            return await self.find_text(collection, key, None)

    async def find(
        self, collection: str, lookups: Sequence[str], after: str, max_count: int, /
    ) -> Sequence[tuple[str, str]]:
        """See `DocumentReader.find`."""
        with translated(self._log.name):
            return await self.find_page(collection, lookups, after, max_count, None)

    async def find_text(self, collection: str, key: str, session: Any) -> str | None:
        """Return a document, as a session sees it."""
        found = await self._asker.once(
            self.collection.find_one, {"_id": place(collection, key)}, session=session
        )
        return None if found is None else found["document"]

    async def find_page(
        self, collection: str, lookups: Sequence[str], after: str, max_count: int, session: Any
    ) -> Sequence[tuple[str, str]]:
        """Return documents, as a session sees them."""
        if not max_count:
            return []
        where: dict[str, Any] = {"collection": collection, "key": {"$gt": after}}
        if lookups:
            where["lookups"] = {"$all": list(lookups)}
        cursor = self.collection.find(where, session=session).sort("key", ASCENDING)
        found = await self._asker.once(cursor.limit(max_count).to_list, None)
        return [(one["key"], one["document"]) for one in found]

    async def replace(
        self, collection: str, key: str, document: str, lookups: Sequence[str], session: Any
    ) -> None:
        """Keep a document in the transaction of a session."""
        kept = {
            "_id": place(collection, key),
            "collection": collection,
            "key": key,
            "document": document,
            "lookups": list(lookups),
        }
        await self._asker.once(
            self.collection.replace_one, {"_id": kept["_id"]}, kept, upsert=True, session=session
        )

    async def remove(self, collection: str, key: str, session: Any) -> bool:
        """Remove a document in the transaction of a session."""
        result = await self._asker.once(
            self.collection.delete_one, {"_id": place(collection, key)}, session=session
        )
        return result.deleted_count > 0


class MongoDocuments:
    """A `DocumentWriter` in the transaction of a session.

    A document that another transaction has changed since this one began cannot be written: the
    server undoes this one, and it is tried again.
    """

    def __init__(self, model: ModelCollection, session: Any) -> None:
        self._model = model
        self._session = session

    async def get(self, collection: str, key: str, /) -> str | None:
        """See `DocumentReader.get`."""
        return await self._model.find_text(collection, key, self._session)

    async def find(
        self, collection: str, lookups: Sequence[str], after: str, max_count: int, /
    ) -> Sequence[tuple[str, str]]:
        """See `DocumentReader.find`."""
        return await self._model.find_page(collection, lookups, after, max_count, self._session)

    async def put(
        self, collection: str, key: str, document: str, lookups: Sequence[str], /
    ) -> None:
        """See `DocumentWriter.put`."""
        await self._model.replace(collection, key, document, lookups, self._session)

    async def delete(self, collection: str, key: str, /) -> bool:
        """See `DocumentWriter.delete`."""
        return await self._model.remove(collection, key, self._session)


def place(first: str, second: str) -> str:
    """Return the `_id` of what two names identify."""
    return f"{first}{_BETWEEN}{second}"
