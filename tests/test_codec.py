"""What goes in comes out equal and of the same type; all that could not is refused, by name."""

from __future__ import annotations

import enum
import math
import struct

from collections import OrderedDict, UserDict, defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from typing import Any, Final, NamedTuple, cast
from uuid import UUID, uuid4

import msgspec
import pytest

from hypothesis import example, given
from hypothesis import strategies as st

from eventport import CorruptEventError, InvalidArgumentError, InvalidEventError, NewEvent
from eventport._engine.codec import (
    MAX_DEPTH,
    decode_event,
    encode_events,
    utc_from_microseconds,
    utc_to_microseconds,
)
from eventport.validation import show_key


NOW: Final = datetime(2024, 1, 1, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=30
)


def nested(levels: int, *, in_dicts: bool = False) -> Any:
    """Nest lists or objects, the outermost being level 1."""
    if in_dicts:
        return reduce(lambda inner, _: {"k": inner}, range(levels - 1), cast("Any", {}))
    return reduce(lambda inner, _: [inner], range(levels - 1), cast("Any", []))


def there_and_back(data: object, metadata: dict[str, Any] | None = None) -> tuple[Any, Any]:
    [encoded] = encode_events([NewEvent("T", data, metadata or {})])
    event = decode_event(
        stream="s",
        version=1,
        position=1,
        type_=encoded.type,
        data=encoded.data,
        metadata=encoded.metadata,
        id_=encoded.id,
        recorded_at=utc_from_microseconds(0),
        tags=(),
    )
    return event.data, event.metadata


def same(left: Any, right: Any) -> bool:
    """Compare with types, the sign of zero and the order of keys."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    return bool(left == right)


def refusal(data: object) -> str:
    with pytest.raises(InvalidEventError) as caught:
        encode_events([NewEvent("T", data)])
    assert isinstance(caught.value, ValueError)
    with pytest.raises(InvalidEventError):
        encode_events([NewEvent("T", 1, cast("dict[str, Any]", {"k": data}))])
    return str(caught.value)


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


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Real(float):
    pass


class Names(list[str]):
    pass


class Colour(enum.StrEnum):
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 3


class Unshowable:
    def __repr__(self) -> str:
        raise LookupError("no repr")


@dataclass
class Plain:
    x: int = 1


class Liar(Plain):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


class Quarrelsome(Plain):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise LookupError("not comparable")


class Fields(msgspec.Struct):
    x: int = 1


class Point(NamedTuple):
    x: int
    y: int


BAD: Final[dict[str, object]] = {
    "tuple": (1, 2),
    "named tuple": Point(1, 2),
    "set": {1},
    "frozen set": frozenset({1}),
    "time": NOW,
    "date": date(2024, 1, 1),
    "duration": timedelta(seconds=1),
    "uuid": uuid4(),
    "decimal": Decimal(1),
    "fraction": Fraction(1, 2),
    "complex": 1j,
    "bytes": b"x",
    "bytearray": bytearray(b"x"),
    "memoryview": memoryview(b"x"),
    "str subclass": Text("x"),
    "int subclass": Number(1),
    "float subclass": Real(1.5),
    "list subclass": Names(["x"]),
    "ordered dict": OrderedDict(a=1),
    "default dict": defaultdict(int, a=1),
    "mapping": UserDict(a=1),
    "str enum": Colour.RED,
    "int enum": Size.LARGE,
    "enum class": Colour,
    "dataclass": Plain(),
    "struct": Fields(),
    "raw json": msgspec.Raw(b"1"),
    "unset": msgspec.UNSET,
    "equal to all": Liar(),
    "equal to none": Quarrelsome(),
    "no repr": Unshowable(),
    "object": object(),
    "function": refusal,
    "ellipsis": ...,
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "2**63": 2**63,
    "2**64": 2**64,
    "-2**63-1": -(2**63) - 1,
    "5,000 digits": 10**5000,
    "high surrogate": "a\ud800",
    "low surrogate": "\udfffb",
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
def test_what_would_not_come_out_the_same_is_refused_wherever_it_is(value: object) -> None:
    if not isinstance(value, bytes):
        assert "data is " in refusal(value)
    assert "data[0] is " in refusal([value])
    assert "data['flat'] is " in refusal({"a": 1, "flat": value})
    assert "data['a']['b'] is " in refusal({"z": [1, {}], "a": {"b": value}})
    with pytest.raises(InvalidEventError, match=r"metadata\['k'\]\[1\] is "):
        encode_events([NewEvent("T", 1, {"k": [0, value]})])


@given(values.filter(lambda value: isinstance(value, (dict, list))), st.data())
def test_one_bad_value_anywhere_is_found(value: Any, data: st.DataObject) -> None:
    container, place = value, ""
    while True:
        inner = [
            key
            for key in (container if isinstance(container, dict) else range(len(container)))
            if isinstance(container[key], (dict, list))
        ]
        if not inner or data.draw(st.booleans()):
            break
        key = data.draw(st.sampled_from(inner))
        named = show_key(key, list(container).index(key)) if isinstance(key, str) else key
        container, place = container[key], f"{place}[{named}]"
    if isinstance(container, dict):
        container["bad"], place = math.nan, f"{place}['bad']"
    else:
        container.append((1, 2))
        place = f"{place}[{len(container) - 1}]"
    assert f"data{place} is " in refusal(value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (math.nan, "data is infinite or not a number, which JSON cannot hold"),
        (2**63, "data is an int beyond int64: store it as text"),
        ((1, 2), "data is a tuple, which is not a JSON value"),
        ([b"x"], "data[0] is a bytes"),
        ({"a": b"x"}, "or store bytes as the whole of data"),
        ({"a": ["b", "\ud800"]}, "data['a'][1] is text with a lone surrogate"),
        ({"\ud800": 1}, "data has a key with a lone surrogate"),
        ({"a": {"b\0": 1}}, "data['a'] has a key with U+0000 in it"),
        ([{1: 2}], "data[0] has a key of type int: keys must be str"),
        ({"x": {None: 2}}, "data['x'] has a key of type NoneType: keys must be str"),
        ({"1": 1, 1: 2}, "data has a key of type int: keys must be str"),
        ({(1, 2): 3}, "data has a key of type tuple: keys must be str"),
        ({Colour.RED: 3}, "a key of type Colour: keys must be str"),
        ({Text("x"): 3}, "data has a key of type Text: keys must be str"),
        ({b"x": 3}, "data has a key of type bytes: keys must be str"),
    ],
)
def test_a_refusal_names_the_path_and_never_the_value(data: object, message: str) -> None:
    text = refusal(data)
    assert message in text
    assert text.startswith("event 'T' (")
    text.encode()


@pytest.mark.parametrize("in_dicts", [False, True], ids=["lists", "objects"])
def test_nesting_has_a_limit(in_dicts: bool) -> None:
    deepest = nested(MAX_DEPTH, in_dicts=in_dicts)
    assert MAX_DEPTH == 64
    assert same(there_and_back(deepest)[0], deepest)
    assert "is nested deeper than 64 levels: flatten it" in refusal(
        nested(MAX_DEPTH + 1, in_dicts=in_dicts)
    )
    # What is deep and wide as well is looked at part by part.
    wide = [nested(MAX_DEPTH - 1, in_dicts=in_dicts) for _ in range(5)]
    assert same(there_and_back(wide)[0], wide)
    assert "data[4]" in refusal([*wide[:4], [wide[4]]])


@pytest.mark.parametrize("in_dicts", [False, True], ids=["lists", "objects"])
@pytest.mark.parametrize("levels", [900, 3_000, 100_000])
def test_very_deep_values_are_refused_in_short(levels: int, in_dicts: bool) -> None:
    message = refusal(nested(levels, in_dicts=in_dicts))
    assert "is nested deeper than 64 levels" in message
    assert len(message) < 300


def test_values_that_contain_themselves_are_refused() -> None:
    names: list[object] = []
    names.append(names)
    assert "nested deeper" in refusal(names)
    index: dict[str, object] = {}
    index["again"] = [index]
    assert "nested deeper" in refusal(index)


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
