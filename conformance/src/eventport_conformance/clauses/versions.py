"""VER: how the events of a stream are counted."""

from __future__ import annotations

from eventport_conformance.clause import clause
from eventport_conformance.helpers import fill, make
from eventport_conformance.trial import Trial


@clause("VER-01")
async def the_first_event_has_version_1(t: Trial) -> None:
    """The first event of a stream has version 1."""
    result = await t.store.append("order", make(1))
    t.equal(result.version, 1, "version that the append returned")
    read = await t.store.read("order")
    t.versions(read.events, [1], "the stream")


@clause("VER-02")
async def versions_are_contiguous(t: Trial) -> None:
    """Versions count up by one, however the events are spread over appends."""
    returned = [(await t.store.append("order", make(n))).version for n in (1, 3, 2, 1)]
    t.equal(returned, [1, 4, 6, 7], "versions that the appends returned")
    t.versions((await t.store.read("order")).events, range(1, 8), "the stream")


@clause("VER-03")
async def a_missing_stream_has_version_0(t: Trial) -> None:
    """A stream without events has version 0 and does not exist."""
    await fill(t.store, "other", 2)
    other = await t.store.read("other")
    t.equal((other.version, other.exists), (2, True), "head of a stream that exists")
    missing = await t.store.read("missing")
    t.equal((missing.version, missing.exists), (0, False), "head of a stream that does not")
    t.equal(missing.events, [], "events of a stream that does not exist")


@clause("VER-04")
async def streams_count_on_their_own(t: Trial) -> None:
    """An append to one stream moves no other stream."""
    for stream in ("a", "b", "a", "c", "b", "a"):
        await t.store.append(stream, make(1))
    heads = {stream: (await t.store.read(stream)).version for stream in "abc"}
    t.equal(heads, {"a": 3, "b": 2, "c": 1}, "heads of three streams")


@clause("VER-05")
async def the_version_returned_is_the_head_read(t: Trial) -> None:
    """The version that an append returns is the head that the next read sees."""
    returned: list[int] = []
    for count in (2, 1, 5):
        returned.append((await t.store.append("order", make(count))).version)
        t.equal((await t.store.read("order")).version, returned[-1], "head after the append")
    t.equal(returned, [2, 3, 8], "versions that the appends returned")


@clause("VER-06")
async def an_event_names_its_stream(t: Trial) -> None:
    """An event that is read says which stream it is from."""
    await fill(t.store, "a", 2)
    await fill(t.store, "b", 1)
    read = await t.store.read("a")
    t.equal([event.stream for event in read.events], ["a", "a"], "streams of the events of a")
    read = await t.store.read("b")
    t.equal([event.stream for event in read.events], ["b"], "streams of the events of b")


@clause("VER-07")
async def versions_are_plain_integers(t: Trial) -> None:
    """Versions are plain integers, and whether a stream exists is a plain bool."""
    result = await t.store.append("order", make(1))
    read = await t.store.read("order")
    kinds = [type(value) for value in (result.version, read.version, read.events[0].version)]
    t.equal(kinds, [int, int, int], "types of the versions")
    t.true(read.exists is True, "the stream exists", read.exists)
