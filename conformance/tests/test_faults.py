"""The clauses about lost connections hold of a store behind a socket, and find what is wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from conformance.tests.socket_store import (
    LOST,
    Engine,
    Page,
    Read,
    ReadAll,
    Request,
    Server,
    SocketHarness,
    SocketStore,
    Write,
)
from msgspec import structs

from eventport import StoreUnavailableError
from eventport.adapter import AllPage, Commit, Committed, Conflict, Outcome, StreamPage, Written

from eventport_conformance.clause import Clause, all_clauses
from eventport_conformance.harness import Backend, Harness
from eventport_conformance.proof.nothing import NothingStore
from eventport_conformance.running import run_clause


FAULTS = {one.id: one for one in all_clauses() if one.group == "FLT"}
QUICK = 8.0
"""How many seconds a clause may take on a store with a bug."""


@pytest.mark.parametrize("backend", SocketHarness.backends)
@pytest.mark.parametrize("one", FAULTS.values(), ids=lambda one: one.id)
def test_each_holds_of_a_store_behind_a_socket(one: Clause, backend: Backend) -> None:
    outcome = run_clause(SocketHarness, one, backend)
    assert outcome.result == "held", outcome.details


class RetriesBlindly(SocketStore):
    """It sends again what was lost, without asking whether it is there."""

    def again(self, request: Write) -> Write:
        return request


class ConflictForALostAnswer(SocketStore):
    """It finds its own events, and takes them for those of somebody else."""

    async def write(self, commits: Sequence[Commit]) -> list[Outcome]:
        try:
            answers: list[Outcome] = await self.ask(Write(list(commits), again=False))
        except LOST:
            write = commits[0].writes[0]
            page = await self._read_stream(write.stream, 1, 1, 0, backwards=False)
            conflict = Conflict(write.stream, write.expected, page.version)
            return [conflict for _ in commits]
        return answers


class AcknowledgesTheLost(SocketStore):
    """It swallows the error, and says that all is well."""

    async def write(self, commits: Sequence[Commit]) -> list[Outcome]:
        try:
            answers: list[Outcome] = await self.ask(Write(list(commits), again=False))
        except LOST:
            return [await self.made_up(commit) for commit in commits]
        return answers

    async def made_up(self, commit: Commit) -> Committed:
        found = await self._read_all(0, 1, None, None)
        written: list[Written] = []
        for write in commit.writes:
            page = await self._read_stream(write.stream, 1, 1, 0, backwards=False)
            head = write.expected if isinstance(write.expected, int) else page.version
            version = head + len(write.events)
            written.append(Written(version, [1] * len(write.events), version == len(write.events)))
        return Committed(written, found.events[0].recorded_at)


class NeverReconnects(SocketStore):
    """It goes on with the connection that was lost."""

    async def forget(self) -> None:
        """Keep it."""


class EmptyForLost(SocketStore):
    """It takes a lost answer to a read for one without events."""

    async def ask_on(self, request: Request) -> Any:
        try:
            return await super().ask(request)
        except LOST:
            if isinstance(request, Read):
                return Page([], 0, 0)
            return await super().ask_on(request)


class LeaksTheDriver(SocketStore):
    """It raises what the driver raises if the line is lost while it reads."""

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        page = await self.ask(Read(stream, first, last, max_count, backwards))
        return StreamPage(page.events, page.head)


class TornSessions(SocketStore):
    """It writes the streams of a session one by one."""

    async def write(self, commits: Sequence[Commit]) -> list[Outcome]:
        parts = [Commit([write]) for commit in commits for write in commit.writes]
        found = [await super(TornSessions, self).write([part]) for part in parts]
        done = [one for outcome in found for one in outcome if isinstance(one, Committed)]
        if len(done) < len(parts):
            return [one for outcome in found for one in outcome][: len(commits)]
        rest = iter(done)
        return [
            Committed([next(rest).writes[0] for _ in commit.writes], done[0].recorded_at)
            for commit in commits
        ]

    async def ask_on(self, request: Request) -> Any:
        if not isinstance(request, Write):
            return await super().ask_on(request)
        try:
            return await self.ask(request)
        except LOST as exc:
            raise StoreUnavailableError("the line was cut") from exc


class SkipsAfterACut(SocketStore):
    """Its subscriptions go on at the end, when they had lost their connection."""

    async def _read_all(
        self, after: int, max_count: int, types: frozenset[str] | None, prefix: str | None
    ) -> AllPage:
        try:
            page = await self.ask(ReadAll(after, max_count, None, None))
        except LOST:
            page = await super().ask_on(ReadAll(after, max_count, None, None))
            return AllPage([], page.head, page.head)
        return AllPage(page.events, page.position, page.head)


class GivesUp(SocketStore):
    """It leaves it to its caller to find out what became of an append."""

    async def write(self, commits: Sequence[Commit]) -> list[Outcome]:
        try:
            answers: list[Outcome] = await self.ask(Write(list(commits), again=False))
        except LOST as exc:
            raise StoreUnavailableError("the line was cut") from exc
        return answers


class TakesItsOwnForARetry(SocketStore):
    """It finds its own events, and says that they had been there before."""

    async def write(self, commits: Sequence[Commit]) -> list[Outcome]:
        try:
            answers: list[Outcome] = await self.ask(Write(list(commits), again=False))
        except LOST:
            answers = await self.ask_on(Write(list(commits), again=True))
            answers = [
                structs.replace(one, deduplicated=True) if isinstance(one, Committed) else one
                for one in answers
            ]
        return answers


class EndsItsSubscriptions(SocketStore):
    """Its subscriptions raise when the line is cut, instead of going on."""

    async def _read_all(
        self, after: int, max_count: int, types: frozenset[str] | None, prefix: str | None
    ) -> AllPage:
        try:
            page = await self.ask(ReadAll(after, max_count, None, None))
        except LOST as exc:
            raise RuntimeError("the subscription has ended") from exc
        return AllPage(page.events, page.position, page.head)


class WaitsForEver(SocketStore):
    """It tries again and again, and never gives up."""

    async def ask_on(self, request: Request) -> Any:
        while True:
            try:
                return await self.ask(request)
            except LOST:
                await anyio.sleep(0.05)
                if isinstance(request, Write):
                    request = self.again(request)


class Impatient(RetriesBlindly):
    """It takes a slow answer for a lost one."""

    async def ask(self, request: Request) -> Any:
        with anyio.fail_after(0.2):  # a TimeoutError is an OSError, as if the line were lost
            return await super().ask(request)


class WritesLater(SocketStore):
    """It reports an append as failed, keeps it, and writes it as soon as it can."""

    kept: Sequence[Commit] = ()

    async def write(self, commits: Sequence[Commit]) -> list[Outcome]:
        kept = self.kept
        try:
            answers: list[Outcome] = await self.ask_on(Write([*kept, *commits], again=bool(kept)))
        except StoreUnavailableError:
            self.kept = [*kept, *commits]
            raise
        self.kept = []
        return answers[len(kept) :]


class ForgetfulEngine(Engine):
    """It acknowledges before it has written, and loses the last commits when it dies."""

    def lose(self) -> None:
        for stored in self._log[-10:]:
            self._streams[stored.stream].remove(stored)
        del self._log[-10:]


class ForgetfulServer(Server):
    engine_class = ForgetfulEngine

    async def kill(self) -> None:
        await super().kill()
        assert isinstance(self.engine, ForgetfulEngine)
        self.engine.lose()


KILLED_BY: dict[type[SocketStore | Server], tuple[str, ...]] = {
    RetriesBlindly: ("FLT-03", "FLT-11"),
    ConflictForALostAnswer: ("FLT-01", "FLT-02", "FLT-05"),
    AcknowledgesTheLost: ("FLT-03", "FLT-04", "FLT-11"),
    NeverReconnects: ("FLT-01", "FLT-02", "FLT-07", "FLT-08", "FLT-09"),
    EmptyForLost: ("FLT-07",),
    LeaksTheDriver: ("FLT-07", "FLT-09"),
    TornSessions: ("FLT-06",),
    SkipsAfterACut: ("FLT-08",),
    EndsItsSubscriptions: ("FLT-08", "FLT-15"),
    GivesUp: ("FLT-14",),
    TakesItsOwnForARetry: ("FLT-14",),
    WaitsForEver: ("FLT-09",),
    Impatient: ("FLT-10",),
    WritesLater: ("FLT-09",),
    ForgetfulServer: ("FLT-12", "FLT-13"),
}


def harness_of(bug: type[SocketStore | Server]) -> type[Harness]:
    class BugHarness(SocketHarness):
        name = bug.__name__

    if issubclass(bug, Server):
        BugHarness.server_class = bug
    else:
        BugHarness.store = bug
    return BugHarness


@pytest.mark.parametrize(
    ("bug", "id_"),
    [(bug, id_) for bug, ids in KILLED_BY.items() for id_ in ids],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_planted_bug_is_found(bug: type[SocketStore | Server], id_: str) -> None:
    outcome = run_clause(harness_of(bug), replace(FAULTS[id_], seconds=QUICK), "asyncio")
    assert outcome.result == "failed", f"{id_} does not see it"
    assert not outcome.reason.startswith(("AttributeError", "NameError", "TypeError"))


def test_each_clause_finds_a_bug() -> None:
    assert {id_ for ids in KILLED_BY.values() for id_ in ids} == set(FAULTS)


class NothingHarness(SocketHarness):
    name = "nothing"

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[NothingStore, None]:
        yield NothingStore()

    @asynccontextmanager
    async def open_at(self, host: str, port: int) -> AsyncGenerator[NothingStore, None]:
        yield NothingStore()


@pytest.mark.parametrize("one", FAULTS.values(), ids=lambda one: one.id)
def test_none_is_true_of_a_store_that_does_nothing(one: Clause) -> None:
    outcome = run_clause(NothingHarness, replace(one, seconds=QUICK), "asyncio")
    assert outcome.result == "failed"
