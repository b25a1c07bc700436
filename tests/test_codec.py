"""What goes in comes out equal and of the same type; all that could not is refused, by name."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from hypothesis import example, given
from hypothesis import strategies as st
from tests.json_values import NOW, Unshowable, keys, nested, same, there_and_back, values

from eventport import CorruptEventError, InvalidArgumentError, InvalidEventError, NewEvent
from eventport._engine.codec import (
    decode_event,
    encode_events,
    utc_from_microseconds,
    utc_to_microseconds,
)
from eventport.events import NO_TAGS


@given(values)
@example(-0.0)
@example(1.0)
@example(1e300)
@example(5e-324)
@example(1e16)
@example([True, 1, 1.0, False, 0, 0.0, -0.0])
@example(2**63 - 1)
@example(-(2**63))
@example({"b": 1, "a": 2, "": 3, "x.y": 4, "$set": 5, "é": 6})
@example("a\0b\u2028\U0001f600\x7f\x85")
@example("9999999999999999999")
@example([1234567890123456789, 1234567890123456789.0])
def test_json_comes_out_as_it_went_in(value: Any) -> None:
    assert same(there_and_back(value)[0], value)


@given(st.dictionaries(keys, values, max_size=5))
def test_metadata_comes_out_as_it_went_in(metadata: dict[str, Any]) -> None:
    assert same(there_and_back(None, metadata)[1], metadata)


@given(st.binary())
@example(b"null")
@example(b'{"a": 1}')
def test_bytes_come_out_as_they_went_in(data: bytes) -> None:
    assert same(there_and_back(data)[0], data)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_out_bit_by_bit(value: float) -> None:
    assert same(there_and_back([value])[0], [value])


def test_changing_what_was_encoded_changes_nothing() -> None:
    data, metadata = {"a": [1]}, {"m": [1]}
    [encoded] = encode_events([NewEvent("T", data, metadata)])
    data["a"].append(2)
    metadata["m"].append(2)
    assert (encoded.data, encoded.metadata) == ('{"a":[1]}', '{"m":[1]}')


def test_each_decoding_makes_a_fresh_copy() -> None:
    events = [
        decode_event(
            stream="s",
            version=1,
            position=1,
            type_="T",
            data="[[]]",
            metadata='{"m":[]}',
            id_=uuid4(),
            recorded_at=NOW,
            tags=(),
        )
        for _ in range(2)
    ]
    events[0].data[0].append(1)
    events[0].metadata["m"].append(1)
    assert (events[1].data, events[1].metadata) == ([[]], {"m": []})
    empty = [
        decode_event(
            stream="s",
            version=1,
            position=1,
            type_="T",
            data="1",
            metadata="{}",
            id_=uuid4(),
            recorded_at=NOW,
            tags=(),
        )
        for _ in range(2)
    ]
    empty[0].metadata["m"] = 1
    assert empty[1].metadata == {}


@pytest.mark.parametrize(
    "events",
    [NewEvent("T", 1), "events", b"events", {"type": "T"}, None, 7, 10**5000, nested(50_000)[0]],
    ids=["event", "text", "bytes", "dict", "none", "int", "huge int", "deep list"],
)
def test_what_is_no_sequence_of_events_is_refused(events: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"NewEvent"):
        encode_events(events)


def test_a_bare_event_is_a_type_error_that_shows_how_to_write_it() -> None:
    with pytest.raises(TypeError, match=r"such as \[event\]"):
        encode_events(NewEvent("T", 1))


@pytest.mark.parametrize("bad", [None, "T", {"type": "T", "data": 1}, ("T", 1), Unshowable()])
def test_what_is_no_event_is_refused(bad: object) -> None:
    with pytest.raises(InvalidEventError, match=r"an event must be a NewEvent, not "):
        encode_events([NewEvent("T", 1), bad])


@pytest.mark.parametrize("bad", [None, [], "{}", OrderedDict(a=1), UserDict(), 1, Unshowable()])
def test_metadata_is_a_plain_dict(bad: Any) -> None:
    with pytest.raises(InvalidEventError, match=r"event 'T': metadata must be a dict, not "):
        encode_events([NewEvent("T", 1, bad)])


@pytest.mark.parametrize("bad", [None, str(UUID(int=1)), 1, UUID(int=1).bytes])
def test_an_id_is_a_uuid(bad: Any) -> None:
    with pytest.raises(InvalidEventError, match=r"event 'T': id must be a uuid.UUID, not "):
        encode_events([NewEvent("T", 1, id=bad)])


def test_an_id_of_a_uuid_s_subclass_becomes_a_plain_one() -> None:
    class Seven(UUID):
        pass

    id_ = Seven(int=7)
    [encoded] = encode_events([NewEvent("T", 1, id=id_)])
    assert type(encoded.id) is UUID
    assert encoded.id == id_


def test_ids_occur_once_in_an_append() -> None:
    id_ = uuid4()
    events = [NewEvent("T", 1), NewEvent("T", 1, id=id_), NewEvent("T", 2, id=id_)]
    for twice in (events, events[1:]):
        with pytest.raises(InvalidEventError, match=rf"the id {id_}: give each event its own"):
            encode_events(twice)


def test_an_iterator_is_consumed_once() -> None:
    encoded = encode_events(NewEvent("T", number) for number in range(3))
    assert [event.data for event in encoded] == ["0", "1", "2"]
    assert encode_events(iter(())) == ()


@pytest.mark.parametrize(("data", "metadata"), [("{", "{}"), ("", "{}"), ("1", "[")])
def test_what_is_no_json_in_a_store_is_corrupt(data: str, metadata: str) -> None:
    with pytest.raises(CorruptEventError, match=r"event 3 of stream 's' does not hold JSON"):
        decode_event(
            stream="s",
            version=3,
            position=1,
            type_="T",
            data=data,
            metadata=metadata,
            id_=uuid4(),
            recorded_at=NOW,
            tags=(),
        )


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_keep_their_microseconds(time: datetime) -> None:
    assert utc_from_microseconds(utc_to_microseconds(time)) == time


def test_events_without_tags_share_one_empty_set() -> None:
    given = [NewEvent("E", {}), NewEvent("E", {}, tags=set()), NewEvent("E", {}, tags=frozenset())]
    assert {id(event.tags) for event in encode_events(given)} == {id(NO_TAGS)}
