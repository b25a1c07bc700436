"""`eventport import` and `export`: every event exactly once, in order, unharmed, or not at all."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess

from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest

from tests.cli_files import (
    ENVIRONMENT,
    EVENTPORT,
    SECONDS,
    Command,
    Line,
    event_log,
    ndjson,
    start,
    stored,
    without_ids,
)

from eventport import Capability, ConcurrencyError, NewEvent, placing
from eventport.adapter import Store, StreamPage, StreamQuery
from eventport.cli import importing
from eventport.cli.ndjson import parse

from eventport_conformance.waiting import until_in_thread
from eventport_memory import MemoryEventStore
from eventport_memory.engine import MemoryEngine
from eventport_sqlite import SQLiteEventStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # all that aiosqlite can do


def test_a_log_of_real_size_comes_out_as_it_went_in(eventport: Command, tmp_path: Path) -> None:
    log = event_log(8577, 1434)
    (tmp_path / "log.ndjson").write_text(ndjson(log))

    first = eventport("import", "log.ndjson")
    assert first.stderr == "eventport: 8577 events written, 0 already there, 1434 streams\n"
    assert (first.returncode, first.stdout) == (0, "")

    again = eventport("import", "log.ndjson")
    assert again.stderr == "eventport: 0 events written, 8577 already there, 1434 streams\n"

    exported = eventport("export", "out.ndjson")
    assert "8577 events exported; --after 8577 " in exported.stderr
    text = (tmp_path / "out.ndjson").read_text()
    # repr tells 1 from 1.0 and True, and shows the order of keys.
    assert repr(without_ids(text)) == repr(
        [
            {
                key: line[key]
                for key in ("stream", "type", "data", "data_base64", "metadata")
                if key in line
            }
            for line in log
        ]
    )

    other = eventport("import", "out.ndjson", "--store", "sqlite:///other.db")
    assert "8577 events written" in other.stderr
    copy = eventport("export", "--store", "sqlite:///other.db").stdout
    assert copy == text  # times included


async def test_an_import_says_so_if_the_store_stamps_events_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dated = {"stream": "s", "type": "E", "data": 1, "recorded_at": "2020-02-29T12:00:00.000001Z"}
    file = BytesIO(ndjson([dated, {"stream": "s", "type": "E", "data": 2}]).encode())
    source = importing.check_all(file, lambda _: None)
    async with MemoryEventStore() as keeps:
        assert await importing.write(keeps, source, lambda _: None) == (2, 0)
        first, second = (await keeps.read("s")).events
    assert first.recorded_at == datetime(2020, 2, 29, 12, 0, 0, 1, UTC)
    assert second.recorded_at > first.recorded_at
    monkeypatch.setattr(MemoryEngine, "capabilities", frozenset({Capability.SESSIONS}))
    async with MemoryEventStore() as stamps:
        assert await importing.write(stamps, source, lambda _: None) == (2, 1)
        assert await importing.write(stamps, source, lambda _: None) == (0, 0)


def test_import_leaves_out_what_holds_positions_of_another_store(eventport: Command) -> None:
    streams = (
        "order-1",
        "eventport/projection/orders",
        "eventport/projection/orders/1",
        "eventport/dead-letters/orders/1",
        "eventport/command/1",
    )
    lines = [
        json.dumps({"stream": name, "type": "eventport.T", "data": {}}) + "\n" for name in streams
    ]
    done = eventport("import", "-", stdin="".join(lines))
    assert done.returncode == 0
    assert "2 events written" in done.stderr
    assert "3 events left out" in done.stderr
    shown = eventport("export").stdout.splitlines()
    assert [json.loads(line)["stream"] for line in shown] == ["order-1", "eventport/command/1"]


def test_import_refuses_a_programs_event_in_a_stream_of_the_toolkit(eventport: Command) -> None:
    lines = [
        json.dumps({"stream": name, "type": "T", "data": {}}) + "\n"
        for name in ("order-1", "eventport/key/email/ada")
    ]
    done = eventport("import", "-", stdin="".join(lines))
    assert done.returncode == 1
    assert "line 2: stream 'eventport/key/email/ada'" in done.stderr
    assert not eventport("export").stdout


def test_import_reads_standard_input(eventport: Command) -> None:
    log = event_log(50, 5)
    piped = eventport("import", "-", stdin=ndjson(log))
    assert "50 events written" in piped.stderr
    assert without_ids(eventport("export").stdout)[-1]["stream"] == log[-1]["stream"]


def test_a_file_that_has_grown_is_imported_from_where_it_was(
    eventport: Command, tmp_path: Path
) -> None:
    log = event_log(2500, 40)
    file = tmp_path / "log.ndjson"
    file.write_text(ndjson(log[:1700]))
    eventport("import", "log.ndjson")
    file.write_text(ndjson(log))
    grown = eventport("import", "log.ndjson")
    assert "800 events written, 1700 already there" in grown.stderr
    assert [line["stream"] for line in without_ids(eventport("export").stdout)] == [
        line["stream"] for line in log
    ]


def test_a_killed_import_leaves_whole_batches_and_can_be_run_again(
    eventport: Command, tmp_path: Path
) -> None:
    log = event_log(30_000, 300)
    (tmp_path / "log.ndjson").write_text(ndjson(log))
    process = start(tmp_path, "import", "log.ndjson")
    until_in_thread(lambda: stored(tmp_path) > 0, "the command gets on")
    process.kill()
    process.communicate()

    interrupted = stored(tmp_path)
    assert 0 < interrupted < len(log)
    assert interrupted % placing.MAX_BATCH_EVENTS == 0
    again = eventport("import", "log.ndjson")
    assert f"{len(log) - interrupted} events written, {interrupted} already there" in again.stderr
    assert [line["stream"] for line in without_ids(eventport("export").stdout)] == [
        line["stream"] for line in log
    ]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_an_import_between_two_batches(eventport: Command, tmp_path: Path) -> None:
    (tmp_path / "log.ndjson").write_text(ndjson(event_log(30_000, 300)))
    process = start(tmp_path, "import", "log.ndjson")
    until_in_thread(lambda: stored(tmp_path) > 0, "the command gets on")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (
        130,
        b"eventport: stopped by Ctrl-C; run it again, and it writes what is not there yet\n",
    )
    assert 0 < stored(tmp_path) < 30_000
    assert eventport("import", "log.ndjson").returncode == 0
    assert stored(tmp_path) == 30_000


def test_two_imports_of_one_file_at_the_same_time_write_each_event_once(tmp_path: Path) -> None:
    (tmp_path / "log.ndjson").write_text(ndjson(event_log(5_000, 50)))
    rivals = [start(tmp_path, "import", "log.ndjson") for _ in range(2)]
    reports = [rival.communicate(timeout=SECONDS)[1].decode() for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0, 0], reports
    assert stored(tmp_path) == 5_000


def test_what_the_application_appended_after_an_import_is_left_alone(
    eventport: Command, tmp_path: Path
) -> None:
    (tmp_path / "log.ndjson").write_text(ndjson([{"stream": "a", "type": "t", "data": 1}]))
    eventport("import", "log.ndjson")
    longer = [{"stream": "a", "type": "t", "data": data} for data in (1, 2)]
    eventport("import", "-", stdin=ndjson(longer))
    again = eventport("import", "log.ndjson")
    assert "0 events written, 1 already there" in again.stderr
    assert stored(tmp_path) == 2


def test_the_first_line_whose_stream_holds_other_events_is_named(
    eventport: Command, tmp_path: Path
) -> None:
    there: list[Line] = [
        {"stream": "b", "type": "t", "data": 1},
        {"stream": "b", "type": "t", "data": 2},
        {"stream": "c", "type": "t", "data": 1},
    ]
    lines: list[Line] = [
        {"stream": "a", "type": "t", "data": 1},
        {"stream": "b", "type": "t", "data": 1},
        {"stream": "c", "type": "t", "data": "other"},
        {"stream": "b", "type": "t", "data": "other"},
    ]
    eventport("import", "-", stdin=ndjson(there))
    refused = eventport("import", "-", stdin=ndjson(lines))
    assert refused.returncode == 1
    assert refused.stderr == (
        "eventport: line 3: stream 'c' holds another event at version 1; "
        "neither this line nor any after it was written\n"
    )
    assert stored(tmp_path) == 3


@pytest.mark.parametrize("command", ["export", "read a", "tail", "tail --after 1"])
def test_commands_that_read_create_nothing(
    eventport: Command, tmp_path: Path, command: str
) -> None:
    """A mistyped name is an error, and not an empty backup."""
    done = eventport(*command.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("eventport: s.db does not exist or is empty: check the name")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_imports_nothing(eventport: Command, tmp_path: Path) -> None:
    nothing = eventport("import", "-", stdin="\n \n")
    assert nothing.stderr == "eventport: 0 events written, 0 already there, 0 streams\n"
    assert nothing.returncode == 0


class WithoutSessions(Store):
    """A store that writes one stream at a time."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.GLOBAL_ORDER})


async def test_without_sessions_the_order_is_that_of_the_file_as_well() -> None:
    log = event_log(500, 7)
    file = BytesIO(ndjson(log).encode())
    source = importing.check_all(file, lambda _: None)
    async with WithoutSessions(MemoryEngine()) as store:
        assert (await importing.write(store, source, lambda _: None)).written == 500
        assert (await importing.write(store, source, lambda _: None)).written == 0
        events = (await store.read_all(max_count=1000)).events
    assert [event.stream for event in events] == [line["stream"] for line in log]


class Overtaken(MemoryEngine):
    """An engine on which another store appends an event right after the first read."""

    def __init__(self, other: NewEvent) -> None:
        super().__init__()
        self._other: NewEvent | None = other

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        page = await super().read_stream(query)
        if self._other is not None:
            other, self._other = self._other, None
            await Store(self).append(query.stream, [other])
        return page


LINE = b'{"stream":"a","type":"t","data":1}\n'


@pytest.mark.parametrize("sessions", [True, False])
async def test_an_import_that_is_overtaken_by_another_of_the_same_file_goes_on(
    *, sessions: bool
) -> None:
    source = importing.check_all(BytesIO(LINE), lambda _: None)
    same = next(parse(BytesIO(LINE), len(LINE))).event
    async with (Store if sessions else WithoutSessions)(Overtaken(same)) as store:
        await importing.write(store, source, lambda _: None)
        assert (await store.read("a")).version == 1


async def test_an_import_that_is_overtaken_by_other_events_stops() -> None:
    source = importing.check_all(BytesIO(LINE), lambda _: None)
    async with Store(Overtaken(NewEvent("other", 1))) as store:
        with pytest.raises(importing.ImportConflictError, match="line 1"):
            await importing.write(store, source, lambda _: None)
    async with WithoutSessions(Overtaken(NewEvent("other", 1))) as store:
        with pytest.raises(ConcurrencyError):
            await importing.write(store, source, lambda _: None)
        assert [event.type for event in (await store.read("a")).events] == ["other"]


async def test_what_comes_while_a_file_is_imported_waits_for_the_next_time() -> None:
    file = BytesIO(LINE.rstrip())
    source = importing.check_all(file, lambda _: None)
    file.seek(0, os.SEEK_END)
    file.write(b', and then {"stream":"a","ty')
    async with MemoryEventStore() as store:
        assert (await importing.write(store, source, lambda _: None)).written == 1


async def test_a_file_is_read_from_where_it_stands() -> None:
    """A shell script may have read the first lines of its standard input."""
    file = BytesIO(b"a heading\n" + LINE)
    file.readline()
    source = importing.check_all(file, lambda _: None)
    async with MemoryEventStore() as store:
        assert (await importing.write(store, source, lambda _: None)).written == 1


async def test_a_batch_ends_before_it_is_too_large() -> None:
    """No two of these lines fit into one, and the last does not even fit alone."""
    sizes = [3, 3, 3, 5]
    lines = [{"stream": f"s{i}", "type": "t", "data": "x" * (n << 20)} for i, n in enumerate(sizes)]
    source = importing.check_all(BytesIO(ndjson(lines).encode()), lambda _: None)
    steps: list[int] = []
    async with MemoryEventStore() as store:
        await importing.write(store, source, steps.append)
    assert steps == [1, 1, 1, 1]


def test_progress_is_shown_on_a_terminal_only(eventport: Command, tmp_path: Path) -> None:
    (tmp_path / "log.ndjson").write_text(ndjson(event_log(100, 5)))
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        [EVENTPORT, "import", "log.ndjson", "--store", "sqlite:///p.db"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "TERM": "xterm"},
        stderr=inner,
    )
    os.close(inner)
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:  # how a terminal ends on Linux
        pass
    os.close(terminal)
    assert process.wait(SECONDS) == 0
    assert b"checking" in shown
    assert b"100/100" in shown
    assert "importing" not in eventport("import", "log.ndjson").stderr


async def test_a_stream_that_lost_events_is_a_conflict(eventport: Command, tmp_path: Path) -> None:
    """The file goes on at a version that the store has not reached."""
    async with await SQLiteEventStore.open(tmp_path / "s.db") as store:
        await store.append("a", [NewEvent("t", 1)])
    refused = eventport("import", "-", stdin=ndjson([{"stream": "a", "type": "t", "data": 1}]))
    assert "line 1: stream 'a' holds another event at version 1" in refused.stderr
