"""ARG: arguments that make no sense are refused with an error that says so."""

from __future__ import annotations

from typing import Any, Final

from eventport import (
    ConcurrencyError,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidEventError,
    NewEvent,
    RecordedEvent,
)

from eventport_conformance.clause import clause
from eventport_conformance.material import collect, fill, make
from eventport_conformance.trial import Trial


_NOT_INT: Final[list[Any]] = ["1", 1.0, True, b"1", [1]]
_TOO_LARGE: Final = (2**63, 10**30)


@clause("ARG-01")
async def events_must_be_a_sequence(t: Trial) -> None:
    """Events that are a bare event, text, bytes, a dict or no iterable at all are refused."""
    await fill(t.store, "order", 1)
    values: list[Any] = [NewEvent("Placed", 1), "text", b"bytes", {"a": 1}, None, 7]
    for value in values:
        with t.raises(InvalidArgumentTypeError, f"append of {type(value).__name__}") as caught:
            await t.store.append("order", value)
        t.true(isinstance(caught.error, TypeError), "it is a TypeError")
        t.true(isinstance(caught.error, ValueError), "it is a ValueError, too")
    await t.untouched("order", 1, "events that are no sequence")


@clause("ARG-02")
async def each_event_must_be_a_new_event(t: Trial) -> None:
    """A sequence with anything in it that is not a NewEvent is refused."""
    await fill(t.store, "order", 1)
    (recorded,) = (await t.store.read("order")).events
    values: list[Any] = [None, {"type": "Placed"}, ("Placed", 1), "Placed", recorded]
    for value in values:
        with t.raises(InvalidEventError, f"append of [{type(value).__name__}]"):
            await t.store.append("order", [*make(1), value])
    await t.untouched("order", 1, "things that are no events")


@clause("ARG-03")
async def expectations_must_make_sense(t: Trial) -> None:
    """An expectation that is neither a version nor one of the names is refused."""
    await fill(t.store, "order", 1)
    values: list[Any] = [-1, -(2**63), *_TOO_LARGE, "", "Any", "exists", "1", "no stream"]
    for value in values:
        for events in (make(1), []):
            with t.raises(InvalidArgumentError, f"append expecting {value!r}") as caught:
                await t.store.append("order", events, expected=value)
            t.true(isinstance(caught.error, ValueError), "it is a ValueError")
        with t.raises(InvalidArgumentError, f"read expecting {value!r}"):
            await t.store.read("order", expected=value)
    await t.untouched("order", 1, "expectations that make no sense")


@clause("ARG-04")
async def expectations_must_be_of_a_type(t: Trial) -> None:
    """An expectation of another type is refused; True is not version 1."""
    await fill(t.store, "order", 1)
    values: list[Any] = [None, 1.0, True, False, b"any", [1], object()]
    for value in values:
        with t.raises(InvalidArgumentTypeError, f"append expecting {value!r}") as caught:
            await t.store.append("order", make(1), expected=value)
        t.true(isinstance(caught.error, TypeError), "it is a TypeError")
        with t.raises(InvalidArgumentTypeError, f"read expecting {value!r}"):
            await t.store.read("order", expected=value)
    await t.untouched("order", 1, "expectations of another type")


@clause("ARG-05")
async def from_version_starts_at_1(t: Trial) -> None:
    """`from_version` below 1, beyond int64 or not an integer is refused."""
    await fill(t.store, "order", 2)
    values: list[Any] = [0, -1, *_TOO_LARGE, None, *_NOT_INT]
    for value in values:
        with t.raises(InvalidArgumentError, f"read from {value!r}"):
            await t.store.read("order", from_version=value)
        with t.raises(InvalidArgumentError, f"iterate from {value!r}"):
            await collect(t.store.iterate("order", from_version=value))
    await t.untouched("order", 2, "bad lower bounds")


@clause("ARG-06")
async def to_version_starts_at_0(t: Trial) -> None:
    """`to_version` below 0, beyond int64 or not an integer is refused."""

    def evolve(state: int, _: RecordedEvent) -> int:
        return state

    await fill(t.store, "order", 2)
    values: list[Any] = [-1, *_TOO_LARGE, *_NOT_INT]
    for value in values:
        with t.raises(InvalidArgumentError, f"read to {value!r}"):
            await t.store.read("order", to_version=value)
        with t.raises(InvalidArgumentError, f"iterate to {value!r}"):
            await collect(t.store.iterate("order", to_version=value))
        with t.raises(InvalidArgumentError, f"aggregate to {value!r}"):
            await t.store.aggregate("order", evolve, int, to_version=value)
    await t.untouched("order", 2, "bad upper bounds")


@clause("ARG-07")
async def max_count_starts_at_0(t: Trial) -> None:
    """`max_count` below 0, beyond int64 or not an integer is refused."""
    await fill(t.store, "order", 2)
    values: list[Any] = [-1, *_TOO_LARGE, *_NOT_INT]
    for value in values:
        with t.raises(InvalidArgumentError, f"read of at most {value!r}"):
            await t.store.read("order", max_count=value)
    await t.untouched("order", 2, "bad counts")


@clause("ARG-08")
async def types_are_told_from_values(t: Trial) -> None:
    """A number of the wrong type is also a TypeError."""
    await fill(t.store, "order", 2)
    for value in _NOT_INT:
        with t.raises(InvalidArgumentTypeError, f"read from {value!r}") as caught:
            await t.store.read("order", from_version=value)
        t.true(isinstance(caught.error, TypeError), "it is a TypeError")
        with t.raises(InvalidArgumentTypeError, f"read of at most {value!r}"):
            await t.store.read("order", max_count=value)
    await t.untouched("order", 2, "numbers of the wrong type")


@clause("ARG-09", needs=("global_order",))
async def positions_start_at_0(t: Trial) -> None:
    """`after` and `max_count` of reads of all streams are refused below 0 or not an integer."""
    await fill(t.store, "order", 2)
    values: list[Any] = [-1, *_TOO_LARGE, *_NOT_INT]
    for value in values:
        with t.raises(InvalidArgumentError, f"read_all after {value!r}"):
            await t.store.read_all(after=value)
        with t.raises(InvalidArgumentError, f"read_all of at most {value!r}"):
            await t.store.read_all(max_count=value)
        with t.raises(InvalidArgumentError, f"iterate_all after {value!r}"):
            await collect(t.store.iterate_all(after=value))
        with t.raises(InvalidArgumentError, f"subscribe after {value!r}"):
            async with t.store.subscribe(after=value):
                pass
    await t.untouched("order", 2, "bad positions")


@clause("ARG-10", needs=("global_order",))
async def types_must_be_a_collection(t: Trial) -> None:
    """`types` must be a collection of names: text is none, and an empty one matches nothing."""
    await fill(t.store, "order", 1)
    t.equal(len((await t.store.read_all(types=["Counted"])).events), 1, "events of a type")
    with t.raises(InvalidArgumentError, "read_all of no types"):
        await t.store.read_all(types=[])
    values: list[Any] = ["Counted", b"Counted", 7, iter(["Counted"])]
    for value in values:
        with t.raises(InvalidArgumentError, f"read_all of types {value!r}"):
            await t.store.read_all(types=value)
        with t.raises(InvalidArgumentError, f"subscribe to types {value!r}"):
            async with t.store.subscribe(types=value):
                pass
    prefixes: list[Any] = [7, b"order", ["order"]]
    for value in prefixes:
        with t.raises(InvalidArgumentError, f"read_all of prefix {value!r}"):
            await t.store.read_all(prefix=value)


@clause("ARG-11")
async def bad_arguments_come_before_conflicts(t: Trial) -> None:
    """A bad event is refused as such, even where its expectation would conflict."""
    await fill(t.store, "order", 2)
    with t.raises(ConcurrencyError, "good event expecting 1"):
        await t.store.append("order", make(1), expected=1)
    with t.raises(InvalidEventError, "bad event expecting 1"):
        await t.store.append("order", [NewEvent("Bad", float("nan"))], expected=1)
    await t.untouched("order", 2, "appends that were refused")


@clause("ARG-12")
async def sessions_refuse_alike(t: Trial) -> None:
    """Appends and reads in a session refuse the arguments that the store refuses."""
    await fill(t.store, "order", 1)
    bare: Any = NewEvent("Placed", 1)
    async with t.store.session() as session:
        with t.raises(InvalidArgumentTypeError, "append of a bare event in a session"):
            await session.append("order", bare)
        with t.raises(InvalidArgumentError, "append expecting -1 in a session"):
            await session.append("order", make(1), expected=-1)
        with t.raises(InvalidArgumentError, "read from 0 in a session"):
            await session.read("order", from_version=0)
        with t.raises(InvalidArgumentError, "read of at most -1 in a session"):
            await session.read("order", max_count=-1)
        with t.raises(InvalidEventError, "append of NaN in a session"):
            await session.append("order", [NewEvent("Bad", float("nan"))])
        await session.append("order", make(1))
    await t.untouched("order", 2, "bad arguments in a session")
