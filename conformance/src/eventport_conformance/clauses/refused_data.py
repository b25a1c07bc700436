"""DAT: what could not come out equal and of the same type is refused."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid

from collections import OrderedDict
from typing import Any, cast

from eventport import (
    ConcurrencyError,
    EventportError,
    Expectation,
    InvalidEventError,
    NewEvent,
    PayloadTooLargeError,
)

from eventport_conformance.clause import clause
from eventport_conformance.helpers import make
from eventport_conformance.trial import Trial


class _Text(str):
    """Text of a class of its own."""

    __slots__ = ()


class _Number(enum.IntEnum):
    ONE = 1


async def _refused(t: Trial, *values: Any) -> None:
    """Check that events with values that no store can hold unharmed are refused."""
    await t.store.append("data", make(1))
    for value in values:
        shown = f"{ascii(value)[:40]} ({type(value).__name__})"
        for event in (
            NewEvent("Bad", value),
            NewEvent("Bad", {"items": [1, {"value": value}]}),
            NewEvent("Bad", 1, {"value": value}),
        ):
            if event.data is value and isinstance(value, bytes):
                continue  # bytes are fine as the whole of data
            with t.raises(InvalidEventError, f"append of an event with {shown}"):
                await t.store.append("data", [*make(1), event])
    await t.untouched("data", 1, "events that cannot be stored")


@clause("DAT-22")
async def large_integers_are_refused(t: Trial) -> None:
    """Integers beyond int64 are refused."""
    await _refused(t, 2**63, -(2**63) - 1, 2**64, 10**30)


@clause("DAT-23")
async def nan_and_infinity_are_refused(t: Trial) -> None:
    """NaN and the infinities are refused."""
    await _refused(t, float("nan"), float("inf"), float("-inf"))


@clause("DAT-24")
async def lone_surrogates_are_refused(t: Trial) -> None:
    """Text with a lone surrogate is refused, as a value and as a key."""
    await _refused(t, "\ud800", "a\udfffb", {"\ud800": 1})


@clause("DAT-25")
async def keys_must_be_text(t: Trial) -> None:
    """Keys that are not text are refused."""
    await _refused(t, {1: 1}, {None: 1}, {True: 1}, {1.5: 1}, {(1, 2): 1}, {b"a": 1})


@clause("DAT-26")
async def null_in_a_key_is_refused(t: Trial) -> None:
    """U+0000 in a key is refused."""
    await _refused(t, {"\0": 1}, {"a\0b": 1}, {"a": {"\0": 1}})


@clause("DAT-27")
async def other_types_are_refused(t: Trial) -> None:
    """Values that JSON has no type for are refused, not turned into something else."""
    now = dt.datetime(2024, 2, 29, tzinfo=dt.UTC)
    values: list[Any] = [
        (1, 2),
        {1, 2},
        frozenset({1}),
        now,
        now.date(),
        now.time(),
        dt.timedelta(1),
        uuid.UUID(int=1),
        decimal.Decimal("1.5"),
        1j,
        object(),
        range(3),
        b"bytes in a container",
        bytearray(b"x"),
        memoryview(b"x"),
        len,
        Trial,
        ...,
    ]
    await _refused(t, *values)


@clause("DAT-28")
async def subclasses_are_refused(t: Trial) -> None:
    """Values of subclasses are refused, because they would come out as their base."""
    await _refused(t, OrderedDict(a=1), _Number.ONE, _Text("x"), NewEvent("A", 1))


@clause("DAT-29")
async def circles_are_refused(t: Trial) -> None:
    """Data that contains itself is refused."""
    circle: list[Any] = [1]
    circle.append(circle)
    loop: dict[str, Any] = {}
    loop["loop"] = [loop]
    await t.store.append("data", make(1))
    for value in (circle, loop):
        with t.raises(InvalidEventError, "append of data that holds itself"):
            await t.store.append("data", [NewEvent("Bad", value)])
    await t.untouched("data", 1, "data that holds itself")


@clause("DAT-30")
async def what_is_shared_comes_out_twice(t: Trial) -> None:
    """An object that occurs twice in data comes out twice."""
    shared = {"a": [1]}
    event = NewEvent("Mine", {"one": shared, "two": [shared, shared]})
    await t.store.append("data", [event])
    t.recorded((await t.store.read("data")).events, [event], "event read")


@clause("DAT-31")
async def metadata_must_be_an_object(t: Trial) -> None:
    """Metadata that is not a dict is refused."""
    await t.store.append("data", make(1))
    values: list[Any] = [None, [], "text", 1, b"", [("a", 1)], OrderedDict(a=1)]
    for value in values:
        with t.raises(InvalidEventError, f"metadata {value!r}"):
            await t.store.append("data", [NewEvent("Bad", 1, value)])
    await t.untouched("data", 1, "metadata that is no object")


@clause("DAT-32")
async def an_id_must_be_a_uuid(t: Trial) -> None:
    """An id that is not a UUID is refused, even if it is the text of one."""
    await t.store.append("data", make(1))
    values: list[Any] = [str(uuid.uuid4()), 1, None, uuid.uuid4().bytes]
    for value in values:
        with t.raises(InvalidEventError, f"id {value!r}"):
            await t.store.append("data", [NewEvent("Bad", 1, id=value)])
    await t.untouched("data", 1, "ids that are no UUIDs")


_MARK = "ada.lovelace@example.org"
_MARKED = [NewEvent("Marked", {"email": _MARK, "list": [1, _MARK]}, {"by": _MARK})]


def _says_nothing(t: Trial, error: EventportError, what: str) -> None:
    """Check that the texts of an error hold no value of an event."""
    notes = getattr(error, "__notes__", [])
    for name, text in (("text", str(error)), ("repr", repr(error)), ("notes", str(notes))):
        t.true(_MARK not in text, f"the {name} of the error holds no value: {what}", text)


@clause("DAT-33")
async def errors_hold_no_values(t: Trial) -> None:
    """The texts of errors hold no values of data or metadata, whatever was wrong."""
    await t.store.append("data", make(1))
    spoiled: list[Any] = [(_MARK,), {_MARK}, _Text(_MARK), _MARK.encode(), _MARK + "\ud800", 2**70]
    bad: dict[str, Any] = {}
    for value in spoiled:
        kind = type(value).__name__
        bad[f"data with {kind} in a list"] = [NewEvent("Bad", [_MARK, value])]
        bad[f"data with {kind}"] = [NewEvent("Bad", {"email": _MARK, "bad": value})]
        bad[f"metadata with {kind}"] = [NewEvent("Bad", 1, {"email": _MARK, "bad": value})]
    bad |= {
        "metadata that is text": [NewEvent("Bad", 1, cast("Any", _MARK))],
        "data in place of an event": [{"email": _MARK}],
        "text in place of events": _MARK,
        "bytes in place of events": _MARK.encode(),
        "an event in place of a list": _MARKED[0],
        "one id twice": [*_MARKED, *_MARKED],
    }
    for what, events in bad.items():
        with t.raises(EventportError, what) as caught:
            await t.store.append("data", events)
        _says_nothing(t, caught.error, what)
    expectations: list[Expectation] = [0, 7, "no_stream"]
    for expected in expectations:
        with t.raises(ConcurrencyError, f"append at {expected!r}") as caught:
            await t.store.append("data", _MARKED, expected=expected)
        _says_nothing(t, caught.error, f"append at {expected!r}")
    with t.raises(ConcurrencyError, "a session whose stream moved") as caught:
        async with t.store.session() as session:
            await session.append("data", [NewEvent("Marked", {"email": _MARK})])
            await t.store.append("data", _MARKED)
    _says_nothing(t, caught.error, "a session whose stream moved")
    await t.untouched("data", 2, "events that were refused")


@clause("DAT-34", uses=("refused_event",))
async def an_error_about_a_size_holds_no_values(t: Trial) -> None:
    """The text of a `PayloadTooLargeError` holds no values of the append's events."""
    events = [*_MARKED, t.harness.refused_event()]
    with t.raises(PayloadTooLargeError, "an append that is too large") as caught:
        await t.store.append("data", events)
    _says_nothing(t, caught.error, "an append that is too large")
