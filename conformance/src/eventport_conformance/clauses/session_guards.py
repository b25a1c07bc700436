"""SES: what a session has read under a condition holds when it is committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from eventport import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    BoundaryError,
    ConcurrencyError,
    Expectation,
    NewEvent,
    NotSupportedError,
    RecordedEvent,
    Session,
)

from eventport_conformance.clause import clause
from eventport_conformance.clauses.querying import match
from eventport_conformance.helpers import at_once, fill, make
from eventport_conformance.trial import Trial


async def _require(session: Session, stream: str, expected: Expectation) -> None:
    await session.require(stream, expected)


async def _read(session: Session, stream: str, expected: Expectation) -> None:
    await session.read(stream, max_count=0, expected=expected)


async def _fold(session: Session, stream: str, expected: Expectation) -> None:
    def count(state: int, _: RecordedEvent) -> int:
        return state + 1

    await session.aggregate(stream, count, int, expected=expected)


async def _append_nothing(session: Session, stream: str, expected: Expectation) -> None:
    await session.append(stream, [], expected=expected)


Way = Callable[[Session, str, Expectation], Awaitable[None]]
WAYS: tuple[Way, ...] = (_require, _read, _fold, _append_nothing)
"""All ways to expect something of a stream without writing to it."""


@clause("SES-34", needs=("guards",))
async def what_was_expected_holds_at_the_commit(t: Trial) -> None:
    """What a session expected of a stream that it does not write holds at the commit."""
    for number, expect in enumerate(WAYS):
        seen, written = f"seen-{number}", f"written-{number}"
        await fill(t.store, seen, 2)
        with t.raises(ConcurrencyError, "session on a stream that moved") as caught:
            async with t.store.session() as session:
                await expect(session, seen, 2)
                await session.append(written, make(1))
                await t.store.append(seen, make(1))
        error = caught.error
        found = (getattr(error, "stream", ""), getattr(error, "expected", 0))
        t.equal(found, (seen, 2), "stream and expectation in the error")
        t.equal(getattr(error, "actual", 0), 3, "actual version in the error")
        await t.untouched(written, 0, "a session on a stream that moved")


@clause("SES-35", needs=("guards",))
async def what_still_holds_is_no_conflict(t: Trial) -> None:
    """A session whose expectations still hold is committed, whatever else has moved."""
    await fill(t.store, "exists", 1)
    await fill(t.store, "still", 2)
    for expect in WAYS:
        async with t.store.session() as session:
            await expect(session, "exists", STREAM_EXISTS)
            await expect(session, "still", 2)
            await expect(session, "missing", NO_STREAM)
            await expect(session, "any", ANY)
            await session.append("written", make(1))
            await t.store.append("exists", make(1))
            await t.store.append("any", make(1))
    t.equal((await t.store.read("written")).version, len(WAYS), "head of the stream written to")


@clause("SES-36", needs=("guards",))
async def a_missing_stream_that_appears(t: Trial) -> None:
    """A stream that was expected not to exist, and does at the commit, is a conflict."""
    for number, expect in enumerate(WAYS):
        same: tuple[Expectation, ...] = (NO_STREAM, 0)
        for expected in same:
            stream = f"new-{number}-{expected}"
            with t.raises(ConcurrencyError, "session on a stream that appeared"):
                async with t.store.session() as session:
                    await expect(session, stream, expected)
                    await session.append("written", make(1))
                    await t.store.append(stream, make(1))
    await t.untouched("written", 0, "sessions on streams that appeared")


@clause("SES-37", needs=("guards",))
async def it_is_checked_at_once(t: Trial) -> None:
    """What a session expects must hold as the session sees it, or it raises there."""
    await fill(t.store, "a", 2)
    wrong: tuple[tuple[str, Expectation], ...]
    wrong = (("a", 1), ("a", NO_STREAM), ("b", STREAM_EXISTS), ("b", 1))
    async with t.store.session() as session:
        for expect in WAYS:
            for stream, expected in wrong:
                with t.raises(ConcurrencyError, f"expecting {expected} of {stream}"):
                    await expect(session, stream, expected)
        await session.append("a", make(1))
        await session.require("a", 3)
        with t.raises(ConcurrencyError, "expecting the version before its own append"):
            await session.require("a", 2)
    t.equal((await t.store.read("a")).version, 3, "head of the stream written to")


@clause("SES-38")
async def a_session_without_events_looks_once(t: Trial) -> None:
    """A session that appends nothing checks what it expected once more, when it ends."""
    await fill(t.store, "a", 2)
    for expect in (_read, _fold, _append_nothing):
        async with t.store.session() as session:
            head = (await session.read("a")).version
            await expect(session, "a", head)
            await expect(session, "b", NO_STREAM)
        with t.raises(ConcurrencyError, "session on a stream that moved"):
            async with t.store.session() as session:
                await expect(session, "a", head)
                await t.store.append("a", make(1))
        await t.store.append("a", make(1), expected=head + 1)
        async with t.store.session() as session:
            await expect(session, "a", STREAM_EXISTS)
            await t.store.append("a", make(1))
        await t.store.append("c", make(1))
        async with t.store.session() as session:
            head = (await session.read("a")).version
            await expect(session, "a", head)
    await t.untouched("b", 0, "sessions that appended nothing")


@clause("SES-39", needs=("guards",))
async def write_skew_over_streams(t: Trial) -> None:
    """Of two sessions that each write the stream that the other one requires, one is committed."""
    for number in range(10):
        names = (f"x{number}", f"y{number}")

        async def work(index: int, names: tuple[str, str] = names) -> bool:
            own, other = names[index], names[1 - index]
            try:
                async with t.store.session() as session:
                    await session.require(other, NO_STREAM)
                    await session.append(own, make(1))
            except ConcurrencyError:
                return False
            return True

        won = await at_once(2, work)
        # Both may fail only if each had seen the other's stream; one of them was first.
        t.equal(won.count(True), 1, "sessions that were committed")
        heads = [(await t.store.read(name)).version for name in names]
        t.equal(sum(heads), 1, "events of both streams")


@clause("SES-40", needs=("guards",))
async def a_required_stream_may_be_written(t: Trial) -> None:
    """A stream that a session requires it may write, too, in any order."""
    await fill(t.store, "a", 2)
    async with t.store.session() as session:
        await session.require("a", 2)
        await session.append("a", make(1))
        await session.require("a", 3)
        await session.append("a", make(1), expected=3)
    async with t.store.session() as session:
        await session.append("b", make(1))
        await session.require("b", STREAM_EXISTS)
    heads = [(await t.store.read(stream)).version for stream in ("a", "b")]
    t.equal(heads, [4, 1], "heads after the sessions")


@clause("SES-41", needs=("global_order", "conditions"))
async def what_was_queried_is_its_condition(t: Trial) -> None:
    """An event that matches what a session queried, and came later, is a conflict."""
    await t.store.append("a", [NewEvent("Old", 1, tags={"x"})])
    for change, conflicts in (
        (NewEvent("New", 2, tags={"x"}), True),
        (NewEvent("New", 2, tags={"y"}), False),
    ):
        seen = False
        try:
            async with t.store.session() as session:
                await session.query(match("x"))
                await session.append("written", make(1))
                await t.store.append("b", [change])
        except BoundaryError as exc:
            seen = exc.event.id == change.id
        t.equal(seen, conflicts, f"conflict with an event with the tags {sorted(change.tags)}")
    t.equal((await t.store.read("written")).version, 1, "head of the stream written to")
    with t.raises(BoundaryError, "session without events, that queried"):
        async with t.store.session() as session:
            await session.query(match("x"), backwards=True, max_count=1)
            await t.store.append("b", [NewEvent("New", 3, tags={"x"})])


@clause("SES-42", needs=("global_order", "conditions"))
async def a_query_sees_own_events(t: Trial) -> None:
    """A query in a session gives the session's own events last, and first if backwards."""
    await t.store.append("a", [NewEvent("E", 1, tags={"x"}), NewEvent("E", 2)])
    async with t.store.session() as session:
        await session.append("a", [NewEvent("E", 3, tags={"x"}), NewEvent("E", 4)])
        await session.append("a", [NewEvent("E", 5, tags={"x", "y"})])
        positions: list[int] = []
        for count, backwards, wanted in (
            (None, False, [1, 3, 5]),
            (None, True, [5, 3, 1]),
            (2, True, [5, 3]),
        ):
            found = await session.query(match("x"), max_count=count, backwards=backwards)
            t.equal([one.data for one in found.events], wanted, f"backwards={backwards}")
            positions = [one.position for one in found.events]
        t.equal(positions, [0, 0], "positions of its own events")
    t.equal((await t.store.read("a")).version, 5, "head after the session")


@clause("SES-43", needs=("global_order", "conditions"))
async def conditions_of_appends_in_it(t: Trial) -> None:
    """`unless` and `since` in a session are conditions of its commit."""
    await t.store.append("a", [NewEvent("E", 1, tags={"x"})])
    token = (await t.store.query(match("x"))).token
    async with t.store.session() as session:
        await session.append("b", make(1), unless=match("x"), since=token)
        await session.append("b", make(1), unless=match("nothing"))
    with t.raises(BoundaryError, "session with a condition that does not hold"):
        async with t.store.session() as session:
            await session.append("b", make(1), unless=match("x"))
    with t.raises(BoundaryError, "session whose condition fails later"):
        async with t.store.session() as session:
            await session.append("b", make(1), unless=match("x"), since=token)
            await t.store.append("a", [NewEvent("E", 1, tags={"x"})])
    await t.untouched("b", 2, "sessions whose conditions failed")


@clause("SES-44", needs=("sessions", "global_order", "guards", "conditions"))
async def over_several_streams(t: Trial) -> None:
    """A session over several streams is committed whole, or, if a condition fails, not at all."""
    await fill(t.store, "seen", 1)
    for conflicts in (False, True):
        try:
            async with t.store.session() as session:
                await session.require("seen", 1)
                await session.query(match("x"))
                await session.append("a", make(2))
                await session.append("b", [NewEvent("E", 1, tags={"x"})])
                if conflicts:
                    await t.store.append("seen", make(1))
        except ConcurrencyError:
            t.true(conflicts, "the session is committed")
        else:
            t.true(not conflicts, "the session raises")
    heads = [(await t.store.read(stream)).version for stream in ("a", "b", "seen")]
    t.equal(heads, [2, 1, 2], "heads")


@clause("SES-45", unless="guards")
async def without_guards_the_end_refuses(t: Trial) -> None:
    """Without guards, a session with events and an expectation of another stream is refused."""
    await fill(t.store, "a", 1)
    with t.raises(NotSupportedError, "session that expects something and writes elsewhere"):
        async with t.store.session() as session:
            await session.read("a", expected=1)
            await session.append("b", make(1))
    with t.raises(NotSupportedError, "session that requires something"):
        async with t.store.session() as session:
            await session.append("b", make(1))
            await session.require("a", 1)
    await t.untouched("b", 0, "sessions that were refused")
    async with t.store.session() as session:
        await session.read("a", expected=1)
        await session.append("a", make(1))
    await t.untouched("a", 2, "a session that writes what it expects something of")
