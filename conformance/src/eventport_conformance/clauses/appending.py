"""APP: what an append does and says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventport import ANY, NO_STREAM, Expectation, InvalidEventError, NewEvent

from eventport_conformance.clause import clause
from eventport_conformance.helpers import fill, make
from eventport_conformance.trial import Trial


@clause("APP-01")
async def events_come_out_in_order(t: Trial) -> None:
    """The events of an append are stored in the order in which they were given."""
    events = make(20)
    await t.store.append("order", events)
    t.recorded((await t.store.read("order")).events, events, "events read")


@clause("APP-02")
async def later_appends_come_after(t: Trial) -> None:
    """Events of a later append come after those of an earlier one."""
    events = make(6)
    for first in (0, 2, 4):
        await t.store.append("order", events[first : first + 2])
    t.recorded((await t.store.read("order")).events, events, "events read")


@clause("APP-03")
async def an_empty_append_changes_nothing(t: Trial) -> None:
    """An append of no events writes nothing and returns the current version."""
    await fill(t.store, "order", 2)
    result = await t.store.append("order", [])
    t.equal(result.version, 2, "version that the empty append returned")
    await t.untouched("order", 2, "empty append")


@clause("APP-04")
async def an_empty_append_creates_nothing(t: Trial) -> None:
    """An append of no events to a stream that does not exist does not create it."""
    result = await t.store.append("order", [])
    t.equal((result.version, result.created), (0, False), "result of the empty append")
    read = await t.store.read("order")
    t.equal((read.version, read.exists), (0, False), "head of the stream")
    result = await t.store.append("order", make(1), expected=NO_STREAM)
    t.true(result.created is True, "created, by the append after it")


@clause("APP-05")
async def an_empty_append_has_no_position(t: Trial) -> None:
    """An append of no events has no position and is not deduplicated."""
    await fill(t.store, "order", 1)
    result = await t.store.append("order", [], expected=1)
    seen = (result.version, result.position, result.created, result.deduplicated)
    t.equal(seen, (1, None, False, False), "result of the empty append")


@clause("APP-06")
async def created_is_true_once(t: Trial) -> None:
    """`created` is true for the append that created the stream, and for no other."""
    expectations: Sequence[Expectation] = (ANY, NO_STREAM, 0)
    for number, expected in enumerate(expectations):
        stream = f"order-{number}"
        first = await t.store.append(stream, make(2), expected=expected)
        second = await t.store.append(stream, make(1))
        third = await t.store.append(stream, make(1), expected=3)
        seen = [first.created, second.created, third.created]
        t.equal(seen, [True, False, False], f"created, the first append expecting {expected!r}")


@clause("APP-07")
async def a_generator_is_taken_once(t: Trial) -> None:
    """Events may come from a generator, which is iterated once."""
    events = make(3)
    pulled: list[int] = []

    def generate() -> Any:
        for number, event in enumerate(events):
            pulled.append(number)
            yield event

    result = await t.store.append("order", generate(), expected=NO_STREAM)
    t.equal((result.version, pulled), (3, [0, 1, 2]), "version, and how it was pulled")
    t.recorded((await t.store.read("order")).events, events, "events read")


@clause("APP-08")
async def any_iterable_will_do(t: Trial) -> None:
    """Events may come in a tuple, or as the values of a dictionary."""
    first, second = make(2), make(2, start=3)
    await t.store.append("order", tuple(first))
    await t.store.append("order", dict(enumerate(second)).values())
    t.recorded((await t.store.read("order")).events, first + second, "events read")


@clause("APP-09")
async def a_bad_event_stops_the_whole_append(t: Trial) -> None:
    """If one event of an append cannot be stored, none of them is."""
    await fill(t.store, "order", 1)
    for place in (0, 1, 2):
        events = make(3)
        events[place] = NewEvent("Bad", {"value": float("nan")})
        with t.raises(InvalidEventError, f"append with a bad event at place {place}"):
            await t.store.append("order", events)
    await t.untouched("order", 1, "appends with a bad event")


@clause("APP-10")
async def an_id_occurs_once_in_an_append(t: Trial) -> None:
    """Two events of one append with the same id are refused."""
    first, second = make(2)
    twin = NewEvent("Twin", 1, id=first.id)
    with t.raises(InvalidEventError, "append of two events with the same id"):
        await t.store.append("order", [first, second, twin])
    await t.untouched("order", 0, "append of two events with the same id")


@clause("APP-11")
async def an_append_is_not_deduplicated(t: Trial) -> None:
    """An append that writes its events is not reported as deduplicated."""
    expectations: Sequence[Expectation] = (NO_STREAM, 1, ANY)
    seen = [
        (await t.store.append("order", make(1), expected=expected)).deduplicated
        for expected in expectations
    ]
    t.equal(seen, [False, False, False], "deduplicated")
    t.versions((await t.store.read("order")).events, [1, 2, 3], "the stream")


@clause("APP-12")
async def the_callers_events_are_left_alone(t: Trial) -> None:
    """An append changes neither the list of events nor the events in it."""
    data: dict[str, Any] = {"b": [1, {"c": 2}], "a": None}
    metadata: dict[str, Any] = {"user": "ada"}
    events = [NewEvent("Placed", data, metadata)]
    kept = list(events)
    await t.store.append("order", events)
    t.equal(len(events), 1, "length of the caller's list")
    t.true(events[0] is kept[0], "the caller's list holds the same event")
    t.equal(data, {"b": [1, {"c": 2}], "a": None}, "the caller's data")
    t.equal(metadata, {"user": "ada"}, "the caller's metadata")
    t.versions((await t.store.read("order")).events, [1], "the stream")


@clause("APP-13", needs=("global_order",))
async def the_position_is_that_of_the_last_event(t: Trial) -> None:
    """The position that an append returns is that of its last event."""
    for count in (1, 3):
        result = await t.store.append("order", make(count))
        last = (await t.store.read("order")).events[-1]
        t.equal((last.version, last.position), (result.version, result.position), "last event")


@clause("APP-14")
async def many_streams(t: Trial) -> None:
    """A store may hold many streams side by side."""
    for number in range(100):
        await t.store.append(f"order-{number}", [NewEvent("Placed", number)])
    for number in (0, 1, 10, 99):
        read = await t.store.read(f"order-{number}")
        seen = [event.data for event in read.events]
        t.equal((seen, read.version), ([number], 1), f"stream {number}")


@clause("APP-15")
async def an_event_may_stand_in_two_streams(t: Trial) -> None:
    """The same event may be appended to two streams; each holds it as its own."""
    events = make(2)
    first = await t.store.append("a", events)
    second = await t.store.append("b", events)
    seen = [(result.version, result.created) for result in (first, second)]
    t.equal(seen, [(2, True), (2, True)], "results")
    for stream in "ab":
        t.recorded((await t.store.read(stream)).events, events, f"events of {stream}")
