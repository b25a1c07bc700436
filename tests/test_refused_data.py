"""Data that would not come out equal is refused; the error names its path, not its value."""

from __future__ import annotations

import enum
import math

from collections import OrderedDict, UserDict, defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NamedTuple, cast
from uuid import uuid4

import msgspec
import pytest

from hypothesis import given
from hypothesis import strategies as st
from tests.json_values import NOW, Unshowable, nested, same, there_and_back, values

from eventport import InvalidEventError, NewEvent
from eventport._engine.codec import (
    encode_events,
)
from eventport._json import MAX_DEPTH
from eventport.validation import show_key


def refusal(data: object) -> str:
    with pytest.raises(InvalidEventError) as caught:
        encode_events([NewEvent("T", data)])
    assert isinstance(caught.value, ValueError)
    with pytest.raises(InvalidEventError):
        encode_events([NewEvent("T", 1, cast("dict[str, Any]", {"k": data}))])
    return str(caught.value)


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
