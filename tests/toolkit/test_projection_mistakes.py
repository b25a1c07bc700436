"""Mistakes in declaring a projection are refused at once, with the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from eventport import ConfigurationError, InvalidArgumentError
from eventport.projections import MemoryCheckpoints, Projection, ProjectionContext, Retries, Runner
from eventport.typed import EventTypes, UnknownEventTypeError

from eventport_memory import MemoryEventStore
from eventport_sqlite.projections import SQLiteCheckpoints


async def nothing(_: Any, context: ProjectionContext[Any]) -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "name is empty"),
        ({"generation": 0}, "generation must be from 1"),
        ({"batch_size": 0}, "batch_size must be from 1"),
        ({"on_poison": "ignore"}, "on_poison must be one of"),
        ({"prefix": 3}, "prefix must be text"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Projection(options.pop("name", "cases"), **options)


@pytest.mark.parametrize(
    "options", [{"attempts": 0}, {"first_pause": -1}, {"first_pause": 2, "max_pause": 1}]
)
def test_retries_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        Retries(**options)


def test_handlers_that_contradict_each_other() -> None:
    projection: Projection[Any] = Projection("cases")
    with pytest.raises(InvalidArgumentError, match="name the types"):
        projection.on()
    projection.on("Opened")(nothing)
    with pytest.raises(InvalidArgumentError, match="'Opened' already"):
        projection.on("Opened")(nothing)
    with pytest.raises(InvalidArgumentError, match="handlers already"):
        projection.on_batch("Closed")(nothing)
    batches: Projection[Any] = Projection("cases")
    batches.on_batch()(nothing)
    with pytest.raises(InvalidArgumentError, match="handlers already"):
        batches.on("Opened")(nothing)
    with pytest.raises(InvalidArgumentError, match="handlers already"):
        batches.on_batch()(nothing)


def test_classes_that_are_not_registered() -> None:
    projection: Projection[Any] = Projection("cases")
    with pytest.raises(InvalidArgumentError, match="types="):
        projection.on(int)
    projection = Projection("cases", types=EventTypes[Any]())
    with pytest.raises(UnknownEventTypeError, match="int"):
        projection.on(int)


async def test_a_projection_without_handlers_and_a_lease_without_length() -> None:
    async with MemoryEventStore() as store:
        projection: Projection[Any] = Projection("cases")
        with pytest.raises(InvalidArgumentError, match="no handler"):
            Runner(store, projection, MemoryCheckpoints())
        projection.on("Opened")(nothing)
        with pytest.raises(InvalidArgumentError, match="lease"):
            Runner(store, projection, MemoryCheckpoints(), lease=0)


async def test_checkpoints_of_a_database_in_memory() -> None:
    with pytest.raises(ConfigurationError, match="name a file"):
        async with SQLiteCheckpoints.connect("sqlite://"):
            pass
