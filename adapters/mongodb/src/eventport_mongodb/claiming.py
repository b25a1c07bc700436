"""Claiming places in the log: documents are inserted, and lost answers are looked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from pymongo.errors import PyMongoError

from eventport_mongodb.asking import Patience
from eventport_mongodb.driver import Document
from eventport_mongodb.log import Log
from eventport_mongodb.translation import (
    failed_index,
    inserted_count,
    is_aborted,
    is_outcome_unknown,
    is_place_taken,
)


@dataclass(frozen=True)
class Claim:
    """What has become of documents: those that were not written never will be."""

    written: int
    """How many of them, from the first on, are in the store."""
    failed: Document | None = None
    """The one that kept the others from being written, if it is known."""
    refusal: PyMongoError | None = None
    """Why that one can never be written; None if somebody else has its place."""


class Claimer:
    """Inserts documents at the positions that they name, until it is known what became of them.

    Args:
        log: Where to insert them.
        patience: How long to try.
    """

    def __init__(self, log: Log, patience: Patience) -> None:
        self._log = log
        self._patience = patience
        self._is_open = False
        """Whether an insert without an answer may still be carried out."""
        self.is_doubtful = False
        """Whether something may be in the store of which the last claim has said nothing."""

    async def claim(self, documents: Sequence[Document], *, together: bool) -> Claim:
        """Insert documents in order, until somebody else turns out to have the place of one.

        After a lost answer the same documents are sent to the same places again, whatever the
        server may still do with those sent before: of two equal claims only one can succeed.

        Args:
            documents: What to insert.
            together: Whether all or none of them must be inserted.

        Raises:
            PyMongoError: the server refuses them.
            StoreUnavailableError: what became of them could not be learned in time.
        """
        rest = list(documents)
        claim = None
        self._is_open = False
        while rest and claim is None:
            error = await self._insert(rest, together=together)
            if error is None:
                rest = []
            else:
                self.is_doubtful |= is_outcome_unknown(error) or inserted_count(error) > 0
                rest, claim = await self._look_after(rest, error, together=together)
                self.is_doubtful = self._is_open or len(rest) < len(documents)
        self.is_doubtful = False
        written = len(documents) - len(rest)
        return Claim(written) if claim is None else replace(claim, written=written)

    async def _insert(
        self, documents: Sequence[Document], *, together: bool
    ) -> PyMongoError | None:
        try:
            if together:
                await self._log.insert_together(documents, self._patience)
            else:
                await self._patience.once(self._log.insert, documents)
        except PyMongoError as exc:
            return exc
        return None

    async def _look_after(
        self, rest: list[Document], error: PyMongoError, *, together: bool
    ) -> tuple[list[Document], Claim | None]:
        """Find out what has become of documents after an error.

        Returns:
            The documents that are not known to be in the store, and what keeps the first of them
            from it, unless they have to be sent again.
        """
        failed, refusal = await self._judge(rest, error, together=together)
        written = 0 if together else inserted_count(error)
        # The driver retries inserts, too: what took our place may be ourselves.
        ours = await self._count_ours(rest)
        left = rest[max(ours, written) :]
        if refusal is not None:
            return left, Claim(0, failed, refusal)
        if not left or ours > written or is_aborted(error):
            return left, None
        # Of an insert that may still be carried out, the first document decides about the rest.
        suspect = failed if together and failed is not None else left[0]
        if self._is_open and not await self._is_lost(suspect, is_taken=suspect is failed):
            return left, None
        return left, Claim(0, failed)

    async def _judge(
        self, rest: Sequence[Document], error: PyMongoError, *, together: bool
    ) -> tuple[Document | None, PyMongoError | None]:
        """Return the document that failed, and the error if it can never be inserted."""
        index = failed_index(error)
        if is_aborted(error):
            await self._patience.wait("the transaction was given up", error)
            return None, None
        if is_outcome_unknown(error):
            self._is_open = True
            await self._patience.wait("the answer to an insert was lost", error)
            if index is None:
                return None, None
        elif index is None:
            raise error
        refusal = None if is_place_taken(error) else error
        if refusal is not None and (together or self._is_open):
            raise refusal
        return rest[index], refusal

    async def _count_ours(self, documents: Sequence[Document]) -> int:
        """Count how many documents, from the first on, are in the store for good."""
        stored = await self._patience.insist(self._log.at_places, documents)
        ours = _count_same(documents, stored)
        if ours:
            await self._patience.insist(self._log.confirm)
        return ours

    async def _is_lost(self, document: Document, *, is_taken: bool) -> bool:
        """Return whether somebody else has a document's place, so that it never gets it."""
        rivals = await self._patience.insist(self._log.rivals, document)
        if any(not _is_same(rival, document) for rival in rivals):
            return True
        position = document["_id"]
        await self._patience.wait(
            f"position {position} is taken, but its document is not visible yet"
            if is_taken
            else f"it is not known what became of an insert at position {position}"
        )
        return False


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
