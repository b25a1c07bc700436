"""Fixtures for pytest: a store for each test, on memory or on the backends that a marker names.

A line in the topmost ``conftest.py`` turns them on::

    pytest_plugins = ["eventport.testing.fixtures"]

A test that asks for ``event_store`` gets an open store that is new and empty. It is in memory,
unless ``@pytest.mark.event_stores("memory://", "sqlite:///{folder}/events.db")`` names other
places: then the test runs once on each. ``{folder}`` becomes the test's temporary directory, and
``{new}`` a new name, such as for ``"postgres://localhost/test?schema={new}"``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias
from uuid import uuid4

import pytest

from eventport import EventStore, connect


__all__ = ["OpenEventStore", "event_store", "event_store_target", "open_event_store"]

OpenEventStore: TypeAlias = Callable[[], AbstractAsyncContextManager[EventStore]]
"""Opens the store of the test."""

_MARKER: Final = "event_stores"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", f"{_MARKER}(*targets): run the test on each of these stores")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test that asks for a store run once for each place that its marker names."""
    if event_store_target.__name__ in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker(_MARKER)
        targets = marker.args if marker is not None else ("memory://",)
        schemes = [target.partition(":")[0] for target in targets]  # a URL may hold a password
        metafunc.parametrize(event_store_target.__name__, targets, indirect=True, ids=schemes)


@pytest.fixture
def event_store_target(request: pytest.FixtureRequest) -> str:
    """The URL or the name of the test's store."""
    target: str = request.param
    if "{folder}" in target:
        target = target.replace("{folder}", str(request.getfixturevalue("tmp_path")))
    return target.replace("{new}", f"test_{uuid4().hex[:16]}")


@pytest.fixture
def open_event_store(event_store_target: str) -> OpenEventStore:
    """What opens the test's store, in ``async with``.

    It works with every plugin for asynchronous tests. Each call opens the same events, as another
    process would; in memory, it opens a new and empty store.
    """
    return lambda: connect(event_store_target)


@pytest.fixture
async def event_store(open_event_store: OpenEventStore) -> AsyncGenerator[EventStore, None]:
    """The test's store, open until the test has ended."""
    async with open_event_store() as store:
        yield store
