"""A store behind a socket passes the clauses about lost connections, and its mutants fail them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from conformance.tests.socket_store import (
    Disk,
    Refusal,
    Request,
    Server,
    SocketEngine,
    SocketHarness,
)

from eventport import (
    ConfigurationError,
    NotSupportedError,
    RecordedEvent,
    StoreUnavailableError,
)
from eventport.adapter import (
    AllPage,
    AllQuery,
    AnswerLostError,
    Commit,
    Committed,
    Conflict,
    ConnectionLostError,
    Failed,
    Outcome,
    Store,
    StreamPage,
    StreamQuery,
    Written,
)

from eventport_conformance.clause import Clause, all_clauses
from eventport_conformance.harness import Backend, Harness
from eventport_conformance.proof.noop_store import NoOpStore
from eventport_conformance.running import run_clause


CLAUSES = {one.id: one for one in all_clauses()}
FAULTS = {id_: one for id_, one in CLAUSES.items() if one.group == "FLT"}
QUICK = 8.0
"""How many seconds a clause may take on a store with a bug."""


@pytest.mark.parametrize("backend", SocketHarness.backends)
@pytest.mark.parametrize("one", FAULTS.values(), ids=lambda one: one.id)
def test_a_store_behind_a_socket_passes_each(one: Clause, backend: Backend) -> None:
    outcome = run_clause(SocketHarness, one, backend)
    assert outcome.result == "held", outcome.details


class RetriesBlindly(SocketEngine):
    """It writes again what was lost, without looking for it."""

    async def find(self, commits: Sequence[Commit], /) -> Sequence[Committed | None]:
        return [None for _ in commits]


class TakesTheEarlierForIt(SocketEngine):
    """It looks for a lost append among all events, those that were there before included."""

    def note(self, outcomes: Sequence[Outcome | None]) -> None:
        """Note nothing."""


class ConflictForALostAnswer(SocketEngine):
    """It finds its own events, and takes them for those of another writer."""

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        try:
            return await super().commit(batch)
        except AnswerLostError:
            write = batch[0].writes[0]
            page = await self.read_stream(StreamQuery(write.stream, max_count=0))
            return [Conflict(write.stream, write.expected, page.version) for _ in batch]


class AcknowledgesTheLost(SocketEngine):
    """It swallows the error, and acknowledges the append."""

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        try:
            return await super().commit(batch)
        except ConnectionLostError:
            return [await self.made_up(commit) for commit in batch]

    async def made_up(self, commit: Commit) -> Committed:
        written: list[Written] = []
        for write in commit.writes:
            page = await self.read_stream(StreamQuery(write.stream, max_count=0))
            head = write.expected if isinstance(write.expected, int) else page.version
            version = head + len(write.events)
            written.append(Written(version, [1] * len(write.events), version == len(write.events)))
        return Committed(written)


class NeverReconnects(SocketEngine):
    """It goes on with the connection that dropped."""

    async def forget(self) -> None:
        """Keep it."""


class EmptyForLost(SocketEngine):
    """It takes a lost answer to a read for one without events."""

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        try:
            return await super().read_stream(query)
        except ConnectionLostError:
            return StreamPage([], 0)


class LeaksTheDriver(SocketEngine):
    """It raises what the driver raises if the connection drops while it reads."""

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        try:
            return await super().read_stream(query)
        except ConnectionLostError as exc:
            raise exc.__cause__ or exc from None


class TornSessions(SocketEngine):
    """It writes the streams of a session one by one."""

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        return [await self.in_parts(commit) for commit in batch]

    async def in_parts(self, commit: Commit) -> Outcome:
        written: list[Written] = []
        for write in commit.writes:
            try:
                (outcome,) = await super().commit([Commit([write])])
            except ConnectionLostError as exc:
                raise StoreUnavailableError("the connection dropped") from exc
            if not isinstance(outcome, Committed):
                return outcome
            written += outcome.writes
        return Committed(written)


class SkipsAfterALoss(SocketEngine):
    """Its subscriptions go on at the end, when they had lost their connection."""

    async def read_all(self, query: AllQuery, /) -> AllPage:
        try:
            return await super().read_all(query)
        except ConnectionLostError:
            page = await super().read_all(query)
            return AllPage([], page.head, page.head)


class GivesUp(SocketEngine):
    """It leaves it to its caller to find out what became of an append."""

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        try:
            return await super().commit(batch)
        except ConnectionLostError as exc:
            raise StoreUnavailableError("the connection dropped") from exc


class TakesItsOwnForARetry(SocketEngine):
    """It finds its own events, and says that they had been there before."""

    async def find(self, commits: Sequence[Commit], /) -> Sequence[Committed | None]:
        return [
            None if one is None else Committed(one.writes, deduplicated=True)
            for one in await super().find(commits)
        ]


class EndsItsSubscriptions(SocketEngine):
    """Its subscriptions raise when the connection drops, instead of going on."""

    async def read_all(self, query: AllQuery, /) -> AllPage:
        try:
            return await super().read_all(query)
        except ConnectionLostError as exc:
            raise RuntimeError("the subscription has ended") from exc


class WaitsForEver(SocketEngine):
    """It keeps trying, and never gives up."""

    timeout = float("inf")


class Impatient(SocketEngine):
    """It takes a slow answer for a connection that dropped before anything was written."""

    async def ask(self, request: Request) -> Any:
        try:
            with anyio.fail_after(0.2):
                return await super().ask(request)
        except TimeoutError as exc:
            raise ConnectionLostError("no answer") from exc


class WritesLater(SocketEngine):
    """It reports an append as failed, keeps it, and writes it as soon as it can."""

    kept: Sequence[Commit] = ()

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        kept = self.kept
        try:
            answers = await super().commit([*kept, *batch])
        except ConnectionLostError as exc:
            self.kept = [*kept, *batch]
            raise StoreUnavailableError("the connection dropped") from exc
        self.kept = ()
        return answers[len(kept) :]


class NotFoundIfRefused(SocketEngine):
    """It takes a search that was refused for one that has found nothing."""

    async def find(self, commits: Sequence[Commit], /) -> Sequence[Committed | None]:
        try:
            return await super().find(commits)
        except ConfigurationError:
            return [None for _ in commits]


class RefusesWhatIsWritten(SocketEngine):
    """It takes a search that was refused for the refusal of the append."""

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        try:
            return await super().commit(batch)
        except AnswerLostError:
            while True:
                try:
                    found = await self.find(batch)
                except ConnectionLostError:
                    await anyio.sleep(0.01)
                else:
                    return [one or Failed(StoreUnavailableError("gone")) for one in found]


class RefusesForGood(SocketEngine):
    """It reports a server that takes no writes for now as one that cannot write."""

    def checked(self, answer: Any) -> Any:
        if isinstance(answer, Refusal) and answer.reason == "read-only":
            raise NotSupportedError("the server does not write")
        return super().checked(answer)


class EndsInSilence(SocketEngine):
    """It takes an answer that does not come in time for one that will never come."""

    is_dead = False

    async def read_all(self, query: AllQuery, /) -> AllPage:
        try:
            if not self.is_dead:
                return await super().read_all(query)
        except anyio.get_cancelled_exc_class():
            self.is_dead = True
        raise NotSupportedError("the server does not answer")


class RestartsItsReads(Store):
    """Its subscriptions read in the reader's own task, and begin again when it has given up."""

    @asynccontextmanager
    async def subscribe(self, **_: Any) -> AsyncGenerator[Any, None]:
        yield _Reader(self)


class _Reader:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.position = 0

    async def __anext__(self) -> RecordedEvent:
        while True:
            found = await self.store.read_all(after=self.position, max_count=1)
            self.position = found.position
            if found.events:
                return found.events[0]


class ForgetfulDisk(Disk):
    """It acknowledges before it has written, and loses the last commits when it dies."""

    def lose(self) -> None:
        for stored in self._log.events[-10:]:
            self._log.streams[stored.stream].remove(stored)
        del self._log.events[-10:]


class ForgetfulServer(Server):
    disk_class = ForgetfulDisk

    async def kill(self) -> None:
        await super().kill()
        assert isinstance(self.disk, ForgetfulDisk)
        self.disk.lose()


KILLED_BY: dict[type[SocketEngine | Store | Server], tuple[str, ...]] = {
    RetriesBlindly: ("FLT-03", "FLT-11"),
    TakesTheEarlierForIt: ("FLT-22",),
    ConflictForALostAnswer: ("FLT-01", "FLT-02", "FLT-05"),
    AcknowledgesTheLost: ("FLT-03", "FLT-04", "FLT-11"),
    NeverReconnects: ("FLT-02", "FLT-08"),
    EmptyForLost: ("FLT-07",),
    LeaksTheDriver: ("FLT-07", "FLT-09"),
    TornSessions: ("FLT-06",),
    SkipsAfterALoss: ("FLT-08",),
    EndsItsSubscriptions: ("FLT-08", "FLT-15"),
    GivesUp: ("FLT-14",),
    TakesItsOwnForARetry: ("FLT-14",),
    WaitsForEver: ("FLT-09", "FLT-17", "FLT-18"),
    NotFoundIfRefused: ("FLT-20",),
    RefusesWhatIsWritten: ("FLT-20",),
    RefusesForGood: ("FLT-21",),
    EndsInSilence: ("FLT-19",),
    Impatient: ("FLT-10",),
    WritesLater: ("FLT-09",),
    RestartsItsReads: ("FLT-16",),
    ForgetfulServer: ("FLT-12", "FLT-13"),
}


def harness_of(bug: type[SocketEngine | Store | Server]) -> type[Harness]:
    class BugHarness(SocketHarness):
        name = bug.__name__

    if issubclass(bug, Server):
        BugHarness.server_class = bug
    elif issubclass(bug, Store):
        BugHarness.store = bug
    else:
        BugHarness.engine = bug
    return BugHarness


@pytest.mark.parametrize(
    ("bug", "id_"),
    [(bug, id_) for bug, ids in KILLED_BY.items() for id_ in ids],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_mutant_is_killed(bug: type[SocketEngine | Store | Server], id_: str) -> None:
    outcome = run_clause(harness_of(bug), replace(FAULTS[id_], seconds=QUICK), "asyncio")
    assert outcome.result == "failed", f"{id_} does not see it"
    assert not outcome.reason.startswith(("AttributeError", "NameError", "TypeError"))


def test_each_clause_kills_a_mutant() -> None:
    assert {id_ for ids in KILLED_BY.values() for id_ in ids} == set(FAULTS)


@pytest.mark.parametrize("backend", SocketHarness.backends)
def test_of_a_batch_one_commit_is_refused(backend: Backend) -> None:
    outcome = run_clause(SocketHarness, CLAUSES["CON-16"], backend)
    assert outcome.result == "held", outcome.details


class NoOpHarness(SocketHarness):
    name = "noop"

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[NoOpStore, None]:
        yield NoOpStore()

    @asynccontextmanager
    async def open_at(self, host: str, port: int) -> AsyncGenerator[NoOpStore, None]:
        yield NoOpStore()


@pytest.mark.parametrize("one", FAULTS.values(), ids=lambda one: one.id)
def test_the_noop_store_fails(one: Clause) -> None:
    outcome = run_clause(NoOpHarness, replace(one, seconds=QUICK), "asyncio")
    assert outcome.result == "failed"
