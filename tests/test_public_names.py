"""The public surface: these names, all of them explained, and nothing heavy behind them."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

from types import ModuleType
from typing import TypeVar

import pytest

import eventport

from eventport import (
    adapter,
    aggregates,
    command_log,
    commands,
    context,
    folding,
    keys,
    projections,
    reactors,
    snapshots,
    testing,
    typed,
)

from eventport_conformance.waiting import START_SECONDS


NAMES = [
    "ANY",
    "NO_STREAM",
    "STREAM_EXISTS",
    "AggregateResult",
    "AllResult",
    "AppendResult",
    "BoundaryError",
    "Capability",
    "ConcurrencyError",
    "ConfigurationError",
    "CopiedEvent",
    "CorruptEventError",
    "EventStore",
    "EventportError",
    "Expectation",
    "HistoryReplacedError",
    "IncompatibleStoreError",
    "InlineProjectionError",
    "InvalidArgumentError",
    "InvalidArgumentTypeError",
    "InvalidEventError",
    "InvalidEventTypeError",
    "InvalidStreamNameError",
    "Match",
    "NewEvent",
    "NotSupportedError",
    "PayloadTooLargeError",
    "Query",
    "QueryResult",
    "ReadResult",
    "RecordedEvent",
    "Session",
    "StoreClosedError",
    "StoreFencedError",
    "StoreUnavailableError",
    "StreamInfo",
    "Streams",
    "Subscription",
    "WrongEventLoopError",
    "connect",
    "run_in_session",
]

PLAIN_VALUES = {
    "ANY",
    "MAX_INT",
    "NO_STREAM",
    "STREAM_EXISTS",
    "Batching",
    "Expectation",
    "Guard",
    "Level",
    "Outcome",
    "Unseen",
}

PUBLIC = [
    pytest.param(getattr(module, name), id=name)
    for module in (eventport, adapter)
    for name in module.__all__
    if name not in PLAIN_VALUES
]

HEAVY = {
    "aiosqlite",
    "eventport_memory",
    "eventport_sqlite",
    "rich",
    "sqlite3",
    "trio",
    "typer",
}


def test_these_are_the_public_names() -> None:
    assert eventport.__all__ == NAMES


def test_all_public_names_are_there() -> None:
    for name in NAMES:
        assert hasattr(eventport, name)
    for name in adapter.__all__:
        assert hasattr(adapter, name)


@pytest.mark.parametrize("module", [eventport, adapter])
def test_nothing_else_looks_public(module: ModuleType) -> None:
    found = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert found == set(module.__all__)


@pytest.mark.parametrize("value", PUBLIC)
def test_every_public_name_explains_itself(value: object) -> None:
    assert (inspect.getdoc(value) or "").strip().endswith((".", "`", ":", ")"))
    # A class that explains nothing inherits its parent's words, which do not count.
    assert getattr(value, "__doc__", None)
    if isinstance(value, type):
        for name, member in vars(value).items():
            if not name.startswith("_") and inspect.isfunction(inspect.unwrap(member)):
                assert member.__doc__, name


TOOLKIT = [
    pytest.param(value, id=f"{module.__name__}.{name}")
    for module in (folding, typed)
    for name, value in vars(module).items()
    if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    if not isinstance(value, TypeVar)
] + [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module in (
        aggregates,
        command_log,
        commands,
        context,
        keys,
        projections,
        reactors,
        snapshots,
        testing,
    )
    for name in module.__all__
    if name not in {"SnapshotPolicy", "State", "Recorded"}
    if not isinstance(getattr(module, name), str)
]


@pytest.mark.parametrize("value", TOOLKIT)
def test_what_is_built_on_the_port_explains_itself(value: object) -> None:
    test_every_public_name_explains_itself(value)


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import json, sys, eventport, eventport.adapter; print(json.dumps(list(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=START_SECONDS
    )
    loaded = {name.partition(".")[0] for name in json.loads(ran.stdout)}
    assert "eventport" in loaded
    assert loaded & HEAVY == set()
    assert "eventport.cli" not in json.loads(ran.stdout)
