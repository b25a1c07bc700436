"""`eventport import` and `export`: every event exactly once, in order, unharmed, or not at all."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import sqlite3
import subprocess
import sys

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import pytest

from eventport import Capability, ConcurrencyError, NewEvent
from eventport.adapter import Store, StreamPage, StreamQuery
from eventport.cli import importing
from eventport.cli.ndjson import parse

from eventport_conformance.waiting import until_in_thread
from eventport_memory import MemoryEventStore
from eventport_memory.engine import MemoryEngine
from eventport_sqlite import SQLiteEventStore


EVENTPORT = str(Path(sys.executable).with_name("eventport"))
SECONDS = 300
# Output that is not buffered would hide what happens to output that is.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

Command: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]
Line: TypeAlias = dict[str, Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # all that aiosqlite can do


@pytest.fixture
def eventport(tmp_path: Path) -> Command:
    """Run the real command in a directory of its own, with a store `s.db` by default."""

    def run(*args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [EVENTPORT, *args],
            cwd=tmp_path,
            env={**ENVIRONMENT, "EVENTPORT_URL": "sqlite:///s.db"},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return run


def start(tmp_path: Path, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [EVENTPORT, *args],
        cwd=tmp_path,
        env={**ENVIRONMENT, "EVENTPORT_URL": "sqlite:///s.db"},
        stderr=subprocess.PIPE,
    )


def event_log(events: int, streams: int) -> list[Line]:
    """Make what a business leaves behind: many streams, mixed with each other, all of JSON."""
    rng = random.Random(8577)
    kinds: list[Callable[[], Any]] = [
        lambda: {"org:group": f"Group {rng.randrange(9)}", "n": rng.randrange(-(2**63), 2**63)},
        lambda: {"€": "ßü\u0000\U0001f600", "": [], "a.b": {"$x": None}, "q": rng.random()},
        lambda: [1, 1.0, -0.0, 1e300, True, "x" * rng.randrange(200)],
        lambda: rng.choice([None, "", 0, {}, []]),
    ]
    lines: list[Line] = []
    for number in range(events):
        line: Line = {
            "stream": f"case-{number if number < streams else rng.randrange(streams)}",
            "type": rng.choice(["Receipt confirmed", "Checked", "Décidé"]),
        }
        if number % 100:
            line["data"] = rng.choice(kinds)()
        else:
            line["data_base64"] = "AP8Q" * rng.randrange(9)
        line["metadata"] = {"occurred_at": f"2011-01-01T{number % 24:02}:00"} if number % 3 else {}
        lines.append(line)
    rng.shuffle(lines)
    return lines


def ndjson(lines: Sequence[Line]) -> str:
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def without_ids(text: str) -> list[Line]:
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        del line["id"], line["version"], line["recorded_at"]
    return lines


def stored(tmp_path: Path) -> int:
    """Count what is in the store at this moment, past eventport."""
    if not (tmp_path / "s.db").exists():
        return 0
    db = sqlite3.connect(tmp_path / "s.db")
    try:
        count: int = db.execute("SELECT count(*) FROM eventport_events").fetchone()[0]
    except sqlite3.OperationalError:  # there is no table yet, or it is just being made
        return 0
    finally:
        db.close()
    return count


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
    assert interrupted % importing.MAX_BATCH_EVENTS == 0
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


ID = "6d1c3b1e-5a66-4d7e-9e7b-0a4f7c9a2f11"
BAD_LINES = {
    '{"stream":"a","type":"t"}': "needs either `data` or `data_base64`",
    '{"stream":"a","type":"t","data":1,"data_base64":""}': "needs either `data` or `data_base64`",
    '{"stream":"a","type":"t","data_base64":"A-_8"}': "Invalid base64 encoded string",
    '{"stream":"a","type":"t","data_base64":1}': ".data_base64",
    '{"stream":"a","type":"t","data":1,"extra":1}': "unknown field `extra`",
    '{"stream":"a","type":"t","data":1,"version":7}': "goes from version 2 to 7",
    '{"type":"t","data":1}': "missing required field `stream`",
    '{"stream":"a","data":1}': "missing required field `type`",
    '{"stream":7,"type":"t","data":1}': "Expected `str`, got `int` at .stream",
    '{"stream":"","type":"t","data":1}': "stream name is empty",
    '{"stream":"$a","type":"t","data":1}': "reserved",
    '{"stream":"a\\u0007","type":"t","data":1}': "control character",
    '{"stream":"%s","type":"t","data":1}' % ("é" * 251): "502 UTF-8 bytes",
    '{"stream":"a","type":"","data":1}': "event type is empty",
    '{"stream":"a","type":"t","data":1,"metadata":[]}': "Expected `object`, got `array`",
    '{"stream":"a","type":"t","data":1,"metadata":null}': "Expected `object`, got `null`",
    '{"stream":"a","type":"t","data":1,"id":"x"}': "Invalid UUID",
    '{"stream":"a","type":"t","data":NaN}': "malformed",
    '{"stream":"a","type":"t","data":1e999}': "out of range",
    '{"stream":"a","type":"t","data":9223372036854775808}': "beyond int64",
    '{"stream":"a","type":"t","data":{"\\u0000":1}}': "U+0000",
    '{"stream":"a","type":"t","data":"\\ud800"}': "",
    '{"stream":"a","type":"t","data":%s}' % ("[" * 65 + "]" * 65): "nested deeper",
    '{"stream":"a","type":"t","data":%s}' % ("[" * 9999): "",
    '[{"stream":"a","type":"t","data":1}]': "Expected `object`, got `array`",
    '{"stream":"a","type":"t","data":1} {}': "trailing characters",
    '{"stream":"a","type":"t","da': "malformed",
    "nonsense": "malformed",
    "\ufeff{}": "malformed",
}


@pytest.mark.parametrize(("bad", "reason"), BAD_LINES.items(), ids=range(len(BAD_LINES)))
def test_a_bad_line_is_named_by_its_number_and_reason(bad: str, reason: str) -> None:
    good = '{"stream":"a","type":"t","data":1}\n'
    file = BytesIO(f"{good}\n{good}{bad}\n{good}".encode())
    with pytest.raises(ValueError, match=r"^line 4: .") as caught:
        importing.check_all(file, lambda _: None)
    assert reason in str(caught.value)


@pytest.mark.parametrize("source", ["-", "bad.ndjson"])
def test_nothing_is_written_of_a_file_with_a_bad_line(
    eventport: Command, tmp_path: Path, source: str
) -> None:
    text = ndjson([*event_log(3000, 30), {"stream": "a", "type": "t"}])
    (tmp_path / "bad.ndjson").write_text(text)
    refused = eventport("import", source, stdin=text)
    assert refused.returncode == 1
    assert refused.stderr == "eventport: line 3001: needs either `data` or `data_base64`\n"
    assert not (tmp_path / "s.db").exists()


def test_a_line_that_is_not_utf_8_is_named() -> None:
    file = BytesIO(b'{"stream":"a","type":"t","data":"\xff"}')
    with pytest.raises(ValueError, match=r"^line 1: .*utf-8"):
        importing.check_all(file, lambda _: None)


def test_the_id_of_a_line_never_changes() -> None:
    """A release that derived other ids would take events it has imported for foreign ones."""
    lines = (
        b'{"stream":"a","type":"t","data":{"x":1.0}}\n'
        b'{ "data": {"x": 1.0}, "metadata": {}, "type": "t", "stream": "a" }\n'
        b'{"stream":"a","type":"t","data_base64":"AP8="}\n'
        b'{"stream":"a","type":"t","data":1,"id":"%b"}\n' % ID.encode()
    )
    ids = [str(parsed.event.id) for parsed in parse(BytesIO(lines), len(lines))]
    assert ids == [
        "a4b46394-cc51-5c4e-965d-c3c700e0d125",
        "047ac001-a202-5dae-a6f5-bf8520d8d885",  # the same line again, as the stream's second
        "36bfd83d-f6bc-5d5d-91e7-9065dcfb3969",
        ID,
    ]


def test_equal_lines_are_different_events(eventport: Command, tmp_path: Path) -> None:
    assert (
        "3 events written"
        in eventport(
            "import", "-", stdin=ndjson([{"stream": "a", "type": "t", "data": 1}] * 3)
        ).stderr
    )
    assert stored(tmp_path) == 3


def test_tags_come_out_as_they_went_in(eventport: Command, tmp_path: Path) -> None:
    old = {"recorded_at": "2026-01-01T00:00:00Z", "metadata": {}, "version": 1}
    lines: list[Line] = [
        {"stream": "a", "type": "T", "data": 1, "tags": ["course:1", "é"]},
        {"stream": "b", "type": "T", "data": 1, "tags": ["x"], **old},
    ]
    (tmp_path / "in").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert eventport("import", "in").returncode == 0
    exported = eventport("export", "out")
    assert exported.returncode == 0, exported.stderr
    found = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [line["tags"] for line in found] == [["course:1", "é"], ["x"]]


def test_ids_are_kept_even_if_a_stream_has_one_twice(eventport: Command) -> None:
    lines = [{"stream": "a", "type": "t", "data": data, "id": ID} for data in (1, 2)]
    assert "2 events written" in eventport("import", "-", stdin=ndjson(lines)).stderr
    assert "0 events written" in eventport("import", "-", stdin=ndjson(lines)).stderr
    assert [json.loads(line)["id"] for line in eventport("export").stdout.splitlines()] == [ID, ID]


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


def test_export_selects(eventport: Command) -> None:
    lines = [
        {"stream": stream, "type": type_, "data": number}
        for number, (stream, type_) in enumerate(
            [("order-1", "A"), ("order-1", "B"), ("cart-1", "A"), ("order-2", "C")]
        )
    ]
    eventport("import", "-", stdin=ndjson(lines))

    def chosen(*args: str) -> list[int]:
        return [line["data"] for line in without_ids(eventport("export", *args).stdout)]

    assert chosen() == [0, 1, 2, 3]
    assert chosen("-", "--prefix", "order-") == [0, 1, 3]
    assert chosen("--type", "A", "--type", "C") == [0, 2, 3]
    assert chosen("--after", "2") == [2, 3]
    assert chosen("--after", "1", "--prefix", "order-", "--type", "C") == [3]
    assert chosen("--type", "D") == []


def test_a_killed_export_leaves_the_old_file_alone(eventport: Command, tmp_path: Path) -> None:
    eventport("import", "-", stdin=ndjson(event_log(30_000, 300)))
    old = tmp_path / "out.ndjson"
    old.write_text("old\n")
    process = start(tmp_path, "export", "out.ndjson")
    until_in_thread(lambda: bool(list(tmp_path.glob(".out.ndjson.*"))), "the command gets on")
    process.kill()
    process.communicate()
    assert old.read_text() == "old\n"


def test_an_export_that_fails_half_way_leaves_nothing(eventport: Command, tmp_path: Path) -> None:
    eventport("import", "-", stdin=ndjson(event_log(2_000, 20)))
    db = sqlite3.connect(tmp_path / "s.db")
    db.execute("UPDATE eventport_events SET data = '{' WHERE position = 1999")
    db.commit()
    db.close()
    before = sorted(path.name for path in tmp_path.iterdir())
    failed = eventport("export", "out.ndjson")
    assert failed.returncode == 1
    assert "does not hold JSON" in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_export_keeps_the_mode_of_the_file_and_follows_links(
    eventport: Command, tmp_path: Path
) -> None:
    eventport("import", "-", stdin=ndjson(event_log(3, 1)))
    real, link = tmp_path / "real", tmp_path / "link"
    real.touch(mode=0o600)
    link.symlink_to(real)
    assert eventport("export", "link").returncode == 0
    assert link.is_symlink()
    assert len(real.read_text().splitlines()) == 3
    assert real.stat().st_mode & 0o777 == 0o600


def test_export_writes_into_a_pipe_and_does_not_take_its_place(
    eventport: Command, tmp_path: Path
) -> None:
    eventport("import", "-", stdin=ndjson(event_log(3, 1)))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start(tmp_path, "export", "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # so that a failure does not hang here
    assert process.wait(SECONDS) == 0
    assert os.read(reader, 1 << 16).count(b"\n") == 3
    os.close(reader)
    assert pipe.is_fifo()
    assert process.communicate()[1].startswith(b"eventport: 3 events")


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
        await store.append("a", [NewEvent("t", 1, {}, UUID(ID))])
    refused = eventport("import", "-", stdin=ndjson([{"stream": "a", "type": "t", "data": 1}]))
    assert "line 1: stream 'a' holds another event at version 1" in refused.stderr
