"""`eventport read` and `tail`, on terminals and in pipes, and how the command line fails."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import IO, cast

import pytest

from anyio import fail_after, run_process
from tests.cli_files import ENVIRONMENT, EVENTPORT, SECONDS, Command

from eventport import NewEvent

from eventport_sqlite import SQLiteEventStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # all that aiosqlite can do


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[SQLiteEventStore]:
    """A store with five events in two streams, in the file that the commands use."""
    async with await SQLiteEventStore.open(tmp_path / "s.db") as store:
        for number in (1, 2, 3):
            await store.append("order-1", [NewEvent(f"T{number}", {"n": number})])
        await store.append(
            "cart-1",
            [NewEvent("T1", b"\0\xff"), NewEvent("T2", "\x9b[2J\u202e", {"by": "me"})],
        )
        yield store


@contextmanager
def tail(tmp_path: Path, *args: str) -> Generator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    process = subprocess.Popen(
        [EVENTPORT, "tail", *args],
        cwd=tmp_path,
        env={**ENVIRONMENT, "EVENTPORT_URL": "sqlite:///s.db"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = Timer(SECONDS, process.kill)  # so that a line that never comes fails the test
    deadline.start()
    try:
        yield process, cast("IO[bytes]", process.stdout)
    finally:
        deadline.cancel()
        process.kill()
        process.communicate()


def on_terminal(tmp_path: Path, *args: str) -> str:
    """Return what a person sees."""
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        [EVENTPORT, *args],
        cwd=tmp_path,
        env={**ENVIRONMENT, "EVENTPORT_URL": "sqlite:///s.db", "TERM": "dumb", "COLUMNS": "200"},
        stdout=inner,
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
    return shown.decode().replace("\r\n", "\n")


async def test_read_writes_all_that_is_known_into_a_pipe(
    eventport: Command, store: SQLiteEventStore
) -> None:
    lines = eventport("read", "cart-1").stdout.splitlines()
    events = (await store.read("cart-1")).events
    assert [json.loads(line) for line in lines] == [
        {
            "stream": "cart-1",
            "type": event.type,
            **({"data_base64": "AP8="} if event.version == 1 else {"data": event.data}),
            "metadata": event.metadata,
            "id": str(event.id),
            "version": event.version,
            "position": event.position,
            "recorded_at": event.recorded_at.isoformat().replace("+00:00", "Z"),
        }
        for event in events
    ]


async def test_read_shows_the_range_that_was_asked_for(
    eventport: Command, store: SQLiteEventStore
) -> None:

    def versions(*args: str) -> list[int]:
        result = eventport("read", "order-1", *args)
        assert (result.returncode, result.stderr) == (0, "")
        return [json.loads(line)["version"] for line in result.stdout.splitlines()]

    assert versions() == [1, 2, 3]
    assert versions("--from-version", "2") == [2, 3]
    assert versions("--to-version", "2") == [1, 2]
    assert versions("--backwards", "--max-count", "2") == [3, 2]
    assert versions("--max-count", "0") == []
    assert versions("--from-version", "9") == []


async def test_people_see_events_on_a_terminal(tmp_path: Path, store: SQLiteEventStore) -> None:
    shown = on_terminal(tmp_path, "read", "cart-1")
    assert "     4 cart-1 1 T1  20" in shown
    assert "       2 bytes: 00 ff\n" in shown
    # What a terminal would take for a command is shown, not done.
    assert r'       "\u009b[2J\u202e"  {"by":"me"}' in shown
    assert json.loads(on_terminal(tmp_path, "read", "cart-1", "--json").splitlines()[0])


@pytest.mark.usefixtures("store")
async def test_a_stream_that_does_not_exist_is_an_error(eventport: Command) -> None:
    missing = eventport("read", "order-9")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "eventport: there is no stream 'order-9'\n"


@pytest.mark.usefixtures("ctrl_c")
async def test_tail_shows_what_is_there_and_then_what_comes(
    tmp_path: Path, store: SQLiteEventStore
) -> None:
    with tail(tmp_path) as (process, lines):
        positions = [json.loads(lines.readline())["position"] for _ in range(5)]
        assert positions == [1, 2, 3, 4, 5]
        for number in range(3):
            await store.append("order-2", [NewEvent("New", number)])
            assert json.loads(lines.readline())["data"] == number
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=SECONDS)
        assert (process.returncode, rest, errors) == (0, b"", b"")


async def test_tail_selects(tmp_path: Path, store: SQLiteEventStore) -> None:
    chosen = ("--after", "1", "--prefix", "order-", "--type", "T1", "--type", "T3")
    with tail(tmp_path, *chosen) as (_, lines):
        assert json.loads(lines.readline())["position"] == 3
        await store.append("cart-1", [NewEvent("T1", None)])
        await store.append("order-1", [NewEvent("T2", None), NewEvent("T1", None)])
        assert json.loads(lines.readline())["position"] == 8


async def test_read_selects_by_types_and_tags(store: SQLiteEventStore, eventport: Command) -> None:
    await store.append(
        "order-1", [NewEvent("T1", 4, tags={"x", "y"}), NewEvent("T2", 5, tags={"x"})]
    )

    def positions(*args: str) -> list[int]:
        result = eventport("read", *args)
        assert (result.returncode, result.stderr) == (0, "")
        return [json.loads(line)["position"] for line in result.stdout.splitlines()]

    assert positions("order-1", "--type", "T1", "--type", "T3", "--max-count", "2") == [1, 3]
    assert positions("order-1", "--tag", "x", "--backwards") == [7, 6]
    assert positions("--type", "T1") == [1, 4, 6]
    assert positions("--type", "T1", "--tag", "x") == [6]
    assert positions("--tag", "x", "--backwards", "--max-count", "1") == [7]
    for wrong in ((), ("--tag", "x", "--from-version", "2"), ("--type", "T1", "--to-version", "2")):
        result = eventport("read", *wrong)
        assert result.returncode == 2
        assert "give --type or --tag" in result.stderr


async def test_tail_selects_by_tags(tmp_path: Path, store: SQLiteEventStore) -> None:
    with tail(tmp_path, "--after", "5", "--tag", "x", "--tag", "y") as (_, lines):
        both = NewEvent("T", None, tags={"x", "y", "z"})
        await store.append("order-1", [NewEvent("T", None, tags={"x"}), both])
        assert json.loads(lines.readline())["tags"] == ["x", "y", "z"]


async def test_tail_ends_without_a_word_when_nobody_reads_it(
    tmp_path: Path, store: SQLiteEventStore
) -> None:
    with tail(tmp_path, "--after", "4") as (process, lines):
        lines.readline()
        lines.close()
        await store.append("order-1", [NewEvent("T", None)])
        assert process.wait(SECONDS) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""


async def test_export_ends_without_a_word_when_nobody_reads_it(
    tmp_path: Path, store: SQLiteEventStore
) -> None:
    await store.append("many", [NewEvent("T", "x" * 300) for _ in range(500)])
    script = f"'{EVENTPORT}' export --store sqlite:///s.db | head -c 10; echo ${{PIPESTATUS[0]}}"
    with fail_after(SECONDS):
        done = await run_process(["bash", "-c", script], cwd=tmp_path, env=ENVIRONMENT)
    assert (done.stdout, done.stderr) == (b'{"stream":141\n', b"")


@pytest.mark.parametrize("args", [["export"], ["read", "order-1"]])
@pytest.mark.usefixtures("store")
async def test_output_that_cannot_be_written_is_an_error(tmp_path: Path, args: list[str]) -> None:
    script = f"'{EVENTPORT}' {' '.join(args)} --store sqlite:///s.db > /dev/full"
    with fail_after(SECONDS):
        done = await run_process(["bash", "-c", script], cwd=tmp_path, env=ENVIRONMENT, check=False)
    assert done.returncode == 1
    assert done.stderr == b"eventport: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["read", "a", "--store", "nope"], "no store named 'nope'"),
        (["tail", "--store", "mongdb://u:hunter2@h/db"], "did you mean 'mongodb'?"),
        (["tail", "--store", "mongodb:/u:hunter2@h/db"], "no store named 'mongodb:***@h/db'"),
        (["export", "--store", "sqlite://u:hunter2@h/s.db"], "names a host"),
        (["export", "--store", "sqlite:///s.db?synchronus=full"], "did you mean 'synchronous'?"),
        (["export", "--store", "sqlite:///."], "is a directory"),
        (["read", "$a"], "reserved"),
        (["read", "a\nb"], "control character"),
        (["tail", "--type", ""], "event type is empty"),
        (["import", "nope.ndjson"], "nope.ndjson: No such file or directory"),
        (["import", "no\nsuch file"], "no such file: No such file"),
        (["import", "."], "Is a directory"),
        (["export", "."], "Is a directory"),
        (["export", "nope/out.ndjson"], "nope: No such file or directory"),
    ],
)
async def test_an_error_is_one_line_without_traceback_or_password(
    eventport: Command, store: SQLiteEventStore, args: list[str], reason: str
) -> None:
    failed = eventport(*args)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("eventport: ")
    assert failed.stderr.count("\n") == 1
    assert reason in failed.stderr
    assert "hunter2" not in failed.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["nope"],
        ["read"],
        ["import"],
        ["export", "--after", "-1"],
        ["tail", "--after", "x"],
        ["read", "a", "--from-version", "0"],
        ["read", "a", "--nope"],
    ],
)
def test_a_wrong_usage_is_exit_code_2(eventport: Command, args: list[str]) -> None:
    wrong = eventport(*args)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Usage: eventport" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_the_version_is_that_of_the_distribution(eventport: Command) -> None:
    assert eventport("--version").stdout == "0.1.0\n"


def test_the_store_is_the_default_one(eventport: Command, tmp_path: Path) -> None:
    (tmp_path / "eventport.toml").write_text('[stores.default]\nurl = "sqlite:///from-file.db"\n')
    assert "from-file.db does not exist" in eventport("export", EVENTPORT_URL="").stderr
    assert "s.db does not exist" in eventport("export").stderr


def test_without_the_extra_it_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['{missing}'] = None; "
        "from eventport.cli import main; sys.exit(main())"
    )
    for missing in ("typer", "rich"):
        done = subprocess.run(
            [sys.executable, "-c", script.format(missing=missing)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "eventport: the command line needs an extra: python -m pip install 'eventport[cli]'\n"
        )


def test_the_library_does_without_the_extra() -> None:
    script = "import sys, eventport; print({'typer', 'rich'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert done.stdout == "set()\n"


def test_without_a_terminal_nothing_is_imported_for_one() -> None:
    """That would take a quarter of the start of each command in a script."""
    script = (
        "import sys; from eventport.cli import main; sys.argv[1:] = ['stores']\n"
        "try: main()\n"
        "finally: print('rich' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert "sqlite" in done.stdout
    assert done.stderr == "False\n"


def test_ctrl_c_before_the_command_begins_ends_it_without_a_word() -> None:
    """Python spends most of the start on imports, which Ctrl-C interrupts as well."""
    script = (
        "import builtins, sys; original = builtins.__import__\n"
        "def interrupted(name, *args):\n"
        "    if name == 'typer': raise KeyboardInterrupt\n"
        "    return original(name, *args)\n"
        "builtins.__import__ = interrupted\n"
        "from eventport.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (130, b"")
