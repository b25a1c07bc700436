"""The fast check of typed events says the same as decoding and comparing them."""

from __future__ import annotations

import enum

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, get_args
from uuid import UUID, uuid4

import attrs
import msgspec
import pydantic
import pytest

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import ConfigDict, Field
from pydantic_core.core_schema import no_info_before_validator_function

from eventport import InvalidEventError
from eventport.typed.conversion import conversion_of


create_model: Any = pydantic.create_model
NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


class Size(enum.Enum):
    SMALL = "small"


class Level(enum.IntEnum):
    LOW = 1


class Mixed(enum.Enum):
    TEXT = "1"
    NUMBER = 1


class Odd(enum.Enum):
    PAIR = (1, 2)


class Access(enum.Flag):
    READ = 1


class Inner(pydantic.BaseModel):
    number: int


class Deeper(Inner):
    more: int = 0


class Tree(pydantic.BaseModel):
    name: str
    below: list[Tree] = []


@dataclass
class Part:
    sku: str
    below: Part | None = None


@dataclass
class Serial(Part):
    number: int = 0


class Money(msgspec.Struct):
    amount: Decimal


TYPES: list[Any] = [
    int, float, str, bool, bytes, date, datetime, Decimal, UUID, Size, Level, Mixed, Odd, Access,
    Any, type(None), int | None, float | None, int | str, list[int], list[float], list[int | None],
    tuple[int, ...], tuple[int, str], dict[str, Any], dict[str, int], dict[int, str],
    dict[str, float], list[list[str]], Literal["a", "b"], Literal[1, 2], Literal["1", 1],
    Literal[True, 1], list[str], timedelta, pydantic.PositiveInt, pydantic.SecretStr,
]  # fmt: skip
MODELS: list[Any] = [Inner, list[Inner], Inner | None, dict[str, Inner], Tree, tuple[Inner, ...]]
RECORDS: list[Any] = [Part, list[Part], Part | None, Money, dict[str, Money], list[Money | None]]

PARTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**63, 2**64, 2**100, -(2**63) - 1]),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["a", "1", "small", 1, 1.0, 2.5, True, *Size, *Level, *Mixed, *Odd, *Access]),
    st.sampled_from(["\ud800", "a\udfff", "\0"]),
    st.binary(max_size=3),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.datetimes(timezones=st.just(UTC)),
    st.sampled_from([NOW.replace(fold=1), NOW.replace(tzinfo=None, fold=1)]),
    st.just(NOW.astimezone(timezone(timedelta(seconds=28)))),
    st.timedeltas(timedelta(-1000), timedelta(1000)),
    st.decimals(),
    st.sampled_from([Decimal("1.00"), Decimal("1E+5"), Decimal("sNaN"), Decimal("-0"), Decimal(2)]),
    st.just(uuid4()),
    st.builds(Part, st.sampled_from(["a", 1]), st.sampled_from([None, Part("b"), Serial("c")])),
    st.builds(Serial, st.just("a")),
    st.builds(Money, st.sampled_from([Decimal(1), 1, "1"])),
    st.builds(Inner.model_construct, number=st.sampled_from([1, "1", True, 2**70])),
    st.builds(Deeper, number=st.just(1)),
    st.sampled_from([Tree(name="a", below=[Tree(name="b")]), pydantic.SecretStr("x")]),
)  # fmt: skip
VALUES = st.recursive(
    PARTS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.sampled_from(["a", "b", 1, "\ud800"]), inner, max_size=2),
    ),
    max_leaves=4,
)

CONFIGS: list[ConfigDict] = [
    ConfigDict(),
    ConfigDict(frozen=True, strict=True),
    ConfigDict(extra="allow"),
    ConfigDict(extra="forbid", from_attributes=True),
    ConfigDict(str_strip_whitespace=True),
    ConfigDict(str_to_upper=True),
    ConfigDict(use_enum_values=True),
    ConfigDict(ser_json_bytes="base64"),
    ConfigDict(coerce_numbers_to_str=True),
    ConfigDict(allow_inf_nan=False),
    ConfigDict(alias_generator=str.upper),
    ConfigDict(alias_generator=str.upper, populate_by_name=True),
    ConfigDict(validate_assignment=True, revalidate_instances="always"),
    ConfigDict(validate_default=True, title="Made"),
]
FIELDS: list[Callable[[], Any]] = [
    lambda: ...,
    Field,
    lambda: Field(alias="other"),
    lambda: Field(serialization_alias="other"),
    lambda: Field(validation_alias="other"),
    lambda: Field(exclude=True, default=None),
    lambda: Field(default=None),
    lambda: Field(default_factory=list),
    lambda: Field(frozen=True, title="A title", description="What it is"),
    lambda: Field(strict=True),
    lambda: Field(exclude_if=lambda value: value == 1),
]


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Give values that mostly fit a type, and some that do not."""
    if Any in {kind, *get_args(kind)}:
        return VALUES
    return st.one_of(st.from_type(kind), VALUES)


@st.composite
def records(draw: st.DrawFn) -> object:
    """Give an instance of a Struct, dataclass or attrs class, or None."""
    kinds = draw(st.lists(st.sampled_from(TYPES[:-2] + RECORDS), min_size=1, max_size=4))
    named = [(f"f{index}", kind) for index, kind in enumerate(kinds)]
    values = {name: draw(values_of(kind)) for name, kind in named}
    try:
        match draw(st.sampled_from(["dataclass", "slots", "attrs", "attrs slots", "struct"])):
            case "struct":
                hows: list[Any] = [{}, {"omit_defaults": True}, {"rename": "upper"}]
                how = draw(st.sampled_from(hows))
                made: Any = msgspec.defstruct("Made", named, **how)
            case "attrs" | "attrs slots" as how:
                attributes = {name: attrs.field(type=kind, eq=False) for name, kind in named}
                made = attrs.make_class("Made", attributes, slots=how == "attrs slots")
            case how:
                made = make_dataclass("Made", named, slots=how == "slots")
        conversion_of(made)
    except TypeError:
        return None  # a type that msgspec has no JSON for
    event = made(**values)
    if draw(st.integers(0, 9)) == 0:
        spoil(draw, event)
    return event


@st.composite
def models(draw: st.DrawFn) -> object:
    """Give an instance of a pydantic model of many kinds."""
    kinds = draw(st.lists(st.sampled_from(TYPES + MODELS), min_size=1, max_size=4))
    named = {
        f"f{index}": (kind, draw(st.sampled_from([*FIELDS[:2] * 8, *FIELDS]))())
        for index, kind in enumerate(kinds)
    }
    config = draw(st.sampled_from([*CONFIGS[:2] * 8, *CONFIGS]))
    base: Any = draw(st.sampled_from([*[pydantic.BaseModel] * 12, *BASES]))
    how: Any = {"__base__": type("Base", (base,), {"model_config": config})}
    try:
        model: Any = create_model("Made", **how, **named)
    except RuntimeError:
        return None  # a field that cannot be strict
    values = {name: draw(values_of(kind)) for name, (kind, _) in named.items()}
    event = model.model_construct(**values)
    if draw(st.booleans()):
        with suppress(pydantic.ValidationError, TypeError, ValueError):
            event = model.model_validate(values, by_name=True)
    if draw(st.integers(0, 9)) == 0:
        spoil(draw, event)
    return event


def spoil(draw: st.DrawFn, event: Any) -> None:
    """Change an instance in a way that its class does not know of."""
    how = draw(st.sampled_from(["extra", "deleted", "private", "extras"]))
    with suppress(AttributeError, TypeError):  # if its class has no place for that
        match how:
            case "extra":
                object.__setattr__(event, "surplus", 1)
            case "deleted":
                object.__delattr__(event, "f0")
            case "private":
                object.__setattr__(event, "__pydantic_private__", {"_seen": 1})
            case _:
                object.__setattr__(event, "__pydantic_extra__", {"seen": 1})


def spoil_all(event: Any) -> Any:
    """Change all fields of an instance."""
    event.__dict__.update(dict.fromkeys(event.__dict__, 1))
    return event


class Validated(pydantic.BaseModel):
    @pydantic.model_validator(mode="after")
    def _check(self) -> Any:
        return spoil_all(self)


class FieldValidated(pydantic.BaseModel):
    @pydantic.field_validator("*")
    @classmethod
    def _check(cls, value: Any) -> Any:
        return value * 2 if isinstance(value, int | str) else value


class Serialized(pydantic.BaseModel):
    @pydantic.model_serializer(mode="wrap")
    def _write(self, write: Any) -> Any:
        return dict.fromkeys(write(self), 1)


class FieldSerialized(pydantic.BaseModel):
    @pydantic.field_serializer("*")
    def _write(self, value: Any) -> Any:
        return value * 2 if isinstance(value, int | str) else value


class Computed(pydantic.BaseModel):
    @pydantic.computed_field  # type: ignore[prop-decorator]  # mypy does not take properties here
    @property
    def computed(self) -> int:
        return 1


class Private(pydantic.BaseModel):
    _seen: int = pydantic.PrivateAttr(default_factory=lambda: 1)


class AfterInit(pydantic.BaseModel):
    def model_post_init(self, context: Any, /) -> None:
        spoil_all(self)


class OwnInit(pydantic.BaseModel):
    def __init__(self, **values: Any) -> None:
        super().__init__(**dict.fromkeys(values, 1))


class OwnDump(pydantic.BaseModel):
    def model_dump(self, **how: Any) -> Any:
        return dict.fromkeys(super().model_dump(**how), 1)


class OwnLoad(pydantic.BaseModel):
    @classmethod
    def model_validate_json(cls, json_data: Any, **how: Any) -> Any:
        return spoil_all(super().model_validate_json(json_data, **how))


class OwnSchema(pydantic.BaseModel):
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        schema = handler(source)
        return no_info_before_validator_function(lambda value: dict.fromkeys(value, 1), schema)


BASES = [
    Validated, FieldValidated, Serialized, FieldSerialized, Computed, Private, AfterInit, OwnInit,
    OwnDump, OwnLoad, OwnSchema,
]  # fmt: skip


def outcome(conversion: Any, event: object) -> object:
    """Return what becomes of an event: its JSON, or the text of the refusal."""
    try:
        return msgspec.json.encode(conversion.to_json(event, "event"))
    except InvalidEventError as exc:
        return str(exc)


@given(st.one_of(records(), models()))
def test_the_fast_check_and_the_comparison_agree(event: Any) -> None:
    if event is None:
        return
    conversion = conversion_of(type(event))
    assert outcome(conversion, event) == outcome(replace(conversion, fits=None), event)


FAST: list[object] = [
    make_dataclass("Cleared", [])(),
    msgspec.defstruct("Emptied", [])(),
    create_model("Closed")(),
    Part("a", Part("b")),
    Money(Decimal("1.00")),
    attrs.make_class("Weighed", {"grams": attrs.field(type=int)})(7),
    Inner(number=1),
    Tree(name="a", below=[Tree(name="b")]),
    create_model(
        "Wide",
        at=(datetime, ...),
        size=(Size | None, None),
        kind=(Literal["a", "b"], "a"),
        prices=(dict[str, Decimal], {}),
        inner=(tuple[Inner, ...], ()),
    )(at=NOW, size=Size.SMALL, prices={"a": Decimal(1)}, inner=(Inner(number=1),)),
]


@pytest.mark.parametrize("event", FAST, ids=lambda event: type(event).__name__)
def test_plain_classes_need_no_comparison(event: object) -> None:
    fits = conversion_of(type(event)).fits
    assert fits is not None
    assert fits(event)


class Doubling:
    """An attribute with code of its own."""

    def __get__(self, owner: Any, _: type) -> int:
        return 0 if owner is None else int(owner.__dict__["_total"])

    def __set__(self, owner: Any, value: int) -> None:
        owner.__dict__["_total"] = 2 * value


@dataclass
class Described:
    total: int = Doubling()  # type: ignore[assignment]  # as dataclasses allow it


@dataclass
class Preparing:
    total: int
    double: int = field(init=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.total


@pytest.mark.parametrize("cls", [*BASES, Described, Preparing], ids=lambda cls: cls.__name__)
def test_code_of_its_own_makes_a_class_compared(cls: Any) -> None:
    if issubclass(cls, pydantic.BaseModel):
        cls = create_model("Made", __base__=cls, number=(int, ...))
    assert conversion_of(cls).fits is None
