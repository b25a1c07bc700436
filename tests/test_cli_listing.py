"""`eventport streams` and `stats`: names, numbers, and what a store without a list says."""

from __future__ import annotations

import json

from pathlib import Path

import anyio
import pytest

from typer.testing import CliRunner, Result

from eventport import NewEvent
from eventport.cli.app import app

from eventport_memory.engine import MemoryEngine
from eventport_sqlite import SQLiteEventStore


@pytest.fixture
def url(tmp_path: Path) -> str:
    path = tmp_path / "s.db"
    anyio.run(_fill, path)
    return f"sqlite:///{path}"


async def _fill(path: Path) -> None:
    async with await SQLiteEventStore.open(path) as store:
        for name in ("order-7", "order-item-7", "order-7", "note"):
            await store.append(name, [NewEvent("Happened", {})])
        await store.append("eventport/x", [NewEvent("eventport.Noted", {})])


def call(*args: str) -> Result:
    return CliRunner().invoke(app, args)


def lines(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_streams_are_listed_as_objects_in_a_pipe(url: str) -> None:
    found = lines(call("streams", "--store", url))
    assert [(one["stream"], one["version"]) for one in found] == [
        ("note", 1),
        ("order-7", 2),
        ("order-item-7", 1),
    ]
    assert all({"position", "recorded_at"} <= set(one) for one in found)


def test_streams_are_selected(url: str) -> None:
    for options, wanted in (
        (["--prefix", "order-"], ["order-7", "order-item-7"]),
        (["--category", "order"], ["order-7"]),
        (["--prefix", "eventport/"], ["eventport/x"]),
        (["--prefix", "nothing"], []),
    ):
        found = lines(call("streams", "--store", url, *options))
        assert [one["stream"] for one in found] == wanted


def test_streams_are_counted(url: str) -> None:
    assert call("streams", "--store", url, "--count").stdout == "3 streams, 4 events\n"
    counted = lines(call("streams", "--store", url, "--count", "--json", "--category", "order"))
    assert counted == [{"streams": 1, "events": 2}]


def test_stats_by_category(url: str) -> None:
    assert lines(call("stats", "--store", url, "--json")) == [
        {
            "streams": 3,
            "events": 4,
            "categories": {
                "": {"streams": 1, "events": 1},
                "order": {"streams": 1, "events": 2},
                "order-item": {"streams": 1, "events": 1},
            },
            "toolkit": {"streams": 1, "events": 1},
        }
    ]
    table = call("stats", "--store", url).stdout
    assert "1             2  order\n" in table
    assert "3             4  in all\n" in table


def test_stats_of_bytes(url: str) -> None:
    (found,) = lines(call("stats", "--store", url, "--bytes", "--json"))
    assert found == {
        "streams": 3,
        "events": 4,
        "bytes": 16,  # data and metadata are {}
        "categories": {
            "order": {"streams": 1, "events": 2, "bytes": 8},
            "order-item": {"streams": 1, "events": 1, "bytes": 4},
            "": {"streams": 1, "events": 1, "bytes": 4},
        },
        "toolkit": {"streams": 1, "events": 1, "bytes": 4},
        "largest": [
            {"stream": "order-7", "events": 2, "bytes": 8},
            {"stream": "order-item-7", "events": 1, "bytes": 4},
            {"stream": "note", "events": 1, "bytes": 4},
            {"stream": "eventport/x", "events": 1, "bytes": 4},
        ],
    }
    assert list(found["categories"]) == ["order", "order-item", ""]  # type: ignore[call-overload]  # it is a dict
    table = call("stats", "--store", url, "--bytes").stdout.splitlines()
    assert [line.split()[:4] for line in table[3:6]] == [
        ["1", "1", "4", "(no"],
        ["3", "4", "16", "in"],
        ["1", "1", "4", "of"],
    ]
    assert table[-4].split() == ["2", "8", "order-7"]


def test_nothing_is_created_for_a_list(tmp_path: Path) -> None:
    for command in ("streams", "stats"):
        result = call(command, "--store", f"sqlite:///{tmp_path}/mistyped.db")
        assert result.exit_code == 1
    assert not list(tmp_path.iterdir())


def test_a_store_without_a_list_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryEngine, "capabilities", frozenset())
    result = call("stats", "--store", "memory://")
    assert result.exit_code == 1
    assert "no catalogue" in result.stderr
