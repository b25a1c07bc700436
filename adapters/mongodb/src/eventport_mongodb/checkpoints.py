"""Checkpoints in MongoDB, in the transaction of the read model: each event counts once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias, TypeVar

from anyio import Lock
from msgspec import convert, to_builtins
from pymongo import ASCENDING, ReadPreference, ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from eventport.adapter import run_shielded
from eventport.errors import StoreUnavailableError
from eventport.projections import (
    AlreadyHandledError,
    Checkpoint,
    DeadLetter,
    LastEvent,
    LeaseLostError,
    NoDeadLetterError,
    ProjectionId,
)
from eventport.projections.checkpoints import refuse_divided
from eventport.projections.standing_by import StandBy
from eventport.transactions import DocumentWriter

from eventport_mongodb.asking import Asker
from eventport_mongodb.documents_of_models import ModelCollection, MongoTransaction, place
from eventport_mongodb.driver import settled
from eventport_mongodb.log import DURABLE, MAJORITY, Log
from eventport_mongodb.translation import describe, is_aborted, is_connection_lost, translated


T = TypeVar("T")

Document: TypeAlias = dict[str, Any]

_COMMITS: Final = 5
"""How often a commit is sent whose answer was lost; the server knows what it has done."""


class MongoDBCheckpoints:
    """A `CheckpointStore` in two collections beside the events, on a replica set.

    What handlers write in `context.connection.session` is committed together with the
    checkpoint. While a batch is being handled, a renewal waits: no other runner can take the
    lease meanwhile, because the batch's transaction has written to it.

    Args:
        log: The events.
        asker: Asks the server.
        models: The documents.
    """

    def __init__(self, log: Log, asker: Asker, models: ModelCollection) -> None:
        self._log = log
        self._asker = asker
        self._models = models
        self._projections = log.beside("projections")
        self._letters = log.beside("dead_letters")
        self._stand_by = StandBy()

    async def prepare(self) -> None:
        """Make the collections: in a transaction they cannot be made at the same time."""
        with translated(self._log.name):
            await self._models.prepare()
            await self._asker.once(self._projections.create_index, [("name", ASCENDING)])
            await self._asker.once(self._letters.create_index, [("projection", ASCENDING)])

    def documents(self, connection: MongoTransaction, /) -> DocumentWriter:
        """See `KeepsDocuments.documents`."""
        return self._models.within(connection.session)

    async def acquire(
        self, projection: ProjectionId, owner: str, seconds: float, store_id: str | None = None
    ) -> MongoDBLease | None:
        """See `CheckpointStore.acquire`."""
        with translated(self._log.name):
            found = await self._find(projection) or {}
            seen = {"fence": found.get("fence", 0), "renewals": found.get("renewals", 0)}
            if found.get("owner") not in {None, owner} and not self._stand_by.has_run_out(
                projection, tuple(seen.values()), found["seconds"]
            ):
                return None
            changes: Document = {"owner": owner, "seconds": seconds}
            if found.get("store_id") is None:
                changes["store_id"] = store_id
            if not found:
                await self._create(projection)
            taken = await self._asker.once(
                self._projections.find_one_and_update,
                {"_id": _id_of(projection), **seen},
                {"$set": changes, "$inc": {"fence": 1}},
                return_document=ReturnDocument.AFTER,
            )
        if taken is None:
            return None  # another runner was faster, or it was renewed in this moment
        return MongoDBLease(self, projection, taken["fence"], _checkpoint(taken))

    async def load(self, projection: ProjectionId) -> Checkpoint:
        """See `CheckpointStore.load`."""
        with translated(self._log.name):
            return _checkpoint(await self._find(projection) or {})

    async def reset(self, projection: ProjectionId, position: int) -> None:
        """See `CheckpointStore.reset`."""
        refuse_divided(projection, await self.load(projection))
        changes = {"position": position, "owner": None, "last_event": None, "store_id": None}
        with translated(self._log.name):
            await self._create(projection)
            await self._asker.once(
                self._projections.update_one,
                {"_id": _id_of(projection)},
                {"$set": changes, "$inc": {"fence": 1}},
            )

    async def divide(self, projection: ProjectionId, partitions: int) -> int:
        """See `CheckpointStore.divide`."""
        untouched = {"partitions": {"$in": [0, None]}, "fence": 0, "position": 0}
        with translated(self._log.name):
            await self._create(projection)
            await self._asker.once(
                self._projections.update_one,
                {"_id": _id_of(projection), **untouched},
                {"$set": {"partitions": partitions}},
            )
        return (await self.load(projection)).partitions

    async def active(self, name: str) -> int:
        """See `CheckpointStore.active`."""
        with translated(self._log.name):
            found = await self._asker.once(
                self._projections.find_one,
                {"name": name, "active": True},
                sort=[("generation", -1)],
            )
        return found["generation"] if found else 0

    async def activate(self, projection: ProjectionId) -> None:
        """See `CheckpointStore.activate`."""
        with translated(self._log.name):
            await self._create(projection)
            await self._asker.once(
                self._projections.update_one,
                {"_id": _id_of(projection)},
                {"$set": {"active": True}},
            )

    async def dead_letters(self, projection: ProjectionId) -> list[DeadLetter]:
        """See `CheckpointStore.dead_letters`."""
        cursor = self._letters.find({"projection": _id_of(projection)})
        with translated(self._log.name):
            found = await self._asker.once(cursor.sort("letter.position", ASCENDING).to_list, None)
        return [convert(one["letter"], DeadLetter) for one in found]

    @asynccontextmanager
    async def resolve(
        self, projection: ProjectionId, position: int
    ) -> AsyncGenerator[MongoTransaction]:
        """See `CheckpointStore.resolve`."""
        async with self.transaction() as connection:
            with translated(self._log.name):
                removed = await self._asker.once(
                    self._letters.delete_one,
                    {"_id": place(_id_of(projection), str(position))},
                    session=connection.session,
                )
            if not removed.deleted_count:
                raise NoDeadLetterError(projection, position)
            yield connection

    # What leases do.

    async def update(
        self, projection: ProjectionId, fence: int, changes: Document, session: Any = None
    ) -> Document:
        """Change a checkpoint, and return it as it was.

        Raises:
            LeaseLostError: another runner has taken over.
        """
        with translated(self._log.name):
            before = await self._asker.once(
                self._projections.find_one_and_update,
                {"_id": _id_of(projection), "fence": fence},
                changes,
                session=session,
            )
        if before is None:
            raise LeaseLostError(projection)
        found: Document = before
        return found

    async def give_up(self, projection: ProjectionId, letter: DeadLetter, session: Any) -> None:
        """Add a dead letter in the transaction of a session."""
        id_ = _id_of(projection)
        where = {"_id": place(id_, str(letter.position))}
        kept = {**where, "projection": id_, "letter": to_builtins(letter)}
        with translated(self._log.name):
            await self._asker.once(
                self._letters.replace_one, where, kept, upsert=True, session=session
            )

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MongoTransaction]:
        """Open a transaction that is committed at the end of the block.

        Raises:
            StoreUnavailableError: the server gave it up; or it is not known whether it was
                committed.
        """
        # Motor's session has to be awaited, and its transaction does not; PyMongo is the opposite.
        with translated(self._log.name):
            opening: Any = self._log.client.start_session()
            session: Any = await settled(opening)
        try:
            await settled(session.start_transaction(MAJORITY, DURABLE, ReadPreference.PRIMARY))
            try:
                yield MongoTransaction(self._log.database, session)
            except PyMongoError as exc:
                if is_aborted(exc) or is_connection_lost(exc):
                    raise self._unavailable(exc) from exc
                raise
            await run_shielded(self._commit, session)
        finally:
            await run_shielded(self._leave, session)

    async def _commit(self, session: Any) -> None:
        for attempt in range(1, _COMMITS + 1):
            try:
                return await self._asker.once(session.commit_transaction)
            except PyMongoError as exc:
                if is_aborted(exc) or attempt == _COMMITS:
                    raise self._unavailable(exc) from exc
        return None

    async def _leave(self, session: Any) -> None:
        if session.in_transaction:
            with suppress(PyMongoError):  # what cannot be aborted now ends by itself
                await self._asker.once(session.abort_transaction)
        with suppress(PyMongoError):
            await settled(session.end_session())

    def _unavailable(self, exc: PyMongoError) -> StoreUnavailableError:
        return StoreUnavailableError(f"{self._log.name}: {describe(exc)}")

    async def _find(self, projection: ProjectionId) -> Document | None:
        return await self._asker.once(self._projections.find_one, {"_id": _id_of(projection)})

    async def _create(self, projection: ProjectionId) -> None:
        """Make the document of a projection, unless it is there."""
        new = {
            "name": projection.name,
            "generation": projection.generation,
            "position": 0,
            "owner": None,
            "fence": 0,
            "renewals": 0,
            "seconds": 15.0,
            "active": False,
            "last_event": None,
            "store_id": None,
        }
        with suppress(DuplicateKeyError):  # of several at once, one makes it
            await self._asker.once(
                self._projections.update_one,
                {"_id": _id_of(projection)},
                {"$setOnInsert": new},
                upsert=True,
            )


class MongoDBLease:
    """A `Lease` on a projection of `MongoDBCheckpoints`."""

    def __init__(
        self,
        checkpoints: MongoDBCheckpoints,
        projection: ProjectionId,
        fence: int,
        checkpoint: Checkpoint,
    ) -> None:
        self._checkpoints = checkpoints
        self._projection = projection
        self._fence = fence
        self._lock = Lock()  # a renewal would conflict with the transaction of a batch
        self.checkpoint = checkpoint
        """See `Lease.checkpoint`."""

    async def renew(self, position: int) -> None:
        """See `Lease.renew`."""
        async with self._lock:
            await self._update({"$max": {"position": position}, "$inc": {"renewals": 1}})

    @asynccontextmanager
    async def advance(
        self,
        position: int,
        *,
        last_event: LastEvent | None = None,
        dead_letter: DeadLetter | None = None,
    ) -> AsyncGenerator[MongoTransaction]:
        """See `Lease.advance`."""
        changes: Document = {"$max": {"position": position}, "$inc": {"renewals": 1}}
        if last_event is not None:
            changes["$set"] = {"last_event": to_builtins(last_event)}
        async with self._lock, self._checkpoints.transaction() as connection:
            # First, so that nobody else can write to it until the end.
            before = await self._update(changes, connection.session)
            if last_event is not None and before["position"] >= position:
                raise AlreadyHandledError
            yield connection
            if dead_letter is not None:
                await self._checkpoints.give_up(self._projection, dead_letter, connection.session)

    async def release(self) -> None:
        """See `Lease.release`."""
        with suppress(LeaseLostError):
            await self._update({"$set": {"owner": None}})

    async def _update(self, changes: Document, session: Any = None) -> Document:
        return await self._checkpoints.update(self._projection, self._fence, changes, session)


def _id_of(projection: ProjectionId) -> str:
    return place(projection.name, str(projection.generation))


def _checkpoint(found: Document) -> Checkpoint:
    return convert(
        {name: found[name] for name in Checkpoint.__struct_fields__ if name in found}, Checkpoint
    )
