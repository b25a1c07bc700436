"""ODD: streams that other programs delete or truncate, past the store."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from eventport import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    ConcurrencyError,
    Expectation,
    NewEvent,
    RecordedEvent,
)

from eventport_conformance.clause import clause
from eventport_conformance.helpers import fill, make
from eventport_conformance.trial import Trial


_FAR: Final = 99
"""A version that no stream here reaches: what is truncated before it has no events left."""


async def _is_read(t: Trial, stream: str, events: Sequence[NewEvent], version: int) -> None:
    """Fail unless a stream has these events last, and this version."""
    read = await t.store.read(stream)
    t.equal(read.version, version, f"head of {stream}")
    t.recorded(read.events[-len(events) :], events, f"newest events of {stream}")
    first = version - len(events) + 1
    t.versions(read.events[-len(events) :], range(first, version + 1), f"newest of {stream}")


@clause("ODD-04", uses=("delete_stream",))
async def a_deleted_stream(t: Trial) -> None:
    """A stream that another program has deleted reads as missing; an append makes it anew, is
    written once, and returns the versions that reads return.
    """
    expectations: tuple[Expectation, ...] = (NO_STREAM, 0, ANY)
    for number, expected in enumerate(expectations):
        stream = f"order-{number}"
        old = await fill(t.store, stream, 3)
        await t.harness.delete_stream(stream)
        gone = await t.store.read(stream)
        t.equal((gone.events, gone.version, gone.exists), ([], 0, False), "the deleted stream")
        with t.raises(ConcurrencyError, "append to a deleted stream expecting that it exists"):
            await t.store.append(stream, make(1), expected=STREAM_EXISTS)
        new = old if expected == NO_STREAM else make(2)  # the same ids are written again
        result = await t.store.append(stream, new, expected=expected)
        t.true(not result.deduplicated, f"it is written, expecting {expected!r}")
        await _is_read(t, stream, new, result.version)
        after = make(1)
        again = await t.store.append(stream, after, expected=result.version)
        t.equal(again.version, result.version + 1, "version of the next append")
        await _is_read(t, stream, after, again.version)


@clause("ODD-05", needs=("sessions", "hooks"), uses=("delete_stream",))
async def a_deleted_stream_in_a_session(t: Trial) -> None:
    """A session over two streams commits both if another program has deleted one of them, and hooks
    get what reads return.
    """
    given = _hooked(t)
    expectations: tuple[Expectation, ...] = (NO_STREAM, 0, ANY)
    for number, expected in enumerate(expectations):
        one, two = f"a-{number}", f"b-{number}"
        await fill(t.store, one, 3)
        await t.harness.delete_stream(one)
        new, other = make(2), make(1)
        given.clear()
        async with t.store.session() as session:
            await session.append(one, new, expected=expected)
            await session.append(two, other)
        read = [*(await t.store.read(one)).events, *(await t.store.read(two)).events]
        t.recorded(read, [*new, *other], f"events of a session expecting {expected!r}")
        t.equal(given, read, "events that the hook was given")


@clause("ODD-06", uses=("truncate_stream",))
async def a_truncated_stream(t: Trial) -> None:
    """A stream keeps its version if another program removes its first events, or all of them, and
    expectations are checked against that version.
    """
    for before, left in ((4, [4, 5]), (_FAR, [])):
        stream = f"order-{before}"
        await fill(t.store, stream, 5)
        await t.harness.truncate_stream(stream, before)
        read = await t.store.read(stream)
        t.versions(read.events, left, f"truncated before {before}")
        t.equal((read.version, read.exists), (5, True), "version, and whether it exists")
        backwards = await t.store.read(stream, backwards=True, max_count=1)
        t.versions(backwards.events, left[-1:], "the newest event")
        nothing = await t.store.append(stream, [], expected=5)
        t.equal(nothing.version, 5, "version returned by an append of nothing")
        for wrong in (NO_STREAM, 4, 6):
            with t.raises(ConcurrencyError, f"append expecting {wrong!r}") as caught:
                await t.store.append(stream, make(1), expected=wrong)
            t.equal(getattr(caught.error, "actual", None), 5, f"actual, expecting {wrong!r}")
        expectations: tuple[Expectation, ...] = (5, STREAM_EXISTS, ANY)
        for head, expected in enumerate(expectations, 6):
            result = await t.store.append(stream, make(1), expected=expected)
            t.equal((result.version, result.created), (head, False), f"expecting {expected!r}")
        t.equal((await t.store.read(stream)).version, 8, "version after three appends")


@clause("ODD-07", needs=("hooks",), uses=("truncate_stream",))
async def a_truncated_stream_with_hooks(t: Trial) -> None:
    """An append succeeds even if its events are hidden at once, because another program has
    truncated the stream; hooks get what reads return.
    """
    given = _hooked(t)
    for before in (4, _FAR):
        stream = f"order-{before}"
        await fill(t.store, stream, 5)
        await t.harness.truncate_stream(stream, before)
        given.clear()
        for head, count in ((6, 1), (9, 3)):
            result = await t.store.append(stream, make(count), expected=head - count)
            t.equal((result.version, result.created), (head, False), f"append of {count}")
        read = await t.store.read(stream, from_version=6)
        t.equal((given, read.version), (read.events, 9), "events that the hook was given")


@clause("ODD-08", needs=("sessions", "hooks"), uses=("truncate_stream",))
async def a_truncated_stream_in_a_session(t: Trial) -> None:
    """A session over two streams commits both if another program has truncated one of them, and
    hooks get what reads return.
    """
    given = _hooked(t)
    for before in (4, _FAR):
        one, two = f"a-{before}", f"b-{before}"
        await fill(t.store, one, 5)
        await t.harness.truncate_stream(one, before)
        given.clear()
        async with t.store.session() as session:
            read = await session.read(one)
            t.equal((read.version, read.exists), (5, True), "the stream as the session sees it")
            result = await session.append(one, make(2), expected=5)
            t.equal(result.version, 7, "version that the session returns")
            await session.append(two, make(1))
        t.equal((await t.store.read(one)).version, 7, "version after the session")
        first = await t.store.read(one, from_version=6)
        t.equal(
            given, [*first.events, *(await t.store.read(two)).events], "what the hook was given"
        )


def _hooked(t: Trial) -> list[RecordedEvent]:
    """Register a hook, and return the list of what it is given."""
    given: list[RecordedEvent] = []

    async def take(events: Sequence[RecordedEvent]) -> None:
        given.extend(events)

    cast("Any", t.bare).after_commit(take)
    return given
