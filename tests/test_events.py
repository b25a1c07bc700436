"""Events and results: what they default to, and that they are values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from eventport import AggregateResult, AllResult, AppendResult, NewEvent, ReadResult, RecordedEvent


NOW = datetime(2024, 1, 1, tzinfo=UTC)


def test_a_new_event_has_an_id_and_metadata_of_its_own() -> None:
    first, second = NewEvent("T", 1), NewEvent("T", 1)
    assert isinstance(first.id, UUID)
    assert first.id != second.id
    assert first.metadata == {}
    assert first.metadata is not second.metadata


def test_events_are_values() -> None:
    id_ = uuid4()
    assert NewEvent("T", {"a": 1}, {"b": 2}, id_) == NewEvent("T", {"a": 1}, {"b": 2}, id_)
    assert NewEvent("T", 1, id=id_) != NewEvent("T", 2, id=id_)
    recorded = RecordedEvent("s", 1, 1, "T", 1, {}, id_, NOW)
    assert recorded == RecordedEvent("s", 1, 1, "T", 1, {}, id_, NOW)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (NewEvent("T", 1), "type"),
        (RecordedEvent("s", 1, 1, "T", 1, {}, uuid4(), NOW), "version"),
        (ReadResult([], 0), "version"),
        (AppendResult(1, 1, created=True, deduplicated=False), "version"),
        (AggregateResult(1, 1, exists=True), "state"),
        (AllResult([], 0), "position"),
    ],
)
def test_events_and_results_cannot_be_changed(value: Any, field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(value, field, 7)


def test_a_stream_exists_if_it_has_a_version() -> None:
    assert not ReadResult([], 0).exists
    assert ReadResult([], 1).exists
