"""`verify` finds what is wrong with a store, and nothing where all is well."""

from __future__ import annotations

import json
import sqlite3

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import anyio
import pytest

from typer.testing import CliRunner

from eventport import EventStore, NewEvent, run_in_session
from eventport.cli.app import app
from eventport.folding import Fold
from eventport.keys import UniqueKeys
from eventport.projections import ProjectionId, StreamCheckpoints
from eventport.snapshots import Snapshots, StreamSnapshotStore
from eventport.typed import EventTypes
from eventport.verification import Replayed, verify

from eventport_sqlite import SQLiteEventStore


@dataclass(frozen=True)
class Added:
    n: int


TYPES = EventTypes(Added)
FOLD = Fold(TYPES, int, lambda total, event: total + event.n)
BROKEN = Fold(TYPES, int, lambda total, _: total // 0)
EMAILS = UniqueKeys("email")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "s.db"
    anyio.run(_fill, found)
    return found


async def _fill(path: Path) -> None:
    async with await SQLiteEventStore.open(path) as store:
        for stream in ("a", "b"):
            await store.append(stream, [TYPES.new(Added(n)) for n in range(4)])
        for owner, value in (("1", "x"), ("2", "y")):
            await run_in_session(store, partial(EMAILS.claim, value=value, owner=owner))
        await run_in_session(store, lambda s: EMAILS.release(s, "x", "1"))
        await run_in_session(store, lambda s: EMAILS.claim(s, "x", "3"))
        snapshots = Snapshots(StreamSnapshotStore(store), int)
        await snapshots.snapshot_now(store, "a", FOLD)


def kinds(path: Path) -> list[tuple[str, str, int]]:
    async def work() -> list[tuple[str, str, int]]:
        async with await SQLiteEventStore.open(path) as store:
            verdict = await verify(store, types=TYPES)
        assert verdict.is_sound == (not verdict.findings)
        return [(one.kind, one.stream, one.version) for one in verdict.findings]

    return anyio.run(work)


def damage(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(sql).rowcount


def test_a_sound_store(path: Path) -> None:
    assert kinds(path) == []


SNAPSHOT = "(SELECT max(position) FROM eventport_events)"
DOUBLED = """
    UPDATE eventport_events SET id = (SELECT id FROM eventport_events WHERE position = 1)
    WHERE position = 6
"""


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        (
            "DELETE FROM eventport_events WHERE stream = 'b' AND version = 2",
            [("gap", "b", 3)],
        ),
        (
            DOUBLED,
            [("id", "b", 2)],
        ),
        (
            'UPDATE eventport_events SET data = \'{"n": "x"}\' WHERE position = 5',
            [("type", "b", 1)],
        ),
        (
            "UPDATE eventport_events SET data = '{' WHERE stream = 'b' AND version = 1",
            [("unreadable", "", 0)],
        ),
        (
            "UPDATE eventport_events SET id = randomblob(16) WHERE stream = 'a' AND version = 4",
            [("snapshot", "eventport/snapshot/a", 1)],
        ),
        (
            "DELETE FROM eventport_events WHERE stream = 'a' AND version = 4",
            [("snapshot", "eventport/snapshot/a", 1)],
        ),
        *(
            (
                f"UPDATE eventport_events SET metadata = '{metadata}' WHERE position = {SNAPSHOT}",
                [("snapshot", "eventport/snapshot/a", 1)],
            )
            for metadata in (
                "{}",
                '{"stream": "a", "version": 4, "event_id": "4", "schema": ""}',
                '{"stream": "a", "version": "4", "event_id": "4", "schema": ""}',
                '{"stream": ["a"], "version": 4, "event_id": "4", "schema": ""}',
                f'{{"stream": "a", "version": 0, "event_id": "{UUID(int=4)}", "schema": ""}}',
            )
        ),
        (
            "DELETE FROM eventport_events WHERE stream = 'eventport/key/email/x' AND version = 2",
            [("gap", "eventport/key/email/x", 3), ("key", "eventport/key/email/x", 3)],
        ),
    ],
)
def test_damage_is_found(path: Path, sql: str, wanted: list[tuple[str, str, int]]) -> None:
    damage(path, sql)
    assert kinds(path) == wanted


def test_what_is_ahead_after_a_restore_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints in streams are found; those beside the restored events are named."""
    program = "from eventport.projections import Projection\nviews = Projection('views')\n"
    (path.parent / "restored_views.py").write_text(program)
    monkeypatch.syspath_prepend(path.parent)
    url = f"sqlite:///{path}"

    async def work(handled: int) -> None:
        views, early = ProjectionId("views", 1), ProjectionId("early/views", 1)
        async with await SQLiteEventStore.open(path) as store:
            await StreamCheckpoints(store).reset(early, 3)
            if handled:
                await StreamCheckpoints(store).reset(early, handled)
            own = store.checkpoints()
            assert own is not None
            async with own as kept:
                await kept.reset(views, handled)

    def verified(*arguments: str) -> list[str]:
        done = CliRunner().invoke(app, ["verify", "--store", url, *arguments])
        assert done.exit_code == (3 if done.stdout else 0), done.stderr
        return done.stdout.splitlines()

    anyio.run(work, 0)
    assert verified("--projection", "restored_views:views") == []
    anyio.run(work, 99)
    in_stream, *rest = verified()
    assert not rest
    assert in_stream.startswith(
        "checkpoint: eventport/projection/early%2Fviews/1 3: its checkpoint is at position 99, "
        "beyond the head of the store, 16"
    )
    _, elsewhere = verified("--projection", "restored_views:views")
    assert elsewhere.startswith("checkpoint: views@1: its checkpoint is at position 99, beyond")
    damage(path, "UPDATE eventport_events SET data = '7' WHERE stream LIKE '%/projection/%'")
    assert verified() == ["checkpoint: eventport/projection/early%2Fviews/1 3: it is no checkpoint"]


def replays(store: EventStore) -> list[Replayed]:
    snapshots = Snapshots(StreamSnapshotStore(store), int)
    return [Replayed("b", snapshots, BROKEN), Replayed("a", snapshots, FOLD)]


def test_a_snapshot_is_compared_with_a_replay(path: Path) -> None:
    arguments = ["verify", "--store", f"sqlite:///{path}", "--replays", f"{__name__}:replays"]

    def verified() -> list[str]:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == (3 if done.stdout else 0), done.stderr
        return done.stdout.splitlines()

    assert verified() == []
    damage(path, f"UPDATE eventport_events SET data = x'37' WHERE position = {SNAPSHOT}")
    assert verified() == [
        "snapshot: eventport/snapshot/a 1: its state is not the one that a replay of 'a' gives"
    ]

    async def work() -> None:
        async with await SQLiteEventStore.open(path) as store:
            snapshots = Snapshots(StreamSnapshotStore(store), int)
            await snapshots.snapshot_now(store, "b", FOLD)
            outdated = Snapshots(StreamSnapshotStore(store), int, schema=2)
            verdict = await verify(store, replays=[Replayed("", outdated, BROKEN)])
            assert verdict.is_sound  # no load begins at a snapshot of another schema

    anyio.run(work)
    _, broken = verified()
    assert broken == (
        "snapshot: eventport/snapshot/b 1: 'b' cannot be replayed: ZeroDivisionError was raised"
    )


def test_findings_are_counted_beyond_a_number(path: Path) -> None:
    damage(path, "UPDATE eventport_events SET id = zeroblob(16)")

    async def work() -> None:
        async with await SQLiteEventStore.open(path) as store:
            verdict = await verify(store, max_findings=2)
        assert len(verdict.findings) == 2
        assert verdict.more > 2

    anyio.run(work)


def test_the_command(path: Path) -> None:
    url = f"sqlite:///{path}"
    sound = CliRunner().invoke(app, ["verify", "--store", url])
    assert sound.exit_code == 0
    assert "13 events in 5 streams, up to position 13: sound" in sound.stderr
    damage(path, "DELETE FROM eventport_events WHERE stream = 'b' AND version = 2")
    wrong = CliRunner().invoke(
        app, ["verify", "--store", url, "--types", "tests.test_verification:TYPES"]
    )
    assert wrong.exit_code == 3
    assert wrong.stdout == "gap: b 3: it comes after version 1\n"
    found = CliRunner().invoke(app, ["verify", "--store", url, "--json"])
    assert json.loads(found.stdout)["findings"][0]["kind"] == "gap"
    missing = CliRunner().invoke(app, ["verify", "--store", f"{url}.not"])
    assert missing.exit_code == 1


def test_no_message_shows_data(path: Path) -> None:
    secret = "s3cret"
    damage(path, f"UPDATE eventport_events SET data = '[\"{secret}\"]' WHERE stream = 'b'")

    async def work() -> None:
        async with await SQLiteEventStore.open(path) as store:
            await store.append("c", [NewEvent("Unknown", {"n": secret})])
            verdict = await verify(store, types=TYPES)
        assert {one.kind for one in verdict.findings} == {"type"}
        assert secret not in repr(verdict)

    anyio.run(work)
