"""The collection: what is asked of the server, one query a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any, Final, cast
from uuid import uuid4

import bson

from pymongo import ASCENDING, DESCENDING, ReadPreference
from pymongo.errors import DuplicateKeyError, OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from eventport import ConfigurationError, IncompatibleStoreError
from eventport.adapter import end_of_prefix, run_shielded

from eventport_mongodb.driver import CODEC_OPTIONS, Client, Collection, Document, settled
from eventport_mongodb.heads import NOWHERE, Head, head_in


MAJORITY: Final = ReadConcern("majority")
DURABLE: Final = WriteConcern("majority", j=True)
"""Acknowledged is what most of the replica set has in its journal."""

PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page ends when it has got to this size, so that it does not fill the memory."""

INDEX: Final = "eventport_2"
"""The name of our index holds the version of the layout, by which a collection is recognised.

What a stream's versions are is as unique as in the index of version 1; MongoDB wants another order
for another index, and programs of version 1 refuse what has a newer one only.
"""

KEYS: Final = [("stream", ASCENDING), ("version", DESCENDING)]

_INDEX_1: Final = "eventport_1"
_TAGS_INDEX: Final = "tags"
_TAGS_KEYS: Final = [("events.tags", ASCENDING), ("_id", ASCENDING)]

_INDEX_PREFIX: Final = "eventport_"
_BATCH: Final = 10_000
_STORE: Final = "store"
"""The `_id` of the document about the store, in a collection beside the events."""

_INSERTS: Final[list[dict[str, Any]]] = [
    {"$match": {"operationType": "insert"}},
    {"$project": {"_id": 1}},
]
_OUTLINE: Final = {"stream": 1, "version": 1, "count": 1, "at": 1}


class Log:
    """All events of a store, in one collection.

    Args:
        client: A client of either driver.
        database: The name of the database.
        collection: The name of the collection.
        replicated: Whether it is on a replica set. A server that stands alone has no majority,
            and may not know the word.
    """

    def __init__(self, client: Client, database: str, collection: str, *, replicated: bool) -> None:
        self.client = client
        self.replicated = replicated
        self.name = f"{database}.{collection}"
        self.collection: Collection = self._get(collection, database)
        self.database: Any = client[database]
        """The driver's own, for handlers."""
        self._meta: Collection = self._get(f"{collection}.meta", database)
        self._place = database, collection

    def _get(self, name: str, database: str) -> Collection:
        return self.client[database].get_collection(
            name,
            codec_options=CODEC_OPTIONS,
            read_preference=ReadPreference.PRIMARY,
            write_concern=DURABLE,
            read_concern=MAJORITY if self.replicated else ReadConcern("local"),
        )

    def beside(self, name: str) -> Collection:
        """Return another collection of the store, such as ``events.documents``."""
        database, collection = self._place
        return self._get(f"{collection}.{name}", database)

    def within(self, session: Any) -> Log:
        """Return the same log, read and written in the transaction of a session."""
        joined = copy(self)
        joined.collection = cast("Collection", _InSession(self.collection, session))
        return joined

    async def prepare(self, create: bool) -> bool:  # noqa: FBT001  # asked by position
        """Create the index, and with it the collection, unless it is there.

        Args:
            create: Whether that is allowed.

        Returns:
            Whether it is of version 1, and needs an `upgrade`.

        Raises:
            ConfigurationError: it is not there, and is not to be created.
            IncompatibleStoreError: it holds something else, or is of a newer version.
        """
        name = self.name
        indexes = await self.collection.index_information()
        if _INDEX_1 in indexes:
            return True
        if INDEX in indexes:
            return False
        if newer := [index for index in indexes if index.startswith(_INDEX_PREFIX)]:
            message = (
                f"{name} has the layout {newer[0]}; this eventport-mongodb knows {INDEX}: "
                "install the eventport-mongodb that wrote it, or a newer one"
            )
            raise IncompatibleStoreError(message)
        if await self.collection.find_one({}, {"_id": 1}) is not None:
            # Another process may have created the index since, and appended.
            if INDEX in await self.collection.index_information():
                return False
            message = f"{name} holds something else; it was not touched: name another collection"
            raise IncompatibleStoreError(message)
        if not create:
            message = (
                f"{name} is not there: check the names of the database and of the collection, or "
                "let it be created"
            )
            raise ConfigurationError(message)
        await self._create_indexes()
        return False

    async def _create_indexes(self) -> None:
        # Most events may have no tags: those take no place in a sparse index.
        await self.collection.create_index(_TAGS_KEYS, name=_TAGS_INDEX, sparse=True)
        await self.collection.create_index(KEYS, name=INDEX, unique=True)

    async def upgrade(self) -> None:
        """Bring version 1 to this one; documents stay as they are.

        It takes as long as the server needs to build two indexes of all documents.
        Programs of version 1 that have the collection open go on working, and refuse it the next
        time.
        """
        await self._create_indexes()
        with suppress(OperationFailure):  # another process was faster
            await self.collection.drop_index(_INDEX_1)

    async def identify(self) -> str:
        """Return the id of the store, which is made with it and never changed."""
        where = {"_id": _STORE}
        found = await self._meta.find_one(where)
        if found is None:
            # Of several that do this at once the first one gives the id.
            new = {"$setOnInsert": {"store_id": str(uuid4()), "layout": INDEX}}
            with suppress(DuplicateKeyError):
                await self._meta.update_one(where, new, upsert=True)
            found = await self._meta.find_one(where) or {}
        store_id = found.get("store_id")
        if not isinstance(store_id, str):
            message = f"{self.name}.meta was not written by eventport: it has no store_id"
            raise IncompatibleStoreError(message)
        return store_id

    # What there is.

    async def last(self, at_least: int) -> Document | None:
        """Return the outline of the last document; `at_least` is the `_id` of one that is there."""
        return await self.collection.find_one(
            {"_id": {"$gte": at_least}}, _OUTLINE, sort=[("_id", DESCENDING)]
        )

    async def since(self, after: int, max_count: int) -> list[Document]:
        """Return the outlines of the documents after one, in order."""
        cursor = self.collection.find({"_id": {"$gt": after}}, _OUTLINE).sort("_id", ASCENDING)
        return await cursor.limit(max_count).to_list(None)

    async def head(self, stream: str) -> Head:
        """Return where a stream ends."""
        found = await self.collection.find_one(
            {"stream": stream}, _OUTLINE, sort=[("version", DESCENDING)]
        )
        return head_in(found)

    async def heads(self, streams: Sequence[str]) -> dict[str, Head]:
        """Return where many streams end, with one query."""
        if len(streams) == 1:
            return {streams[0]: await self.head(streams[0])}
        found = dict.fromkeys(streams, NOWHERE)
        return found | {one["stream"]: head_in(one) for one in await self.last_of(streams)}

    async def last_of(self, streams: Sequence[str]) -> list[Document]:
        """Return the outlines of the last documents of streams, by name, with one query."""
        # This shape is answered by the index, one step a stream, however long the streams are.
        pipeline: list[Mapping[str, Any]] = [
            {"$match": {"stream": {"$in": list(streams)}}},
            {"$sort": {"stream": 1, "version": -1}},
            {
                "$group": {
                    "_id": "$stream",
                    "place": {"$first": "$_id"},
                    "version": {"$first": "$version"},
                    "count": {"$first": "$count"},
                    "at": {"$first": "$at"},
                }
            },
            {"$sort": {"_id": 1}},
        ]
        cursor = await settled(self.collection.aggregate(pipeline))
        found: list[Document] = []
        async for document in cursor:
            stream, place = document["_id"], document["place"]
            found.append({**document, "stream": stream, "_id": place})
        return found

    async def names(self, first: str, end: str | None, max_count: int) -> list[str]:
        """Return names of streams in a range, in order.

        Each stream has one document that begins with version 1, which the index leads to.
        """
        where = {"stream": _between(first, end), "version": 1}
        cursor = self.collection.find(where, {"_id": 0, "stream": 1})
        found = await cursor.sort("stream", ASCENDING).limit(max_count).to_list(None)
        return [document["stream"] for document in found]

    async def at_places(self, documents: Sequence[Document]) -> dict[int, Document]:
        """Return what is stored at the positions of documents, with the ids of the events."""
        places = [document["_id"] for document in documents]
        cursor = self.collection.find({"_id": {"$in": places}}, {"events.id": 1})
        return {found["_id"]: found async for found in cursor}

    async def rivals(self, document: Document) -> list[Document]:
        """Return what is stored at a document's position, or at its version of its stream."""
        version = {"stream": document["stream"], "version": document["version"]}
        places = {"$or": [{"_id": document["_id"]}, version]}
        return await self.collection.find(places, {"events.id": 1}).to_list(None)

    async def of_stream(
        self, stream: str, first: int, last: int | None, *, backwards: bool = False
    ) -> tuple[list[Document], bool]:
        """Return the documents with a stream's events in a range, and whether there are more.

        It ends when there is enough for a page.
        """
        versions = {"$gte": first} if last is None else {"$gte": first, "$lte": last}
        where = {"stream": stream, "version": versions}
        found, cut = await self._page(where, _by("version", backwards=backwards))
        lowest = found[-1 if backwards else 0]["version"] if found else None
        if first > 1 and lowest != first and not (cut and backwards):
            before = {"stream": stream, "version": {"$lt": first}}
            earlier = await self.collection.find_one(before, sort=[("version", DESCENDING)])
            if earlier is not None:
                found.insert(len(found) if backwards else 0, earlier)
        return found, cut

    async def of_streams(self, streams: Sequence[str]) -> tuple[list[Document], bool]:
        """Return the documents of streams, and whether there are more.

        They are in the order of the index backwards: the last name first, its versions upwards.
        """
        order = [("stream", DESCENDING), ("version", ASCENDING)]
        return await self._page({"stream": {"$in": list(streams)}}, order)

    async def of_all(
        self,
        first: int,
        last: int,
        types: frozenset[str] | None,
        prefix: str | None,
        stream: str | None,
    ) -> tuple[list[Document], bool]:
        """Return the documents with events in a range of positions, and whether there are more.

        A document that cannot have events of these types, or is of a stream with another prefix
        or name, may be left out or not.
        """
        where: dict[str, Any] = {"_id": {"$gte": first, "$lte": last}}
        wanted: dict[str, Any] = {}
        if types is not None:
            wanted["events.type"] = {"$in": sorted(types)}
        if prefix is not None:
            wanted["stream"] = _between(prefix, end_of_prefix(prefix))
        if stream is not None:
            wanted["stream"] = stream
        if wanted:
            # The first place is always read: it shows whether a document extends over it.
            where["$or"] = [wanted, {"_id": first}]
        found, cut = await self._page(where, _by("_id"))
        if first > 1 and (not found or found[0]["_id"] != first):
            before = {"_id": {"$lt": first}}
            earlier = await self.collection.find_one(before, sort=[("_id", DESCENDING)])
            if earlier is not None:
                found.insert(0, earlier)
        return found, cut

    async def matching(
        self,
        condition: Mapping[str, Any],
        after: int,
        until: int,
        max_count: int,
        *,
        backwards: bool = False,
    ) -> list[Document]:
        """Return documents that meet a condition and may have events in a range of positions."""
        first = after + 1
        if after:
            outline = {"_id": 1, "count": 1}
            before = await self.collection.find_one(
                {"_id": {"$lte": after}}, outline, sort=[("_id", DESCENDING)]
            )
            if before is not None and before["_id"] + before["count"] > first:
                first = before["_id"]
        where = {"_id": {"$gte": first, "$lte": until}, **condition}
        cursor = self.collection.find(where).sort("_id", DESCENDING if backwards else ASCENDING)
        return await cursor.limit(max_count).to_list(None)

    async def _page(
        self, where: Mapping[str, Any], order: list[tuple[str, int]]
    ) -> tuple[list[Document], bool]:
        # Whole batches, as the server sent them: their size is known, and they are decoded at once.
        cursor = self.collection.find_raw_batches(where, batch_size=_BATCH)
        cursor = cursor.sort(order)
        found: list[Document] = []
        size = 0
        try:
            async for batch in cursor:
                documents: list[Document] = cast("Any", bson).decode_all(batch, CODEC_OPTIONS)
                found += documents
                size += len(batch)
                if size > PAGE_BYTES and cursor.alive:
                    return found, True
        finally:
            if cursor.alive:
                await run_shielded(cursor.close)
        return found, False

    async def watch(self) -> Any:
        """Open a change stream, which shows that something was inserted, and not what."""
        return await settled(self.collection.watch(_INSERTS))

    # What is written.

    async def insert(self, documents: Sequence[Document], session: Any = None) -> None:
        """Insert documents in order, up to the first that cannot be inserted.

        Args:
            documents: What to insert.
            session: That of a transaction, in which all or none of them are inserted.
        """
        within = {} if session is None else {"session": session}
        await self.collection.insert_many(documents, ordered=True, **within)

    async def confirm(self) -> None:
        """Return when all that is visible now is as durable as what is acknowledged.

        A write that changes nothing still waits for all that was written before it.
        """
        await self._meta.update_one({"_id": _STORE}, {"$set": {"layout": INDEX}})


class _InSession:
    """A collection of which each call is a part of a session's transaction."""

    def __init__(self, collection: Collection, session: Any) -> None:
        self._collection: Any = collection
        self._session = session

    def __getattr__(self, name: str) -> Any:
        """Return a method of the collection that is given the session."""
        return partial(getattr(self._collection, name), session=self._session)


def _between(first: str, end: str | None) -> dict[str, str]:
    """Bound names: from one on, and below another one, if there is one."""
    return {"$gte": first} if end is None else {"$gte": first, "$lt": end}


def _by(key: str, *, backwards: bool = False) -> list[tuple[str, int]]:
    return [(key, DESCENDING if backwards else ASCENDING)]
