"""One batch of commits on its way: positions are claimed, and lost races are run again."""

from __future__ import annotations

import random

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Never
from uuid import UUID

from anyio import sleep

from eventport import (
    CorruptEventError,
    EventportError,
    InlineProjectionError,
    PayloadTooLargeError,
    Query,
)
from eventport.adapter import (
    Backoff,
    Commit,
    Committed,
    Conflict,
    ConnectionLostError,
    Failed,
    Outcome,
    Place,
    PlannedWrites,
    QueryConflict,
    Seen,
    StreamPage,
    StreamQuery,
    Written,
    plan,
    version_before,
)
from eventport.expectations import Expectation, exact_version, holds

from eventport_mongodb.asking import Asker
from eventport_mongodb.claiming import Claim, Claimer
from eventport_mongodb.documents import end_of, make_documents, times_of
from eventport_mongodb.driver import Document
from eventport_mongodb.guards import Guards, guarded_streams, nothing_unseen
from eventport_mongodb.heads import Heads, PlannedHeads, head_in
from eventport_mongodb.inline import InlineProjections, Within, only_first
from eventport_mongodb.log import Log
from eventport_mongodb.translation import translate


ReadStream = Callable[[StreamQuery], Awaitable[StreamPage]]
"""Reads events of a stream."""

TAIL: Final = 2_000
"""When others have written more documents than this, it is cheaper to begin anew."""

LONGEST_PAUSE: Final = 0.05
"""How long, in seconds, the loser of many races waits at most before it runs again."""

_FIRST_WAIT: Final = 0.005
_LONGEST_WAIT: Final = 0.25


@dataclass(frozen=True)
class _Planned:
    """A commit and the places that it is to have."""

    index: int
    commit: Commit
    firsts: Sequence[int]
    documents: Sequence[Document]

    def outcome(self) -> Committed:
        """Return what writing it has done."""
        written: list[Written] = []
        position: int = self.documents[0]["_id"]
        times = [time for document in self.documents for time in times_of(document)]
        for write, first in zip(self.commit.writes, self.firsts, strict=True):
            count = len(write.events)
            positions = range(position, position + count)
            written.append(Written(first + count - 1, positions, first == 1, times[:count]))
            del times[:count]
            position += count
        return Committed(written)


class Batch:
    """One batch on its way, in as many rounds as it takes."""

    def __init__(
        self,
        log: Log,
        heads: Heads,
        asker: Asker,
        claimer: Claimer,
        read_stream: ReadStream,
        inline: InlineProjections,
        commits: Sequence[Commit],
    ) -> None:
        self._log = log
        self._heads = heads
        self._ask = asker.once
        self._claimer = claimer
        self._read_stream = read_stream
        self._inline = inline
        self._commits = commits
        self._pending = dict(enumerate(commits))
        self._outcomes: dict[int, Outcome] = {}
        self._claimed: Sequence[_Planned] = ()
        """What the last claim is about."""
        self.is_unwanted = False
        """Whether all who wait for it have been cancelled."""
        self._races_lost = 0
        self._patience: Final = asker.timeout / 3
        self._stand_still()
        self._is_current = False
        """Whether all that is known of heads was true at some time since the batch began."""
        self._seen: set[str] = set()
        """The streams of which that is so in any case."""
        self._existing: set[str] = set()
        """The streams that were taken for new, and are not."""
        self._guards = Guards(log, heads, asker)

    @property
    def has_written(self) -> bool:
        """Whether a part of it is in the store."""
        return any(isinstance(outcome, Committed) for outcome in self._outcomes.values())

    async def run(self) -> list[Outcome]:
        """Return the outcomes of all commits, in order."""
        while self._pending:
            if self._heads.end is None:
                await self._catch_up()
            await self._learn_heads()
            await self._check_guards()
            planned, is_doubtful = await self._plan()
            if is_doubtful:
                await self._catch_up()
            elif planned:
                await self._race(only_first(planned, self._inline))
        return [self._outcomes[index] for index in range(len(self._commits))]

    def fail_the_rest(self, error: EventportError) -> list[Outcome]:
        """Return the outcomes, with an error for all that have none."""
        known = {**dict.fromkeys(self._pending, Failed(error)), **self._outcomes}
        return [known[index] for index in range(len(self._commits))]

    async def find(self, commits: Sequence[Commit]) -> list[Committed | None]:
        """Return which commits were written, once that is known of all of them.

        Raises:
            AnswerLostError: it is not known yet.
            PyMongoError: it is not known yet.
        """
        if self._claimer.is_open:
            claim = await self._claimer.settle()
            self._note_written(self._claimed, claim.written)
        found = {
            id(self._commits[index]): outcome
            for index, outcome in self._outcomes.items()
            if isinstance(outcome, Committed)
        }
        return [found.get(id(commit)) for commit in commits]

    async def _catch_up(self) -> None:
        """Learn what has been written since the last look, or else where the log ends."""
        heads = self._heads
        if heads.end is not None:
            found = await self._ask(self._log.since, heads.last, TAIL)
            if len(found) < TAIL:
                heads.follow(found)
                self._is_current = True
                return
        heads.restart(await self._ask(self._log.last, heads.last))
        self._is_current = True
        self._seen.clear()

    async def _learn_heads(self) -> None:
        """Learn the heads that matter and are not known, all with one query."""
        streams = {
            write.stream
            for commit in self._pending.values()
            for write in commit.writes
            if self._heads.get(write.stream) is None
            # A new stream shows at the insert: its first version would be taken.
            and (exact_version(write.expected) != 0 or write.stream in self._existing)
        }
        for commit in self._pending.values():
            streams |= {one for one in guarded_streams(commit) if self._heads.get(one) is None}
        if streams:
            found = await self._ask(self._log.heads, sorted(streams))
            for stream, head in found.items():
                self._heads.learn(stream, head)
            self._seen |= streams

    async def _check_guards(self) -> None:
        """Settle the commits of which a query's guard is broken by what is in the log."""
        for index, guard, place in await self._guards.find_broken(self._pending):
            if index in self._pending:
                commit = self._pending[index]
                outcome = await self._settle(commit, place)
                if outcome is None or isinstance(outcome, Conflict):  # which may be old knowledge
                    outcome = await self._stream_conflict(commit)
                self._end(index, outcome or QueryConflict(guard.query, place[0], place[1]))

    async def _plan(self) -> tuple[list[_Planned], bool]:
        """Give places to the commits that can be written now, and settle those that never can.

        Returns:
            What is to be written, in order, and whether a conflict may be due to old knowledge.
        """
        planned: list[_Planned] = []
        heads = PlannedHeads(self._heads)
        waiting: set[str] = set()  # streams with a commit that depends on the outcome of others
        position = (self._heads.end or 0) + 1
        before = PlannedWrites()
        for index, commit in list(self._pending.items()):
            written = {write.stream for write in commit.writes}
            streams = written | guarded_streams(commit)
            if not streams.isdisjoint(waiting) or any(map(before.could_break, commit.guards)):
                waiting |= written
                continue
            decision = plan(commit, heads.version, _nothing_stored, nothing_unseen)
            if isinstance(decision, list):
                try:
                    documents = make_documents(commit, decision, position, heads.time_for(written))
                except PayloadTooLargeError as exc:
                    self._end(index, Failed(exc))
                    continue
                planned.append(_Planned(index, commit, decision, documents))
                position = end_of(documents[-1]) + 1
                heads.move(documents)
                before.add(commit)
            elif heads.have_moved(streams):
                waiting |= written
            else:
                is_sure = self._is_current or streams <= self._seen
                outcome = await self._settle(commit) if is_sure else None
                if outcome is None:
                    return [], True
                self._end(index, outcome)
        return planned, False

    def _end(self, index: int, outcome: Outcome) -> None:
        del self._pending[index]
        self._outcomes[index] = outcome

    async def _settle(self, commit: Commit, place: Place | None = None) -> Outcome | None:
        """Distinguish a conflict from an earlier try of the same commit.

        It is None if heads have been read meanwhile with which the commit can be written.

        Args:
            commit: The commit.
            place: The event that breaks the guard of a query, if one does.
        """
        found: dict[tuple[str, int, int], list[tuple[UUID, int, datetime]]] = {}
        for write in commit.writes:
            before = exact_version(write.expected)
            if before is None and place is not None:
                before = version_before(write, place)
            if before is not None:
                first, last = before + 1, before + len(write.events)
                try:
                    page = await self._read_stream(StreamQuery(write.stream, first, last))
                except CorruptEventError as exc:
                    return Failed(exc)
                found[write.stream, first, last] = [
                    (event.id, event.position, event.recorded_at) for event in page.events
                ]

        def stored(stream: str, first: int, last: int) -> list[tuple[UUID, int, datetime]]:
            return found[stream, first, last]

        def unseen(_: Query, __: Seen) -> Place | None:
            return place

        decision = plan(commit, self._heads.version, stored, unseen)
        if isinstance(decision, Committed):
            # What was found has to be as durable as an answer of our own.
            await self._ask(self._log.confirm)
        return None if isinstance(decision, list) else decision

    async def _stream_conflict(self, commit: Commit) -> Conflict | None:
        """Return the conflict of a stream that is written, which counts before all guards."""
        first: dict[str, Expectation] = {
            write.stream: write.expected for write in reversed(commit.writes)
        }
        for stream, expected in first.items():
            head = (await self._read_stream(StreamQuery(stream, max_count=0))).version
            if not holds(expected, head):
                return Conflict(stream, expected, head)
        return None

    async def _race(self, planned: Sequence[_Planned]) -> None:
        """Claim the places, and note who has got theirs."""
        documents = [document for one in planned for document in one.documents]
        together = any(len(one.documents) > 1 for one in planned)
        self._claimed = planned
        within: Within | None = None
        if self._inline:
            await self._inline.prepare()
            within = self._inline.within(planned[0].commit, planned[0].outcome())
        try:
            claim = await self._claimer.claim(
                documents, together=together or within is not None, within=within
            )
        except InlineProjectionError as exc:
            self._end(planned[0].index, Failed(exc))
            return
        self._note_written(planned, claim.written)
        if claim.written == len(documents):
            return
        if claim.refusal is not None:
            refused = next(one for one in planned if claim.failed in one.documents)
            self._end(refused.index, Failed(translate(claim.refusal, self._log.name)))
            return
        await self._look_after(claim)

    async def _look_after(self, claim: Claim) -> None:
        """Learn who has won a race, or wait until that can be seen."""
        if self.is_unwanted:
            self._give_up("nobody waits for it any more")
        if self._races_lost:
            longest = min(0.001 * 2**self._races_lost, LONGEST_PAUSE)
            await sleep(random.uniform(0, longest))  # noqa: S311  # no secret depends on it
        before = self._heads.end
        await self._catch_up()
        if self._heads.end != before:
            self._races_lost += 1
            self._stand_still()
        elif claim.failed is not None and self._heads.get(claim.failed["stream"]) is None:
            self._existing.add(claim.failed["stream"])
        else:
            await self._wait(claim.obstacle)

    def _stand_still(self) -> None:
        """Begin to wait: something has moved, and may stand still from now on."""
        self._waited = 0.0
        self._backoff = Backoff(_FIRST_WAIT, _LONGEST_WAIT)

    async def _wait(self, why: str) -> None:
        """Wait for others before the next attempt; for too long, it is as if nobody answered."""
        if self._waited > self._patience:
            self._give_up(why)
        pause = self._backoff.next()
        self._waited += pause
        await sleep(pause)

    def _give_up(self, why: str) -> Never:
        message = f"{self._log.name}: {why}"
        raise ConnectionLostError(message)

    def _note_written(self, planned: Sequence[_Planned], count: int) -> None:
        """Note that so many documents, from the first on, are in the store."""
        documents = [document for one in planned for document in one.documents][:count]
        self._heads.follow(documents)
        if documents:
            self._stand_still()
        left = count
        for one in planned:
            left -= len(one.documents)
            if left < 0:
                return
            self._end(one.index, one.outcome())
            for document in one.documents:
                self._heads.learn(document["stream"], head_in(document))
                self._seen.add(document["stream"])


def _nothing_stored(_: str, __: int, ___: int) -> list[tuple[UUID, int, datetime]]:
    """Find no earlier try: that is looked up only when nothing else is left."""
    return []
