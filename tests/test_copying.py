"""`copy_events` and `eventport copy`: whole, in order, again after an interruption, or refused."""

from __future__ import annotations

import json

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from msgspec.structs import replace
from tests.cli_files import Command, event_log, ndjson, start, stored
from tests.copies import fill, held

from eventport import Capability, CopiedEvent, EventStore, NewEvent, PayloadTooLargeError, placing
from eventport.adapter import AllPage, AllQuery, Commit, Outcome, Store, StreamPage, StreamQuery
from eventport.copying import CopyRefusedError, copy_events

from eventport_conformance.waiting import until_in_thread
from eventport_memory import MemoryEventStore
from eventport_memory.engine import MemoryEngine


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # all that aiosqlite can do


@asynccontextmanager
async def two_stores() -> AsyncGenerator[tuple[EventStore, EventStore]]:
    async with MemoryEventStore() as source, MemoryEventStore() as target:
        yield source, target


async def test_all_that_is_done_is_shown() -> None:
    shown: dict[tuple[str, int | None], int] = {}

    def show(what: str, events: int, total: int | None) -> None:
        shown[what, total] = shown.get((what, total), 0) + events

    async with two_stores() as (source, target):
        await source.append("a", [NewEvent("E", n) for n in range(5)])
        await copy_events(source, target, progress=show)
        assert shown == {("checking", None): 5, ("copying", 5): 5, ("verifying", 5): 5}
        shown.clear()
        await source.append("a", [NewEvent("E", 5)])
        await copy_events(source, target, progress=show)
        assert shown == {("checking", None): 6, ("copying", 1): 1, ("verifying", 6): 6}


@pytest.mark.parametrize("sessions", [True, False])
async def test_it_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch, sessions: bool) -> None:
    monkeypatch.setattr(placing, "MAX_BATCH_EVENTS", 10)
    engine = MemoryEngine()
    if not sessions:
        engine.capabilities -= {Capability.SESSIONS}
    async with MemoryEventStore() as source, Store(engine) as target:
        await fill(source, 95, 7, seed=1)
        all_of_them = await held(source)

        def stop(what: str, events: int, total: int | None) -> None:
            if what == "copying":
                raise InterruptedError

        for count in (10, 20, 30):
            with pytest.raises(InterruptedError):
                await copy_events(source, target, progress=stop)
            assert await held(target) == all_of_them[:count]
        report = await copy_events(source, target)
        assert (report.there, report.is_equal) == (30, True)
        assert await held(target) == all_of_them
        again = await copy_events(source, target)
        assert (again.copied, again.target_hash) == (0, report.target_hash)


async def test_a_resumed_copy_does_not_read_the_streams_of_the_target_again() -> None:
    reads: list[str] = []

    class Watched(MemoryEngine):
        async def read_stream(self, query: StreamQuery, /) -> StreamPage:
            reads.append(query.stream)
            return await super().read_stream(query)

    async with MemoryEventStore() as source, Store(Watched()) as target:
        await fill(source, 50, 20, seed=2)
        await copy_events(source, target)
        await source.append("new", [NewEvent("E", 1)])
        reads.clear()
        await copy_events(source, target)
        assert set(reads) == {"new"}


async def test_events_that_come_meanwhile_are_left_to_the_next_copy() -> None:
    async with two_stores() as (source, target):
        await source.append("a", [NewEvent("E", 1)])

        class Appending(MemoryEngine):
            async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
                await source.append("late", [NewEvent("E", 2)])
                return await super().commit(batch)

        async with Store(Appending()) as slow:
            report = await copy_events(source, slow)
        assert (report.copied, report.position, report.is_equal) == (1, 1, True)
        report = await copy_events(source, target)
        assert (report.copied, report.position) == (2, 2)


async def test_a_target_with_other_events_is_refused() -> None:
    async with two_stores() as (source, target):
        await source.append("a", [NewEvent("E", 1)])
        await target.append("mine", [NewEvent("E", 1)])
        with pytest.raises(CopyRefusedError, match="version 1 of stream 'mine' is not that of"):
            await copy_events(source, target)
        assert len(await held(target)) == 1


async def test_what_somebody_else_appends_to_the_target_meanwhile_is_not_overwritten() -> None:
    class Overtaken(MemoryEngine):
        async def read_all(self, query: AllQuery, /) -> AllPage:
            await target.append("a", [NewEvent("E", "other")])
            return await super().read_all(query)

    async with Store(Overtaken()) as source, MemoryEventStore() as target:
        await source.append("a", [NewEvent("E", 1)])
        with pytest.raises(CopyRefusedError, match="'a' cannot be copied: the target has another"):
            await copy_events(source, target)


async def test_a_truncated_stream_is_refused_before_anything_is_written() -> None:
    class Truncated(MemoryEngine):
        async def read_all(self, query: AllQuery, /) -> AllPage:
            page = await super().read_all(query)
            kept = [event for event in page.events if (event.stream, event.version) != ("cut", 1)]
            return replace(page, events=kept)

    async with Store(Truncated()) as source, MemoryEventStore() as target:
        await source.append("whole", [NewEvent("E", 1)])
        await source.append("cut", [NewEvent("E", 1), NewEvent("E", 2)])
        with pytest.raises(CopyRefusedError, match=r"stream 'cut' cannot be copied: .* version 2"):
            await copy_events(source, target)
        assert await held(target) == []


class Small(MemoryEngine):
    """Refuses commits of many bytes, as servers do."""

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        for commit in batch:
            if sum(len(event.data) for write in commit.writes for event in write.events) > 1_000:
                raise PayloadTooLargeError("too large")
        return await super().commit(batch)


@pytest.mark.parametrize("sessions", [True, False])
async def test_what_is_too_large_at_once_is_divided(sessions: bool) -> None:
    engine = Small()
    if not sessions:
        engine.capabilities -= {Capability.SESSIONS}
    async with MemoryEventStore() as source, Store(engine) as target:
        await source.append("a", [NewEvent("E", "x" * 100) for _ in range(40)])
        await source.append("b", [NewEvent("E", "x" * 100) for _ in range(40)])
        report = await copy_events(source, target)
        assert (report.copied, report.is_equal) == (80, True)
        await source.append("c", [NewEvent("E", 1), NewEvent("E", "x" * 2_000)])
        with pytest.raises(PayloadTooLargeError, match=r"^version 2 of stream 'c': too large"):
            await copy_events(source, target)
        assert len(await held(target)) == 81


async def test_checkpoints_are_left_out_and_may_be_in_the_target() -> None:
    checkpoints = "eventport/projection/cases/1"

    def checkpoint(position: int) -> NewEvent:
        return NewEvent("eventport.ProjectionCheckpoint", {"position": position})

    async with two_stores() as (source, target):
        for store in (source, target):
            await store.append(checkpoints, [checkpoint(7)])
        await source.append("a", [NewEvent("E", 1)])
        report = await copy_events(source, target)
        assert (report.copied, report.left_out, report.is_equal) == (1, 1, True)
        await target.append(checkpoints, [checkpoint(9)])
        assert (await copy_events(source, target)).there == 1


async def test_times_that_the_target_cannot_keep_are_reported() -> None:
    engine = MemoryEngine()
    engine.capabilities -= {Capability.TIMES}
    async with MemoryEventStore() as source, Store(engine) as target:
        await fill(source, 10, 2, seed=3)
        report = await copy_events(source, target)
        assert (report.times_kept, report.is_equal) == (False, True)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"data": {"a": 2}}, "data"),
        ({"data": b"{}"}, "data"),
        ({"metadata": {"by": "you"}}, "metadata"),
        ({"type": "F"}, "type"),
        ({"tags": frozenset({"t"})}, "tags"),
        ({"recorded_at": datetime(2020, 1, 1, tzinfo=UTC)}, "recorded_at"),
    ],
)
async def test_what_differs_is_named_without_the_data(change: dict[str, Any], part: str) -> None:
    event = CopiedEvent("E", {"a": 1}, recorded_at=datetime(2011, 1, 1, tzinfo=UTC))
    async with two_stores() as (source, target):
        await source.append("a", [event])
        await target.append("a", [replace(event, **change)])
        report = await copy_events(source, target)
    assert report.difference == f"version 1 of stream 'a' has another {part} in the target"
    assert report.source_hash != report.target_hash


async def test_another_order_is_a_difference() -> None:
    event = CopiedEvent("E", 1, recorded_at=datetime(2011, 1, 1, tzinfo=UTC))
    async with two_stores() as (source, target):
        for store, streams in ((source, "abc"), (target, "bac")):
            for stream in streams:
                await store.append(stream, [replace(event, id=UUID(int=ord(stream)))])
        report = await copy_events(source, target)
    wanted = "the target has version 1 of stream 'b' where the source has version 1 of stream 'a'"
    assert report.difference == wanted


def test_the_command_copies_and_keeps_a_report(eventport: Command, tmp_path: Path) -> None:
    (tmp_path / "log.ndjson").write_text(ndjson(event_log(300, 30)))
    eventport("import", "log.ndjson")
    copy = ("copy", "sqlite:///s.db", "sqlite:///t.db", "--report", "r.json")
    done = eventport(*copy)
    assert done.returncode == 0, done.stderr
    assert "300 events copied, 0 already there, 30 streams, up to position 300" in done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["is_equal"]
    assert report["source_hash"] == report["target_hash"]
    assert report["target"] == "sqlite:///t.db"
    exported = [eventport("export", "--store", f"sqlite:///{name}.db").stdout for name in "st"]
    assert exported[0] == exported[1]
    assert "0 events copied, 300 already there" in eventport(*copy).stderr


def test_a_killed_copy_is_run_again_and_ends_right(eventport: Command, tmp_path: Path) -> None:
    (tmp_path / "log.ndjson").write_text(ndjson(event_log(5_000, 900)))
    eventport("import", "log.ndjson", "--store", "sqlite:///source.db")
    copy = ("copy", "sqlite:///source.db", "sqlite:///s.db")
    process = start(tmp_path, *copy)
    until_in_thread(lambda: stored(tmp_path) > 0, "the command gets on")
    process.kill()
    process.communicate()
    there = stored(tmp_path)
    assert there % placing.MAX_BATCH_EVENTS == 0
    done = eventport(*copy)
    assert f"{5_000 - there} events copied, {there} already there" in done.stderr
    assert "both stores are equal" in done.stderr


def test_a_copy_that_differs_has_an_exit_code(eventport: Command, tmp_path: Path) -> None:
    line = {"stream": "a", "type": "E", "data": 1, "id": str(UUID(int=1))}
    for name, data in (("s", 1), ("t", 2)):
        text = ndjson([{**line, "data": data}])
        eventport("import", "-", "--store", f"sqlite:///{name}.db", stdin=text)
    done = eventport("copy", "sqlite:///s.db", "sqlite:///t.db")
    assert done.returncode == 3
    assert "the stores differ: version 1 of stream 'a' has another data" in done.stderr


def test_a_mistyped_source_creates_nothing(eventport: Command, tmp_path: Path) -> None:
    done = eventport("copy", "sqlite:///no.db", "sqlite:///t.db")
    assert done.returncode == 1
    assert "no.db" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "stores", [("memory://", "sqlite:///t.db"), ("sqlite:///s.db", "memory://")]
)
def test_memory_is_copied_by_programs(eventport: Command, stores: tuple[str, str]) -> None:
    done = eventport("copy", *stores)
    assert done.returncode == 2
    assert "eventport.copying.copy_events" in " ".join(done.stderr.split())
