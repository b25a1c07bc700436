"""SES: a unit of work, committed as one; every store can do it on one stream."""

from __future__ import annotations

import anyio

from eventport import (
    NO_STREAM,
    STREAM_EXISTS,
    ConcurrencyError,
    EventportError,
    InvalidEventError,
    NewEvent,
    RecordedEvent,
    Session,
    StoreClosedError,
    run_in_session,
)

from eventport_conformance.clause import clause
from eventport_conformance.helpers import at_once, collect, fill, make
from eventport_conformance.trial import Trial
from eventport_conformance.waiting import no_hang


class _OwnError(EventportError):
    """An error of the caller's code."""


def _count(state: int, _: RecordedEvent) -> int:
    return state + 1


async def _heads(t: Trial, *streams: str) -> list[int]:
    return [(await t.store.read(stream)).version for stream in streams]


@clause("SES-01")
async def leaving_the_block_commits(t: Trial) -> None:
    """What a session appends is in the store when its block has been left."""
    events = make(3)
    async with t.store.session() as session:
        await session.append("a", events[:2])
        await session.append("a", events[2:])
    t.recorded((await t.store.read("a")).events, events, "events read after the session")


@clause("SES-02")
async def it_is_invisible_before(t: Trial) -> None:
    """Nothing of a session can be seen outside before it is committed."""
    await fill(t.store, "a", 1)
    async with t.store.session() as session:
        await session.append("a", make(2))
        t.equal((await t.store.read("a")).version, 1, "head outside, during the session")
    t.equal((await t.store.read("a")).version, 3, "head outside, after the session")


@clause("SES-03")
async def it_sees_its_own_appends(t: Trial) -> None:
    """Reads in a session see what it has appended."""
    old, new = await fill(t.store, "a", 2), make(2)
    async with t.store.session() as session:
        await session.append("a", new)
        read = await session.read("a")
        t.recorded(read.events, old + new, "events read in the session")
        t.versions(read.events, [1, 2, 3, 4], "in the session")
        t.equal((read.version, read.exists), (4, True), "head in the session")
    t.equal((await t.store.read("a")).version, 4, "head after the session")


@clause("SES-04")
async def ranges_over_own_appends(t: Trial) -> None:
    """Ranges, counts and `backwards` of reads in a session span old events and its own."""
    await fill(t.store, "a", 3)
    async with t.store.session() as session:
        await session.append("a", make(3))
        for first, last, count, backwards, wanted in (
            (1, None, None, True, [6, 5, 4, 3, 2, 1]),
            (3, 4, None, False, [3, 4]),
            (2, 5, None, True, [5, 4, 3, 2]),
            (1, None, 4, False, [1, 2, 3, 4]),
            (1, None, 4, True, [6, 5, 4, 3]),
            (1, None, 2, True, [6, 5]),
            (5, None, None, False, [5, 6]),
            (1, 3, None, False, [1, 2, 3]),
            (2, None, 0, False, []),
            (7, None, None, False, []),
            (1, 0, None, False, []),
        ):
            read = await session.read(
                "a", from_version=first, to_version=last, max_count=count, backwards=backwards
            )
            what = f"from {first} to {last}, at most {count}, backwards={backwards}"
            t.versions(read.events, wanted, what)
            t.equal(read.version, 6, f"head: {what}")
    t.equal((await t.store.read("a")).version, 6, "head after the session")


@clause("SES-05")
async def iterate_and_aggregate_see_own_appends(t: Trial) -> None:
    """`iterate` and `aggregate` in a session see what it has appended."""
    await fill(t.store, "a", 2)
    async with t.store.session() as session:
        await session.append("a", make(1))
        t.versions(await collect(session.iterate("a")), [1, 2, 3], "iterate")
        t.versions(await collect(session.iterate("a", backwards=True)), [3, 2, 1], "backwards")
        result = await session.aggregate("a", _count, int, expected=3)
        t.equal((result.state, result.version, result.exists), (3, 3, True), "fold")
        await session.append("b-new", [])
    t.equal((await t.store.read("a")).version, 3, "head after the session")


@clause("SES-06")
async def an_append_in_it_returns_the_version_to_come(t: Trial) -> None:
    """An append in a session returns the version to come, and no position yet."""
    await fill(t.store, "a", 2)
    async with t.store.session() as session:
        results = [await session.append("a", make(2)), await session.append("a", make(1))]
    seen = [(r.version, r.position, r.created, r.deduplicated) for r in results]
    t.equal(seen, [(4, None, False, False), (5, None, False, False)], "results in the session")
    async with t.store.session() as session:
        results = [await session.append("b", make(1)), await session.append("b", make(1))]
    seen_created = [(r.version, r.created) for r in results]
    t.equal(seen_created, [(1, True), (2, False)], "results for a new stream")
    t.equal(await _heads(t, "a", "b"), [5, 2], "heads after the sessions")


@clause("SES-07")
async def own_events_have_position_0(t: Trial) -> None:
    """An uncommitted event that is read in its own session has the position 0."""
    await fill(t.store, "a", 1)
    async with t.store.session() as session:
        await session.append("a", make(1))
        positions = [event.position for event in (await session.read("a")).events]
        t.true(positions[0] > 0, "a committed event has a position", positions)
        t.equal(positions[1], 0, "position of the session's own event")
    last = (await t.store.read("a")).events[-1]
    t.true(last.position > positions[0], "it has a position after the commit", last.position)


@clause("SES-08")
async def its_position_is_known_after_the_commit(t: Trial) -> None:
    """The position of a session is None before its commit, and then that of its last event."""
    async with t.store.session() as session:
        t.equal(session.position, None, "position at the beginning")
        await session.append("a", make(2))
        t.equal(session.position, None, "position after an append")
    last = (await t.store.read("a")).events[-1]
    t.equal((last.version, last.position), (2, session.position), "the last event")
    async with t.store.session() as session:
        await session.read("a")
    t.equal(session.position, None, "position of a session that appended nothing")


@clause("SES-09")
async def an_exception_commits_nothing(t: Trial) -> None:
    """If the block raises, nothing is committed, and the caller gets that very exception."""
    await fill(t.store, "a", 1)
    error = _OwnError("mine")
    with t.raises(_OwnError, "session whose block raises") as caught:
        async with t.store.session() as session:
            await session.append("a", make(2))
            raise error
    t.true(caught.error is error, "it is the same exception")
    await t.untouched("a", 1, "session whose block raised")


@clause("SES-10")
async def an_empty_session_does_nothing(t: Trial) -> None:
    """A session that appends nothing writes nothing; what it expected must hold at its end."""
    await fill(t.store, "a", 1)
    async with t.store.session():
        pass
    with t.raises(ConcurrencyError, "session on a stream that moved"):
        async with t.store.session() as session:
            t.equal((await session.append("a", [], expected=1)).version, 1, "empty append")
            await t.store.append("a", make(1))
    async with t.store.session() as session:
        await session.append("a", [], expected=2)
        await session.append("a", [])
        await session.read("a")
    await t.untouched("a", 2, "sessions that appended nothing")


@clause("SES-11")
async def expectations_hold_of_what_it_sees(t: Trial) -> None:
    """Expectations in a session are about the streams as it sees them."""
    async with t.store.session() as session:
        await session.append("a", make(2), expected=NO_STREAM)
        await session.append("a", make(1), expected=2)
        await session.append("a", make(1), expected=STREAM_EXISTS)
        await session.append("a", [], expected=4)
        t.versions((await session.read("a", expected=4)).events, [1, 2, 3, 4], "in the session")
    t.equal(await _heads(t, "a"), [4], "head after the session")


@clause("SES-12")
async def a_conflict_is_raised_at_the_append(t: Trial) -> None:
    """An expectation that does not hold in a session raises at once, and nothing is committed."""
    await fill(t.store, "a", 2)
    with t.raises(ConcurrencyError, "session with an append expecting 1") as caught:
        async with t.store.session() as session:
            await session.append("a", make(1))
            await session.append("a", make(1), expected=1)
    error = caught.error
    seen = (getattr(error, "stream", ""), getattr(error, "actual", 0))
    t.equal(seen, ("a", 3), "stream and actual version, as the session saw it")
    await t.untouched("a", 2, "session with a conflict")


@clause("SES-13")
async def a_conflict_in_it_can_be_handled(t: Trial) -> None:
    """If the block catches a conflict or a bad event, the rest of the session is committed."""
    await fill(t.store, "a", 1)
    async with t.store.session() as session:
        await session.append("a", make(1, "Kept"))
        with t.raises(ConcurrencyError, "append expecting no_stream"):
            await session.append("a", make(1, "Refused"), expected=NO_STREAM)
        with t.raises(InvalidEventError, "append of a bad event"):
            await session.append("a", [*make(1, "Refused"), NewEvent("Bad", {1: 2})])
        await session.append("a", make(1, "Kept too"))
    types = [event.type for event in (await t.store.read("a")).events]
    t.equal(types, ["Counted", "Kept", "Kept too"], "types of the events")


@clause("SES-14")
async def a_stream_that_moved_is_a_conflict(t: Trial) -> None:
    """If a stream that the session appended to has moved, its block ends in ConcurrencyError."""
    await fill(t.store, "a", 1)
    with t.raises(ConcurrencyError, "session on a stream that moved") as caught:
        async with t.store.session() as session:
            await session.append("a", make(2))
            await t.store.append("a", make(3))
    error = caught.error
    seen = (getattr(error, "stream", ""), getattr(error, "actual", 0))
    t.equal(seen, ("a", 4), "stream and true actual version in the error")
    await t.untouched("a", 4, "session on a stream that moved")


@clause("SES-15")
async def a_stream_is_pinned_when_first_seen(t: Trial) -> None:
    """A stream is pinned at the version that the session saw first, even if only by a read."""
    await fill(t.store, "a", 2)
    with t.raises(ConcurrencyError, "append to a stream that moved since it was read"):
        async with t.store.session() as session:
            await session.read("a", max_count=1)
            await t.store.append("a", make(1))
            await session.append("a", make(1))
    await t.untouched("a", 3, "append to a stream that moved since it was read")


@clause("SES-16")
async def reads_in_it_are_repeatable(t: Trial) -> None:
    """A session reads a stream at the version that it saw first, whatever others append."""
    await fill(t.store, "a", 2)
    async with t.store.session() as session:
        first = await session.read("a")
        t.versions(first.events, [1, 2], "the first read")
        await t.store.append("a", make(2))
        t.equal(await session.read("a"), first, "the second read")
        result = await session.aggregate("a", _count, int)
        t.equal((result.state, result.version), (2, 2), "fold")
        t.versions(await collect(session.iterate("a", backwards=True)), [2, 1], "backwards")
    await t.untouched("a", 4, "a session that only reads")


@clause("SES-17")
async def a_stream_only_read_may_move(t: Trial) -> None:
    """A stream that a session only reads may move; the session is committed."""
    await fill(t.store, "a", 1)
    async with t.store.session() as session:
        await session.read("a")
        await session.append("b", make(1))
        await t.store.append("a", make(1))
    t.equal(await _heads(t, "a", "b"), [2, 1], "heads")


@clause("SES-18")
async def after_its_end_it_refuses(t: Trial) -> None:
    """A session that has ended, in whatever way, refuses everything."""
    async with t.store.session() as session:
        await session.append("a", make(1))
    with t.raises(_OwnError, "session whose block raises"):
        async with t.store.session() as failed:
            await failed.read("a")
            raise _OwnError
    for ended in (session, failed):
        with t.raises(StoreClosedError, "append after the end"):
            await ended.append("a", make(1))
        with t.raises(StoreClosedError, "read after the end"):
            await ended.read("a")
        with t.raises(StoreClosedError, "fold after the end"):
            await ended.aggregate("a", _count, int)
        with t.raises(StoreClosedError, "iterate after the end"):
            await collect(ended.iterate("a"))
    await t.untouched("a", 1, "calls on sessions that have ended")


@clause("SES-19")
async def events_are_copied_at_the_append(t: Trial) -> None:
    """Changing an object after it was appended in a session changes nothing."""
    data = {"items": [1]}
    async with t.store.session() as session:
        await session.append("a", [NewEvent("Placed", data)])
        data["items"].append(2)
        (event,) = (await session.read("a")).events
        t.equal(event.data, {"items": [1]}, "data read in the session")
        event.data["items"].append(3)
    (event,) = (await t.store.read("a")).events
    t.equal(event.data, {"items": [1]}, "data read after the session")


@clause("SES-20")
async def of_rivals_one_wins(t: Trial) -> None:
    """Of concurrent sessions that append to one stream, exactly one is committed."""
    await fill(t.store, "a", 1)
    ready = 0
    all_ready = anyio.Event()

    async def work(number: int) -> bool:
        nonlocal ready
        try:
            async with t.store.session() as session:
                await session.append("a", [NewEvent("By", number)])
                ready += 1
                if ready == 6:
                    all_ready.set()
                with no_hang("all sessions append"):
                    await all_ready.wait()
        except ConcurrencyError:
            return False
        return True

    won = await at_once(6, work)
    t.equal(won.count(True), 1, "sessions committed")
    last = (await t.store.read("a")).events[-1]
    t.equal((last.version, last.data), (2, won.index(True)), "the event, and who wrote it")


@clause("SES-21")
async def run_in_session_retries(t: Trial) -> None:
    """`run_in_session` runs the function again after a conflict, and returns its result."""
    await fill(t.store, "a", 1)
    tries: list[int] = []

    async def work(session: Session) -> str:
        head = (await session.read("a")).version
        tries.append(head)
        if len(tries) < 3:
            await t.store.append("a", make(1))
        await session.append("a", make(1, "Mine"))
        return f"at {head}"

    t.equal(await run_in_session(t.store, work), "at 3", "result")
    t.equal(tries, [1, 2, 3], "versions that the tries saw")
    types = [event.type for event in (await t.store.read("a")).events]
    t.equal(types, ["Counted"] * 3 + ["Mine"], "types of the events")


@clause("SES-22")
async def run_in_session_gives_up(t: Trial) -> None:
    """`run_in_session` raises the conflict of its last attempt, and other errors at once."""
    await fill(t.store, "a", 1)
    tries = 0

    async def always_late(session: Session) -> None:
        nonlocal tries
        tries += 1
        await session.append("a", make(1, "Mine"))
        await t.store.append("a", make(1))

    with t.raises(ConcurrencyError, "three attempts that conflict"):
        await run_in_session(t.store, always_late, attempts=3)
    t.equal(tries, 3, "attempts")

    async def broken(session: Session) -> None:
        nonlocal tries
        tries += 1
        await session.append("a", make(1, "Mine"))
        raise _OwnError

    with t.raises(_OwnError, "a function that raises"):
        await run_in_session(t.store, broken)
    t.equal(tries, 4, "attempts, with that of the function that raises")
    await t.untouched("a", 4, "attempts that failed")
