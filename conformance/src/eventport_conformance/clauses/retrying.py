"""IDM: an append whose answer was lost can be sent again."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

from collections.abc import Sequence

from eventport import NO_STREAM, AppendResult, ConcurrencyError, Expectation, NewEvent

from eventport_conformance.clause import clause
from eventport_conformance.helpers import at_once, fill, make
from eventport_conformance.trial import Trial


async def _conflict(
    t: Trial, events: Sequence[NewEvent], expected: Expectation, head: int, what: str
) -> None:
    with t.raises(ConcurrencyError, what) as caught:
        await t.store.append("order", events, expected=expected)
    t.equal(getattr(caught.error, "actual", None), head, f"actual version: {what}")
    await t.untouched("order", head, what)


async def _retry(t: Trial, expected: Expectation, head: int) -> None:
    """Check that an append to a stream at this head can be sent again."""
    if head:
        await fill(t.store, "order", head)
    events = make(3)
    first = await t.store.append("order", events, expected=expected)
    t.equal((first.version, first.deduplicated), (head + 3, False), "the first try")
    for _ in range(2):
        again = await t.store.append("order", events, expected=expected)
        t.equal((again.version, again.deduplicated), (head + 3, True), "the same again")
    await t.untouched("order", head + 3, "the same append three times")


@clause("IDM-01")
async def no_stream_can_be_retried(t: Trial) -> None:
    """An append expecting `no_stream` that is sent again succeeds, and is written once."""
    await _retry(t, NO_STREAM, 0)


@clause("IDM-02")
async def zero_can_be_retried(t: Trial) -> None:
    """An append expecting version 0 that is sent again succeeds, and is written once."""
    await _retry(t, 0, 0)


@clause("IDM-03")
async def an_exact_version_can_be_retried(t: Trial) -> None:
    """An append expecting an exact version that is sent again succeeds, and is written once."""
    await _retry(t, 4, 4)


@clause("IDM-04")
async def the_original_result_is_returned(t: Trial) -> None:
    """A retry returns the version, the position and `created` of the original."""
    events, more = make(2), make(2)
    first = await t.store.append("order", events, expected=NO_STREAM)
    second = await t.store.append("order", more, expected=2)
    await t.store.append("order", make(3))
    for sent, expected, original in ((events, 0, first), (more, 2, second)):
        again = await t.store.append("order", sent, expected=expected)
        wanted = AppendResult(
            original.version, original.position, created=original.created, deduplicated=True
        )
        t.equal(again, wanted, f"the retry expecting {expected}")
    t.equal((first.created, second.created), (True, False), "created, the first time")


@clause("IDM-05")
async def a_retry_may_come_late(t: Trial) -> None:
    """A retry succeeds although others have appended to the stream since."""
    events = make(2)
    await t.store.append("order", events, expected=NO_STREAM)
    await fill(t.store, "order", 5)
    again = await t.store.append("order", events, expected=NO_STREAM)
    t.equal((again.version, again.deduplicated), (2, True), "the late retry")
    await t.untouched("order", 7, "late retry")


@clause("IDM-06")
async def a_partial_match_conflicts(t: Trial) -> None:
    """An append conflicts if only its first events are stored there."""
    first, second, third = make(3)
    await t.store.append("order", [first, second], expected=NO_STREAM)
    await _conflict(t, [first, third], NO_STREAM, 2, "append with one event replaced")


@clause("IDM-07")
async def more_events_than_there_conflict(t: Trial) -> None:
    """An append of the stored events and one more is a conflict."""
    events = make(3)
    await t.store.append("order", events[:2], expected=NO_STREAM)
    await _conflict(t, events, NO_STREAM, 2, "append with one more event")


@clause("IDM-08")
async def another_order_conflicts(t: Trial) -> None:
    """An append of the stored events in another order is a conflict."""
    events = make(2)
    await t.store.append("order", events, expected=NO_STREAM)
    await _conflict(t, events[::-1], NO_STREAM, 2, "append of the events turned round")


@clause("IDM-09")
async def other_versions_conflict(t: Trial) -> None:
    """An append conflicts if its events are stored in the stream, but at other versions."""
    events = make(2)
    await t.store.append("order", events)
    await fill(t.store, "order", 2)
    await _conflict(t, events, 1, 4, "append expecting 1 of the events of versions 1 and 2")


@clause("IDM-10")
async def another_stream_is_no_retry(t: Trial) -> None:
    """That its events are stored in another stream does not make an append a retry."""
    events = make(2)
    await t.store.append("other", events, expected=NO_STREAM)
    result = await t.store.append("order", events, expected=NO_STREAM)
    seen = (result.version, result.created, result.deduplicated)
    t.equal(seen, (2, True, False), "the same events appended to another stream")
    await fill(t.store, "third", 2)
    with t.raises(ConcurrencyError, "the same events, a third stream that exists"):
        await t.store.append("third", events, expected=NO_STREAM)


@clause("IDM-11")
async def ids_decide(t: Trial) -> None:
    """The ids alone decide whether an append is a retry; what was stored first stays."""
    event = NewEvent("Placed", {"total": 1})
    await t.store.append("order", [event], expected=NO_STREAM)
    changed = NewEvent("Placed", {"total": 2}, id=event.id)
    again = await t.store.append("order", [changed], expected=NO_STREAM)
    t.equal((again.version, again.deduplicated), (1, True), "append of other data, same id")
    t.recorded((await t.store.read("order")).events, [event], "events read")


@clause("IDM-12")
async def equal_data_is_no_retry(t: Trial) -> None:
    """An append of equal data with new ids is no retry, but a conflict."""
    await t.store.append("order", [NewEvent("Placed", 1)], expected=NO_STREAM)
    await _conflict(t, [NewEvent("Placed", 1)], NO_STREAM, 1, "append of equal data, new id")


@clause("IDM-13")
async def the_first_of_them_alone(t: Trial) -> None:
    """An append of only the first of the stored events is a retry, if the versions are theirs."""
    events = make(3)
    await t.store.append("order", events, expected=NO_STREAM)
    again = await t.store.append("order", events[:2], expected=NO_STREAM)
    t.equal((again.version, again.deduplicated), (2, True), "append of the first two of three")
    await t.untouched("order", 3, "append of the first two of three")


@clause("IDM-14")
async def retries_at_the_same_time(t: Trial) -> None:
    """Of concurrent tries of one append, one is written, and all succeed."""
    events = make(3)

    async def append(_: int) -> AppendResult:
        return await t.store.append("order", events, expected=NO_STREAM)

    results = await at_once(8, append)
    t.equal([result.version for result in results], [3] * 8, "versions")
    t.equal(sorted(result.deduplicated for result in results), [False] + [True] * 7, "deduplicated")
    t.equal(len({result.position for result in results}), 1, "number of different positions")
    await t.untouched("order", 3, "eight tries of one append")


@clause("IDM-15")
async def a_retry_in_a_session(t: Trial) -> None:
    """A session whose events are stored there already succeeds with the results of the original,
    and writes nothing.
    """
    events, more = make(2), make(2)
    first = await t.store.append("order", events, expected=NO_STREAM)
    second = await t.store.append("order", more, expected=2)
    async with t.store.session() as session:
        for sent, expected, original in ((events, 0, first), (more, 2, second)):
            again = await session.append("order", sent, expected=expected)
            wanted = AppendResult(
                original.version, original.position, created=original.created, deduplicated=True
            )
            t.equal(again, wanted, f"append in the session expecting {expected}")
    await t.untouched("order", 4, "retry in a session")
