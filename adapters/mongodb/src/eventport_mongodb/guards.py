"""Guards of queries: each part of the log is looked at once for what breaks them."""

from __future__ import annotations

import asyncio

from collections.abc import Mapping
from typing import Final

from eventport import Query
from eventport.adapter import Commit, Place, QueryGuard, Seen, StreamGuard

from eventport_mongodb.asking import Asker
from eventport_mongodb.documents import end_of
from eventport_mongodb.heads import Heads
from eventport_mongodb.log import Log
from eventport_mongodb.matching import condition, matching


_PAGE: Final = 500
"""How many documents are looked at together."""


class Guards:
    """The guards of one batch.

    What the batch claims comes right after the known end of the log. So a guard that holds up to
    there holds when the claim succeeds, and whatever was not looked at makes the claim fail.

    Args:
        log: Where to look.
        heads: Knows the end of the log.
        asker: Asks the server.
    """

    def __init__(self, log: Log, heads: Heads, asker: Asker) -> None:
        self._log = log
        self._heads = heads
        self._ask = asker.once
        self._checked: dict[tuple[int, QueryGuard], int] = {}
        """Up to which position of the log a guard is known to hold."""

    async def find_broken(
        self, pending: Mapping[int, Commit]
    ) -> list[tuple[int, QueryGuard, Place]]:
        """Return the guards that do not hold, and the first event that breaks each."""
        guards = [
            (index, guard)
            for index, commit in pending.items()
            for guard in commit.guards
            if isinstance(guard, QueryGuard)
        ]
        places = await asyncio.gather(*(self._first_unseen(*guard) for guard in guards))
        return [
            (index, guard, place)
            for (index, guard), place in zip(guards, places, strict=True)
            if place is not None
        ]

    async def _first_unseen(self, index: int, guard: QueryGuard) -> Place | None:
        end, seen = self._heads.end or 0, guard.seen
        after = self._checked.get((index, guard), seen.floor)
        while after < end:
            documents = await self._ask(
                self._log.matching, condition(guard.query), after, end, _PAGE
            )
            for document in documents:
                for event in matching(document, guard.query, after, end):
                    if not seen.covers(event.position):
                        return event.stream, event.version, event.id
            after = end_of(documents[-1]) if len(documents) == _PAGE else end
        self._checked[index, guard] = max(after, end)
        return None


def guarded_streams(commit: Commit) -> set[str]:
    """Return the streams that a commit only guards."""
    return {guard.stream for guard in commit.guards if isinstance(guard, StreamGuard)}


def nothing_unseen(_: Query, __: Seen) -> Place | None:
    """Find no event that breaks a guard: that was looked up before."""
    return None
