"""A typed event comes back equal, with equal types, or is refused with the path of the field."""

from __future__ import annotations

import enum
import math

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal, get_args
from uuid import UUID, uuid4

import attrs
import msgspec
import pydantic
import pytest

from hypothesis import given
from hypothesis import strategies as st

from eventport import InvalidEventError
from eventport.events import RecordedEvent
from eventport.typed import EventTypes


NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)
SECRET = "ada.lovelace@example.org"


class Size(enum.Enum):
    SMALL = "small"


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Part:
    sku: str


@dataclass
class Serial(Part):
    number: int = 0


@dataclass
class Line:
    price: int


@dataclass
class OrderPlaced:
    lines: list[Line]


@dataclass
class Held:
    part: Part | None = None
    amount: int = 0
    at: datetime | None = None
    naive: datetime | None = None
    text: str = ""
    ratio: float = 0.0
    size: Size | None = None
    open: dict[str, Any] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    ordered: Sequence[int] = field(default_factory=list)
    keyed: dict[int, str] = field(default_factory=dict)
    group: set[Any] = field(default_factory=set)
    hidden: Any = field(default=None, compare=False)


@dataclass
class Fixed:
    total: int
    double: int = field(init=False)

    def __post_init__(self) -> None:
        self.double = self.total * 2

    @cached_property
    def half(self) -> float:
        return self.total / 2


@attrs.define
class Weighed:
    grams: int
    label: Any = attrs.field(default=None, eq=False)


class Moved(msgspec.Struct):
    to: str
    via: list[str] = []


class Item(pydantic.BaseModel):
    sku: str


class Fragile(Item):
    insurance: int


class Packed(pydantic.BaseModel):
    items: list[Item]


class Account(pydantic.BaseModel):
    password: pydantic.SecretStr


class Excluding(pydantic.BaseModel):
    kept: int
    left_out: int = pydantic.Field(default=0, exclude=True)


class Private(pydantic.BaseModel):
    name: str
    _seen: int = pydantic.PrivateAttr(default=0)


class Aliased(pydantic.BaseModel):
    name: str = pydantic.Field(default="", serialization_alias="Name", validation_alias="title")


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    data: dict[str, Any] = {}
    blob: bytes = b""
    at: datetime | None = None


def held(**values: Any) -> Held:
    """Make an event whose attributes no type checker has seen."""
    return Held(**values)


def with_attribute(event: Any, name: str, value: Any) -> Any:
    setattr(event, name, value)
    return event


def private(value: int) -> Private:
    event = Private(name="x")
    event._seen = value
    return event


REFUSED: dict[str, tuple[object, str]] = {
    "nested item": (OrderPlaced([Line(1), Line(2), Line("3")]), "OrderPlaced.lines[2].price"),  # type: ignore[arg-type]  # what is checked
    "subclass": (held(part=Serial("a", 7)), "Held.part"),
    "none for int": (held(amount=None), "Held.amount"),
    "bool for int": (held(amount=True), "Held.amount"),
    "float for int": (held(amount=1.0), "Held.amount"),
    "decimal for int": (held(amount=Decimal(2)), "Held.amount"),
    "int for float": (held(ratio=1), "Held.ratio"),
    "enum for int": (held(amount=Level.LOW), "Held.amount"),
    "not a number": (held(ratio=math.nan), "Held.ratio"),
    "infinite": (held(ratio=math.inf), "Held.ratio"),
    "bytes for text": (held(text=b"there"), "Held.text"),
    "text for an enum": (held(size="small"), "Held.size"),
    "text for a time": (held(at="2026-01-02T03:04:05Z"), "Held.at"),
    "no time": (held(at="yesterday"), "Held.at"),
    "offset in seconds": (
        held(at=NOW.astimezone(timezone(timedelta(minutes=53, seconds=28)))),
        "Held.at",
    ),
    "fold": (held(naive=NAIVE.replace(fold=1)), "Held.naive"),
    "time in an open dict": (held(open={"when": {"x": [NOW]}}), "Held.open['when']['x'][0]"),
    "decimal in an open dict": (held(open={"price": Decimal("1.0")}), "Held.open['price']"),
    "tuple in an open dict": (held(open={"pair": (1, 2)}), "Held.open['pair']"),
    "ordered dict": (held(open=OrderedDict(a=1)), "Held.open"),
    "tuple for a list": (held(numbers=(1, 2)), "Held.numbers"),
    "tuple for a sequence": (held(ordered=(1, 2)), "Held.ordered"),
    "bool in a list": (held(numbers=[1, True]), "Held.numbers[1]"),
    "text for an int key": (held(keyed={"1": "x"}), "Held.keyed"),
    "time in a set": (held(group={NOW}), "Held.group"),
    "field that is not compared": (held(hidden=NOW), "Held.hidden"),
    "complex": (held(open={"z": [1, 1j]}), "Held.open['z'][1]"),
    "lone surrogate": (held(open={"z": ["a", "\ud800"]}), "Held.open['z'][1]"),
    "attribute that is no field": (with_attribute(Held(), "extra", 7), "Held.extra"),
    "field that the class sets": (with_attribute(Fixed(2), "double", 5), "Fixed.double"),
    "attrs": (Weighed("7"), "Weighed.grams"),  # type: ignore[arg-type]  # what is checked
    "attrs, not compared": (Weighed(7, (1,)), "Weighed.label"),
    "struct": (Moved(7), "Moved.to"),  # type: ignore[arg-type]  # what is checked
    "struct, nested": (Moved("a", ["b", b"c"]), "Moved.via[1]"),  # type: ignore[list-item]  # as above
    "model of a subclass": (
        Packed(items=[Item(sku="a"), Fragile(sku="b", insurance=5)]),
        "Packed.items[1]",
    ),
    "secret": (Account(password=pydantic.SecretStr(SECRET)), "Account.password"),
    "comparison that raises": (
        Account.model_construct(password=pydantic.SecretStr(None)),  # type: ignore[arg-type]  # as above
        "Account.password",
    ),
    "excluded": (Excluding(kept=1, left_out=2), "Excluding.left_out"),
    "private": (private(3), "Private._seen"),
    "alias that is not read": (Aliased.model_validate({"title": "x"}), "Aliased.name"),
    "model with an open dict": (Open(data={"at": NOW}), "Open.data['at']"),
    "model with bytes": (Open(blob=b"\xff"), "Open.blob"),
    "model not validated": (Item.model_construct(sku=7), "Item.sku"),
    "model with an offset in seconds": (
        Open(at=NOW.astimezone(timezone(timedelta(seconds=28)))),
        "Open.at",
    ),
    "model with what is no JSON": (Open(data={"x": object()}), "Open.data['x']"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_back_is_refused_with_its_path(name: str) -> None:
    event, path = REFUSED[name]
    types = EventTypes[Any](type(event))
    with pytest.raises(InvalidEventError) as caught:
        types.new(event)
    assert f": {path}: " in str(caught.value)
    assert SECRET not in str(caught.value)


ACCEPTED: list[object] = [
    OrderPlaced([Line(1)]),
    held(part=Part("a"), amount=2**40, at=NOW, size=Size.SMALL, ratio=-0.0, group={1, "a"}),
    held(at=NOW.astimezone(timezone(timedelta(hours=-5, minutes=30))), naive=NAIVE),
    held(open={"b": [1, 1.0, True, None, "x", {"y": {}}], "a": {}}, ordered=[1], keyed={1: "x"}),
    Fixed(3),
    Weighed(7, ["x", 1]),
    Moved("a", ["b"]),
    Packed(items=[Item(sku="a")]),
    Excluding(kept=1),
    Private(name="x"),
    Open(data={"a": [1, 1.5]}, at=NOW, blob=b"x"),
]


@pytest.mark.parametrize("event", ACCEPTED, ids=lambda event: type(event).__name__)
def test_what_comes_back_is_accepted(event: object) -> None:
    types = EventTypes[Any](type(event))
    assert types.decode(recorded(types, event)) == event


def test_what_is_only_cached_is_not_a_field() -> None:
    event = Fixed(4)
    assert event.half == 2
    types = EventTypes[Any](Fixed)
    assert types.decode(recorded(types, event)) == event


def recorded(types: EventTypes[Any], event: object) -> RecordedEvent:
    new = types.new(event)
    raw = msgspec.json.decode(msgspec.json.encode(new.data))
    return RecordedEvent("s", 1, 1, new.type, raw, new.metadata, new.id, NOW)


def test_a_value_that_refers_to_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with pytest.raises(InvalidEventError, match="Held"):
        EventTypes[Any](Held).new(held(open=loop))


def test_nothing_of_a_refused_event_is_in_the_text() -> None:
    event = held(open={"at": {SECRET}}, hidden=(SECRET,), text=SECRET.encode())
    with pytest.raises(InvalidEventError) as caught:
        EventTypes[Any](Held).new(event)
    assert SECRET not in str(caught.value) + repr(caught.value)


# Generated classes and values.

_FIELD_TYPES: list[Any] = [
    int, float, str, bool, bytes, date, datetime, time, timedelta, Decimal, UUID, Size, Level,
    Any, int | None, list[int], tuple[int, ...], tuple[int, str], set[int], frozenset[str],
    dict[str, Any], dict[str, int], dict[int, str], Part, list[Part], Literal["a", "b"],
    list[Any], Part | None, dict[str, Part],
]  # fmt: skip

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["a", "b", "1", "small", 1, 1.0, True, Size.SMALL, Level.LOW]),
    st.binary(max_size=3),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.times(),
    st.timedeltas(timedelta(-1000), timedelta(1000)),
    st.decimals(),
    st.just(uuid4()),
    st.builds(Part, st.sampled_from(["a", 1, None])),
    st.builds(Serial, st.just("a")),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.lists(inner, max_size=2).map(deque),
        st.dictionaries(st.sampled_from(["a", "b", 1, "1", True]), inner, max_size=3),
        st.sets(st.sampled_from([1, 2, "a", None, NOW]), max_size=2),
    ),
    max_leaves=5,
)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Give values that mostly fit a type, and some that do not."""
    return _VALUES if Any in (kind, *get_args(kind)) else st.one_of(st.from_type(kind), _VALUES)


@st.composite
def events(draw: st.DrawFn) -> object:
    """Give an instance of a class of one of the four kinds."""
    kinds = draw(st.lists(st.sampled_from(_FIELD_TYPES), min_size=1, max_size=3))
    values = {f"f{index}": draw(values_of(kind)) for index, kind in enumerate(kinds)}
    named = [(f"f{index}", kind) for index, kind in enumerate(kinds)]
    match draw(st.sampled_from(["dataclass", "slots", "attrs", "struct", "pydantic"])):
        case "attrs":
            made: Any = attrs.make_class(
                "Made", {name: attrs.field(type=kind, eq=False) for name, kind in named}
            )
        case "struct":
            made = msgspec.defstruct("Made", named)
        case "pydantic":
            model: Any = pydantic.create_model("Made", **dict(named))
            return model.model_construct(**values)
        case how:
            made = make_dataclass("Made", named, slots=how == "slots")
    return made(**values)


@given(events())
def test_any_event_is_refused_with_a_path_or_comes_back_equal(event: Any) -> None:
    types = EventTypes[Any](type(event))
    try:
        back = types.decode(recorded(types, event))
    except InvalidEventError as exc:
        assert "Made.f" in str(exc)  # noqa: PT017  # both ways are right
    else:
        for name in vars(event) if hasattr(event, "__dict__") else event.__annotations__:
            assert exact(getattr(back, name)) == exact(getattr(event, name))


def exact(value: Any) -> object:
    """Turn a value into what is equal only for values that are the same in all that counts."""
    match value:
        case dict():
            return type(value), [(exact(key), exact(item)) for key, item in value.items()]
        case set() | frozenset():
            return type(value), {(type(item), exact(item)) for item in value}
        case list() | tuple() | deque():
            return type(value), [exact(item) for item in value]
        case Part():
            return type(value), {name: exact(item) for name, item in vars(value).items()}
        case datetime():
            return value.isoformat(), value.utcoffset(), value.fold if not value.tzinfo else 0
        case _:
            return type(value), repr(value)


class Node(pydantic.BaseModel):
    below: list[Node] = []


def test_a_model_that_holds_itself_is_refused() -> None:
    node = Node()
    node.below.append(node)
    with pytest.raises(InvalidEventError, match=r"Node.*cannot be encoded"):
        EventTypes[Node](Node).new(node)
