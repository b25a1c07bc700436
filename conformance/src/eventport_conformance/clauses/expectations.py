"""EXP: what a caller expects of a stream is checked, in the same step as the write."""

from __future__ import annotations

from collections.abc import Sequence

from eventport import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    ConcurrencyError,
    EventportError,
    Expectation,
    RecordedEvent,
)

from eventport_conformance.clause import clause
from eventport_conformance.helpers import fill, make
from eventport_conformance.trial import Trial


async def _conflict(t: Trial, expected: Expectation, head: int, count: int = 1) -> None:
    """Check that an append is refused on a stream with this head, and leaves it alone."""
    if head:
        await fill(t.store, "order", head)
    what = f"append expecting {expected!r} at version {head}"
    with t.raises(ConcurrencyError, what) as caught:
        await t.store.append("order", make(count), expected=expected)
    error = caught.error
    assert isinstance(error, ConcurrencyError)  # noqa: S101  # for the type checker
    t.equal(
        (error.stream, error.expected, error.actual), ("order", expected, head), f"error: {what}"
    )
    await t.untouched("order", head, what)


@clause("EXP-01")
async def any_holds_always(t: Trial) -> None:
    """`any` holds for a stream that exists and for one that does not."""
    first = await t.store.append("order", make(1), expected=ANY)
    second = await t.store.append("order", make(1), expected="any")
    t.equal((first.version, second.version), (1, 2), "versions after appends expecting any")


@clause("EXP-02")
async def no_stream_holds_of_a_missing_stream(t: Trial) -> None:
    """`no_stream` holds for a stream that does not exist."""
    result = await t.store.append("order", make(2), expected=NO_STREAM)
    t.equal(result.version, 2, "version after an append expecting no_stream")


@clause("EXP-03")
async def no_stream_conflicts_with_an_existing_stream(t: Trial) -> None:
    """`no_stream` is a conflict for a stream that exists."""
    await _conflict(t, NO_STREAM, 1)


@clause("EXP-04")
async def zero_means_no_stream(t: Trial) -> None:
    """Version 0 holds for a stream that does not exist."""
    result = await t.store.append("order", make(2), expected=0)
    t.equal((result.version, result.created), (2, True), "result of an append expecting 0")


@clause("EXP-05")
async def zero_conflicts_with_an_existing_stream(t: Trial) -> None:
    """Version 0 is a conflict for a stream that exists."""
    await _conflict(t, 0, 2)


@clause("EXP-06")
async def stream_exists_holds_of_an_existing_stream(t: Trial) -> None:
    """`stream_exists` holds for a stream that has events."""
    await fill(t.store, "order", 1)
    result = await t.store.append("order", make(2), expected=STREAM_EXISTS)
    t.equal(result.version, 3, "version after an append expecting stream_exists")


@clause("EXP-07")
async def stream_exists_conflicts_with_a_missing_stream(t: Trial) -> None:
    """`stream_exists` is a conflict for a stream that does not exist."""
    await _conflict(t, STREAM_EXISTS, 0)


@clause("EXP-08")
async def the_exact_version_holds(t: Trial) -> None:
    """An exact version holds if it is the stream's head."""
    await fill(t.store, "order", 3)
    result = await t.store.append("order", make(2), expected=3)
    t.equal(result.version, 5, "version after an append expecting 3")
    result = await t.store.append("order", make(1), expected=5)
    t.equal(result.version, 6, "version after an append expecting 5")


@clause("EXP-09")
async def an_older_version_conflicts(t: Trial) -> None:
    """An exact version below the head is a conflict."""
    await _conflict(t, 2, 3)


@clause("EXP-10")
async def a_later_version_conflicts(t: Trial) -> None:
    """An exact version above the head is a conflict."""
    await _conflict(t, 4, 3)


@clause("EXP-11")
async def a_version_of_a_missing_stream_conflicts(t: Trial) -> None:
    """An exact version above 0 is a conflict for a stream that does not exist."""
    await _conflict(t, 1, 0)


@clause("EXP-12")
async def a_conflict_writes_none_of_several_events(t: Trial) -> None:
    """A conflict of an append of several events writes none of them."""
    await _conflict(t, 1, 2, count=5)


@clause("EXP-13")
async def a_version_can_be_used_once(t: Trial) -> None:
    """Of two appends that expect the same version, one after the other, the second conflicts."""
    await fill(t.store, "order", 1)
    await t.store.append("order", make(1), expected=1)
    with t.raises(ConcurrencyError, "second append expecting 1"):
        await t.store.append("order", make(1), expected=1)
    await t.untouched("order", 2, "second append expecting 1")


@clause("EXP-14")
async def a_conflict_can_be_told_from_bad_input(t: Trial) -> None:
    """A conflict is an error of eventport, not a ValueError, and its text names the stream."""
    await fill(t.store, "order-7", 3)
    with t.raises(ConcurrencyError, "append expecting 1 at version 3") as caught:
        await t.store.append("order-7", make(1), expected=1)
    t.true(isinstance(caught.error, EventportError), "the error is an EventportError")
    t.true(not isinstance(caught.error, ValueError | TypeError), "the error is no ValueError")
    text = str(caught.error)
    t.true(all(part in text for part in ("order-7", "1", "3")), "its text says it all", text)


@clause("EXP-15")
async def a_conflict_leaves_other_streams_free(t: Trial) -> None:
    """A conflict on one stream is no conflict on another."""
    await fill(t.store, "a", 2)
    with t.raises(ConcurrencyError, "append to a expecting no_stream"):
        await t.store.append("a", make(1), expected=NO_STREAM)
    result = await t.store.append("b", make(1), expected=NO_STREAM)
    t.equal((result.version, result.created), (1, True), "append to b expecting no_stream")


@clause("EXP-16")
async def an_empty_append_checks(t: Trial) -> None:
    """An append of no events checks its expectation."""
    await fill(t.store, "order", 2)
    t.equal((await t.store.append("order", [], expected=2)).version, 2, "empty append expecting 2")
    expectations: Sequence[Expectation] = (1, 3, 0, NO_STREAM)
    for expected in expectations:
        with t.raises(ConcurrencyError, f"empty append expecting {expected!r}") as caught:
            await t.store.append("order", [], expected=expected)
        t.equal(getattr(caught.error, "actual", None), 2, "actual version in the error")
    for expected in (STREAM_EXISTS, 1):
        with t.raises(ConcurrencyError, f"empty append expecting {expected!r}, no stream"):
            await t.store.append("missing", [], expected=expected)
    await t.untouched("order", 2, "empty appends")


@clause("EXP-17")
async def a_read_checks(t: Trial) -> None:
    """A read checks its expectation, and returns nothing if it does not hold."""
    await fill(t.store, "order", 2)
    good: Sequence[Expectation] = (2, STREAM_EXISTS, ANY)
    for expected in good:
        read = await t.store.read("order", expected=expected)
        t.versions(read.events, [1, 2], f"read expecting {expected!r}")
    bad: Sequence[Expectation] = (1, 3, 0, NO_STREAM)
    for expected in bad:
        with t.raises(ConcurrencyError, f"read expecting {expected!r}") as caught:
            await t.store.read("order", expected=expected)
        error = caught.error
        seen = (getattr(error, "stream", 0), getattr(error, "actual", 0))
        t.equal(seen, ("order", 2), "stream and actual version in the error")


@clause("EXP-18")
async def a_read_of_a_missing_stream_checks(t: Trial) -> None:
    """A read of a stream that does not exist checks its expectation."""
    good: Sequence[Expectation] = (NO_STREAM, 0, ANY)
    for expected in good:
        t.equal((await t.store.read("missing", expected=expected)).version, 0, "version")
    bad: Sequence[Expectation] = (STREAM_EXISTS, 1)
    for expected in bad:
        with t.raises(ConcurrencyError, f"read expecting {expected!r}"):
            await t.store.read("missing", expected=expected)


@clause("EXP-19")
async def a_read_expects_the_head_not_the_range(t: Trial) -> None:
    """What a read expects is about the stream's head, whatever range is read."""
    await fill(t.store, "order", 5)
    read = await t.store.read("order", from_version=2, to_version=3, expected=5)
    t.versions(read.events, [2, 3], "a range of a stream at version 5, expecting 5")
    read = await t.store.read("order", from_version=9, expected=5)
    t.equal(read.version, 5, "version of a read past the end, expecting 5")
    with t.raises(ConcurrencyError, "a range up to 3 of a stream at version 5, expecting 3"):
        await t.store.read("order", to_version=3, expected=3)
    with t.raises(ConcurrencyError, "no event of a stream at version 5, expecting no_stream"):
        await t.store.read("order", max_count=0, expected=NO_STREAM)


@clause("EXP-20")
async def a_fold_checks_first(t: Trial) -> None:
    """A fold checks its expectation before it folds anything."""
    await fill(t.store, "order", 3)
    folded: list[int] = []

    def evolve(state: int, event: RecordedEvent) -> int:
        folded.append(event.version)
        return state + 1

    result = await t.store.aggregate("order", evolve, int, expected=3)
    t.equal((result.state, folded), (3, [1, 2, 3]), "fold expecting 3")
    folded.clear()
    bad: Sequence[Expectation] = (2, 4, NO_STREAM)
    for expected in bad:
        with t.raises(ConcurrencyError, f"fold expecting {expected!r}"):
            await t.store.aggregate("order", evolve, int, expected=expected)
    with t.raises(ConcurrencyError, "fold of a missing stream expecting stream_exists"):
        await t.store.aggregate("missing", evolve, int, expected=STREAM_EXISTS)
    t.equal(folded, [], "versions folded although the expectation did not hold")
