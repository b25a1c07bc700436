"""DAT: what goes in comes out, equal and of the same type."""

from __future__ import annotations

import datetime as dt
import uuid

from typing import Any

from eventport import InvalidEventError, NewEvent

from eventport_conformance.clause import clause
from eventport_conformance.helpers import make
from eventport_conformance.trial import Trial


async def _comes_out(t: Trial, *values: Any) -> None:
    """Append values, as data and in metadata, and compare them with what a read gives."""
    events = [NewEvent("Data", value) for value in values]
    events += [
        NewEvent("Metadata", None, {"value": value})
        for value in values
        if not isinstance(value, bytes)
    ]
    await t.store.append("data", events)
    read = await t.store.read("data")
    t.equal(len(read.events), len(events), "number of events read")
    for event, recorded in zip(events, read.events, strict=True):
        t.recorded([recorded], [event], f"the {event.type.lower()} read")


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels // 2):
        value = {"in": [value]}
    return [value] if levels % 2 else value


@clause("DAT-01")
async def constants(t: Trial) -> None:
    """None, True and False come out as they went in, alone or in containers."""
    values = [None, True, False]
    await _comes_out(t, *values, values, {"a": None, "b": False})


@clause("DAT-02")
async def integers(t: Trial) -> None:
    """Every int64 comes out as it went in."""
    edges = [0, 1, -1, 2**31, 2**32, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
    await _comes_out(t, *edges, edges)


@clause("DAT-03")
async def floats(t: Trial) -> None:
    """Every finite float comes out as it went in, to the last bit."""
    values = [0.1, -2.5, 1e300, -1e-300, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308]
    await _comes_out(t, *values, values, 0.1 + 0.2, 1 / 3)


@clause("DAT-04")
async def whole_floats_stay_floats(t: Trial) -> None:
    """A float without a fraction stays a float, and the sign of zero stays."""
    await _comes_out(t, 1.0, -0.0, 0.0, 1e16, 1e22, -3.0, [1.0, 1, -0.0, 0], {"a": 2.0, "b": 2})


@clause("DAT-05")
async def bools_are_no_numbers(t: Trial) -> None:
    """True stays True and does not become 1, nor False 0, nor the reverse."""
    await _comes_out(t, [True, 1, 1.0, False, 0, 0.0], {"1": True, "one": 1})


@clause("DAT-06")
async def text(t: Trial) -> None:
    """Text in every script comes out as it went in, character by character."""
    await _comes_out(
        t,
        "",
        " ",
        "plain",
        "Zażółć gęślą jaźń",
        "日本語のテキスト",
        "\u202eright to left\u202c",
        "\U0001f980\U0001f469\u200d\U0001f680",
        "\U0010ffff\uffff\ufeff",
        "e\u0301 is not é",
        "line\nbreak\r\ttab\\ \"quoted\" 'single' </script>",
        "\u2028\u2029\x7f\x85\xa0",
        "".join(map(chr, range(1, 32))),
    )


@clause("DAT-07")
async def the_null_character(t: Trial) -> None:
    """U+0000 in text comes out as it went in."""
    await _comes_out(t, "\0", "a\0b", "\0\0", ["\0"], {"a": "b\0"}, "\\u0000", "\\\0")


@clause("DAT-08")
async def text_that_looks_like_something_else(t: Trial) -> None:
    """Text that looks like a number, a date or JSON stays text."""
    await _comes_out(
        t,
        "1",
        "-0",
        "1e5",
        "123456789012345678901234567890",
        "true",
        "null",
        "NaN",
        "2024-02-29",
        "2024-02-29T12:00:00Z",
        "2024-02-29T12:00:00.123456+00:00",
        "{}",
        '{"a": 1}',
        "[1]",
        str(uuid.UUID(int=1)),
        "aGVsbG8=",
        "$oid",
    )


@clause("DAT-09")
async def containers(t: Trial) -> None:
    """Lists and objects, empty and nested, come out as they went in."""
    await _comes_out(
        t,
        [],
        {},
        [[]],
        [{}],
        {"a": {}},
        {"a": []},
        [[], {}, [[1], [2, [3]]]],
        {"a": {"b": {"c": 1}}},
    )


@clause("DAT-10")
async def the_order_of_keys(t: Trial) -> None:
    """The keys of an object come out in the order in which they went in."""
    await _comes_out(
        t,
        {"b": 1, "a": 2, "c": 3},
        {"z": {"y": 1, "x": 2}, "10": 1, "9": 2, "1": 3},
        {"a" * n: n for n in (9, 1, 5, 3)},
    )


@clause("DAT-11")
async def odd_keys(t: Trial) -> None:
    """Keys may be empty, and hold dots, dollars, quotes and any other character but U+0000."""
    keys = ["", " ", ".", "a.b", "$", "$set", "$date", "_id", "__proto__", "é", "e\u0301", "0"]
    keys += ["'", '"', "\\", "\n", "\U0001f980", "type", "stream", "version", "a" * 500]
    await _comes_out(t, *[{key: 1} for key in keys], dict.fromkeys(keys, 2), {"$date": "x"})


@clause("DAT-12")
async def deep_nesting(t: Trial) -> None:
    """Data may be nested 64 levels deep, counting data itself."""
    events = [NewEvent("Deep", _nested(64)), NewEvent("Deep", 1, {"in": _nested(63)})]
    await t.store.append("data", events)
    t.recorded((await t.store.read("data")).events, events, "deep data read")


@clause("DAT-13")
async def too_deep_nesting_is_refused(t: Trial) -> None:
    """Data nested deeper than 64 levels is refused."""
    await t.store.append("data", make(1))
    for event in (
        NewEvent("Deep", _nested(65)),
        NewEvent("Deep", 1, {"in": _nested(64)}),
        NewEvent("Deep", _nested(5_000)),
    ):
        with t.raises(InvalidEventError, "append of data nested too deep"):
            await t.store.append("data", [event])
    await t.untouched("data", 1, "data nested too deep")


@clause("DAT-14")
async def binary(t: Trial) -> None:
    """Bytes as the whole of data come out as they went in."""
    await _comes_out(
        t,
        b"",
        b"\0",
        bytes(range(256)),
        b'{"a": 1}',
        b"null",
        b"\xff\xfe",
        b"text",
        b"\x80" * 70_000,
    )


@clause("DAT-15")
async def metadata_is_kept(t: Trial) -> None:
    """Metadata is a JSON object, empty by default, and comes out as it went in."""
    events = [
        NewEvent("Plain", 1),
        NewEvent("Full", 1, {"user": "ada", "n": {"deep": [1.0, None]}, "": ""}),
        NewEvent("Bytes", b"\0", {"of": "bytes"}),
    ]
    await t.store.append("data", events)
    read = await t.store.read("data")
    t.equal(read.events[0].metadata, {}, "metadata of an event without")
    t.recorded(read.events, events, "events read")


@clause("DAT-16")
async def metadata_cannot_override(t: Trial) -> None:
    """Metadata with the names of the store's own fields changes none of them."""
    fields = ["stream", "version", "position", "type", "id", "data", "metadata", "recorded_at"]
    fields += ["stream_position", "streamPosition", "global_position", "$type", "_id", "eventId"]
    event = NewEvent("Mine", {"real": True}, dict.fromkeys(fields, 99))
    await t.store.append("data", [event])
    await t.store.append("data", make(1))
    first, second = (await t.store.read("data")).events
    t.recorded([first], [event], "the event read")
    t.equal((first.stream, first.version), ("data", 1), "its stream and version")
    t.true(first.position != 99 and first.position < second.position, "its position is true")


@clause("DAT-17")
async def ids_are_kept(t: Trial) -> None:
    """The id of an event is a UUID of any version, and comes out as it went in."""
    ids = [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1), uuid.uuid4(), uuid.uuid1()]
    await t.store.append("data", [NewEvent("Mine", 1, id=id_) for id_ in ids])
    read = (await t.store.read("data")).events
    t.equal([event.id for event in read], ids, "ids read")
    t.equal([type(event.id) for event in read], [uuid.UUID] * 4, "types of the ids")


@clause("DAT-18")
async def recorded_at_is_the_time(t: Trial) -> None:
    """`recorded_at` is the time of the commit, aware, in UTC, the same at every read."""
    before = dt.datetime.now(dt.UTC)
    await t.store.append("data", make(2))
    after = dt.datetime.now(dt.UTC)
    first = (await t.store.read("data")).events
    second = (await t.store.read("data")).events
    slack = dt.timedelta(minutes=10)  # a server has its own clock
    for event in first:
        t.equal(event.recorded_at.utcoffset(), dt.timedelta(0), "offset from UTC")
        t.true(event.recorded_at.tzinfo is dt.UTC, "its zone is datetime.UTC", event.recorded_at)
        held = before - slack <= event.recorded_at <= after + slack
        t.true(held, "it is the time of the append", event.recorded_at)
    t.equal(len(first), 2, "number of events")
    t.equal(second, first, "events of the second read")


@clause("DAT-19")
async def recorded_at_has_microseconds(t: Trial) -> None:
    """`recorded_at` is exact to the microsecond, and does not go back within a stream."""
    for _ in range(12):
        await t.store.append("data", make(1))
    times = [event.recorded_at for event in (await t.store.read("data")).events]
    t.equal(len(times), 12, "number of events")
    t.equal(times, sorted(times), "times, sorted")
    t.true(any(time.microsecond % 1000 for time in times), "some time has microseconds", times)


@clause("DAT-20")
async def later_changes_change_nothing(t: Trial) -> None:
    """Changing an object after its append changes nothing that is stored."""
    data: dict[str, Any] = {"items": [1, 2], "sub": {"a": 1}}
    metadata: dict[str, Any] = {"tags": ["x"]}
    await t.store.append("data", [NewEvent("Mine", data, metadata)])
    data["items"].append(3)
    data["sub"]["a"] = 2
    data["new"] = True
    metadata["tags"].clear()
    (event,) = (await t.store.read("data")).events
    t.equal(event.data, {"items": [1, 2], "sub": {"a": 1}}, "data read")
    t.equal(event.metadata, {"tags": ["x"]}, "metadata read")


@clause("DAT-21")
async def each_read_is_a_copy(t: Trial) -> None:
    """Changing what a read gave changes nothing that is stored."""
    event = NewEvent("Mine", {"items": [1]}, {"tags": ["x"]})
    await t.store.append("data", [event])
    for _ in range(2):
        (read,) = (await t.store.read("data")).events
        t.recorded([read], [event], "event read")
        read.data["items"].append(2)
        read.metadata["tags"].append("y")
        read.metadata["more"] = 1
