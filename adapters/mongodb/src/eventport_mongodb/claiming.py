"""Claiming positions in the log: documents are inserted, and lost answers are found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, Never

from bson.errors import BSONError
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from eventport.adapter import AnswerLostError

from eventport_mongodb.asking import Asker
from eventport_mongodb.driver import Document
from eventport_mongodb.inline import Within
from eventport_mongodb.log import Log
from eventport_mongodb.transaction import Transaction
from eventport_mongodb.translation import (
    describe,
    failed_index,
    inserted_count,
    is_aborted,
    is_outcome_unknown,
    is_place_taken,
)


NOT_VISIBLE: Final = "a position is taken, but its document is not visible yet"


@dataclass(frozen=True)
class Claim:
    """What has become of documents: those that were not written never will be."""

    written: int
    """How many of them, from the first on, are in the store."""
    failed: Document | None = None
    """The one that kept the others from being written, if it is known."""
    refusal: PyMongoError | None = None
    """Why that one can never be written; None if somebody else has its place."""
    obstacle: str = NOT_VISIBLE
    """What is in the way, if nobody else turns out to have written."""


class Claimer:
    """Inserts documents at the positions that they name.

    A claim whose answer was lost stays open until `settle` has found out what became of it: the
    server may still carry it out.

    Args:
        log: Where to insert.
        asker: Asks the server.
    """

    def __init__(self, log: Log, asker: Asker) -> None:
        self._log = log
        self._asker = asker
        self._left: Sequence[Document] = ()
        self._written = 0
        self._transaction: Transaction | None = None

    @property
    def is_open(self) -> bool:
        """Whether an insert without an answer may have been, or may still be, carried out."""
        return bool(self._left)

    async def claim(
        self, documents: Sequence[Document], *, together: bool, within: Within | None = None
    ) -> Claim:
        """Insert documents in order, until somebody else turns out to have the place of one.

        Args:
            documents: What to insert.
            together: Whether all or none of them must be inserted.
            within: What else is to be done in their transaction; then they are one commit.

        Raises:
            AnswerLostError: it is not known what became of them, and the claim is open.
            PyMongoError: the server cannot be reached or refuses them, and nothing was inserted.
        """
        if together:
            return await self._insert_together(documents, within)
        self._left = documents
        try:
            await self._asker.once(self._log.insert, documents)
        except PyMongoError as exc:
            return await self._judge(documents, exc)
        return self._end(len(documents))

    async def settle(self) -> Claim:
        """Find out what became of the open claim, so that nothing of it is open any more.

        Raises:
            AnswerLostError: it is still unknown, because somebody else is about to write there.
            PyMongoError: it is still unknown.
        """
        if self._transaction is not None:
            return await self._settle_transaction(self._transaction)
        while True:
            # Sent to the same places again, whatever the server may still do with those sent
            # before: of two equal claims only one can succeed.
            if await self._is_inserted(self._left):
                return self._end(self._written + len(self._left))
            ours = await self._count_ours(self._left)
            self._written += ours
            self._left = self._left[ours:]
            if not self._left:
                return self._end(self._written)
            if not ours:
                await self._require_rival(self._left[0])
                # The server inserts in order, so the first one decides about the rest.
                return self._end(self._written, self._left[0])

    def drop(self) -> None:
        """Forget the open claim, if there is one: nobody will ask what became of it."""
        if self._transaction is not None:
            self._transaction.leave()
        self._left, self._written, self._transaction = (), 0, None

    def _end(
        self,
        written: int,
        failed: Document | None = None,
        refusal: PyMongoError | None = None,
        obstacle: str = NOT_VISIBLE,
    ) -> Claim:
        self.drop()
        return Claim(written, failed, refusal, obstacle)

    async def _judge(self, documents: Sequence[Document], error: PyMongoError) -> Claim:
        """Find out what an error means for the documents."""
        index = failed_index(error)
        is_unsent = isinstance(error, ServerSelectionTimeoutError)  # the driver has found no server
        if is_outcome_unknown(error) and not is_unsent:
            self._lose(error)
        if index is None:
            self.drop()
            raise error
        if not is_place_taken(error):
            return self._end(inserted_count(error), documents[index], error)
        try:
            stored = await self._asker.once(self._log.at_places, documents[index:])
        except (PyMongoError, BSONError) as exc:
            self._lose(exc)
        if _count_same(documents[index:], stored):
            # The driver retries inserts, too: what took our place is ourselves.
            self._lose(error)
        return self._end(index, documents[index])

    async def _insert_together(self, documents: Sequence[Document], within: Within | None) -> Claim:
        transaction = Transaction(self._log, self._asker)
        try:
            await transaction.insert(documents, within)
        except PyMongoError as exc:
            index = failed_index(exc)
            if index is not None and is_place_taken(exc):
                return self._end(0, documents[index])
            if is_aborted(exc):
                return self._end(0, obstacle=describe(exc))
            raise
        self._left, self._transaction = documents, transaction
        try:
            await transaction.commit()
        except PyMongoError as exc:
            self._lose(exc)
        return self._end(len(documents))

    async def _settle_transaction(self, transaction: Transaction) -> Claim:
        """Commit once more; the server knows whether it has done so before, and never will."""
        try:
            await transaction.commit()
        except PyMongoError as exc:
            if not is_aborted(exc):
                raise
            return self._end(await self._count_ours(self._left), obstacle=describe(exc))
        return self._end(len(self._left))

    async def _is_inserted(self, documents: Sequence[Document]) -> bool:
        """Insert documents; return False if somebody, perhaps ourselves, has a place of theirs."""
        try:
            await self._asker.once(self._log.insert, documents)
        except PyMongoError as exc:
            if is_outcome_unknown(exc) or not is_place_taken(exc):
                raise
            return False
        return True

    async def _count_ours(self, documents: Sequence[Document]) -> int:
        """Count how many documents, from the first on, are in the store for good."""
        stored = await self._asker.once(self._log.at_places, documents)
        ours = _count_same(documents, stored)
        if ours:
            # What is found has to be as durable as an answer.
            await self._asker.once(self._log.confirm)
        return ours

    async def _require_rival(self, document: Document) -> None:
        """Raise unless somebody else has a document's place, so that it never gets it."""
        rivals = await self._asker.once(self._log.rivals, document)
        if all(_is_same(rival, document) for rival in rivals):
            message = f"{self._log.name}: {NOT_VISIBLE}"
            raise AnswerLostError(message)

    def _lose(self, cause: Exception) -> Never:
        message = f"{self._log.name}: {describe(cause)}"
        raise AnswerLostError(message) from cause


def _count_same(documents: Sequence[Document], stored: Mapping[int, Document]) -> int:
    """Count how many documents, from the first on, are stored where they were to be."""
    return sum(1 for _ in takewhile(lambda one: _is_same(stored.get(one["_id"]), one), documents))


def _is_same(stored: Document | None, document: Document) -> bool:
    """Return whether what is stored is one of our documents, by its place and its events."""
    return (
        stored is not None
        and stored["_id"] == document["_id"]
        and [event["id"] for event in stored["events"]]
        == [event["id"] for event in document["events"]]
    )
