"""GRD: appends that depend on what a query has seen."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Final

from eventport import (
    NO_STREAM,
    STREAM_EXISTS,
    BoundaryError,
    ConcurrencyError,
    Expectation,
    InvalidArgumentError,
    Match,
    NewEvent,
    NotSupportedError,
    Query,
    Session,
    run_in_session,
)

from eventport_conformance.clause import clause
from eventport_conformance.clauses.querying import match
from eventport_conformance.deciding import check_decisions, decide
from eventport_conformance.helpers import at_once, collect, make
from eventport_conformance.processes import worker
from eventport_conformance.trial import Trial
from eventport_conformance.waiting import no_hang


SEAT: Final = match("seat:1")


def tagged(*tags: str, type_: str = "Taken", data: Any = None) -> NewEvent:
    """Make an event with tags."""
    return NewEvent(type_, data, tags=set(tags))


@clause("GRD-01", needs=("global_order", "conditions"))
async def nothing_may_match(t: Trial) -> None:
    """An append with `unless` and no token is written only if no event matches."""
    await t.store.append("other", [tagged("seat:2"), tagged("seat:1 "), *make(1)])
    result = await t.store.append("a", [tagged("seat:1")], unless=SEAT)
    t.equal((result.version, result.created), (1, True), "the first append")
    with t.raises(BoundaryError, "the second append"):
        await t.store.append("b", [tagged("seat:1")], unless=SEAT)
    await t.untouched("b", 0, "an append whose condition fails")


@clause("GRD-02", needs=("global_order", "conditions"))
async def what_was_seen_is_no_conflict(t: Trial) -> None:
    """With a token, only an event that matches and was not seen is a conflict."""
    await t.store.append("a", [tagged("seat:1"), tagged("seat:1")])
    seen = await t.store.query(SEAT)
    await t.store.append("a", [tagged("seat:2"), NewEvent("Plain", 1)])
    await t.store.append("b", [tagged("x")], unless=SEAT, since=seen.token)
    await t.store.append("c", [tagged("seat:1")])
    with t.raises(BoundaryError, "append after an event that was not seen"):
        await t.store.append("b", [tagged("x")], unless=SEAT, since=seen.token)
    fresh = await t.store.query(SEAT)
    await t.store.append("b", [tagged("x")], unless=SEAT, since=fresh.token)
    await t.untouched("b", 2, "an append whose condition fails")


@clause("GRD-03", needs=("global_order", "conditions"))
async def the_error_says_which(t: Trial) -> None:
    """The conflict is a ConcurrencyError with the query and the first event that was missed."""
    await t.store.append("s", [tagged("seat:1")])
    token = (await t.store.query(SEAT)).token
    await t.store.append("s", [NewEvent("Plain", 1), tagged("seat:1", "secret")])
    await t.store.append("s", [tagged("seat:1")])
    with t.raises(ConcurrencyError, "append after two events that were not seen") as caught:
        await t.store.append("b", [tagged("x")], unless=SEAT, since=token)
    error: Any = caught.error
    missed = (await t.store.read("s", from_version=3, to_version=3)).events[0]
    t.true(isinstance(error, BoundaryError), "it is a BoundaryError", type(error).__name__)
    t.equal(error.query, SEAT, "the query in the error")
    t.equal(error.event, missed, "the event in the error")
    t.equal((error.stream, error.actual), ("s", 3), "stream and version in the error")
    shown = str(error)
    t.true("seat:1" not in shown and "secret" not in shown, "the error shows no tag", shown)


@clause("GRD-04", needs=("global_order", "conditions"))
async def what_matches_counts(t: Trial) -> None:
    """The condition is that of the query: one of the types, all of the tags, any of the matches."""
    cases = (
        (match("x", "y"), tagged("x"), False),
        (match("x", "y"), tagged("x", "y", "z"), True),
        (match(types={"Taken"}), tagged(type_="Taken"), True),
        (match(types={"Taken"}), tagged(type_="taken"), False),
        (match(types={"Left", "Taken"}), tagged("x"), True),
        (match("x", types={"Left"}), tagged("x"), False),
        (match("x", types={"Left"}), tagged("x", type_="Left"), True),
        (Query.of(Match(tags={"x"}), Match(types={"Left"})), tagged(type_="Left"), True),
        (Query.of(Match(tags={"x"}), Match(types={"Left"})), tagged("y"), False),
        (Query.all(), NewEvent("Plain", 1), True),
    )
    for number, (query, event, conflicts) in enumerate(cases):
        token = (await t.store.query(query)).token
        await t.store.append("foreign", [event])
        seen = False
        try:
            await t.store.append("own", [NewEvent("Mine", number)], unless=query, since=token)
        except BoundaryError:
            seen = True
        t.equal(seen, conflicts, f"conflict of {query.to_json()} with {sorted(event.tags)}")


@clause("GRD-05", needs=("global_order", "conditions"))
async def a_token_of_one_event(t: Trial) -> None:
    """The token of a query backwards stands for the whole store, however few events it gave."""
    await t.store.append("a", [tagged("seat:1"), tagged("seat:1"), tagged("seat:1")])
    newest = await t.store.query(SEAT)
    for count in (0, 1, 2):
        newest = await t.store.query(SEAT, backwards=True, max_count=count)
        t.equal(len(newest.events), count, "events given")
        await t.store.append("b", [tagged("x")], unless=SEAT, since=newest.token)
    await t.store.append("a", [tagged("seat:1")])
    with t.raises(BoundaryError, "append after an event that was not seen"):
        await t.store.append("b", [tagged("x")], unless=SEAT, since=newest.token)


@clause("GRD-06", needs=("global_order", "conditions"))
async def a_token_of_a_part(t: Trial) -> None:
    """The token of a query forwards that `max_count` cut stands for what it gave."""
    await t.store.append("a", [tagged("seat:1"), NewEvent("Plain", 1), tagged("seat:1")])
    for count in (0, 1):
        part = await t.store.query(SEAT, max_count=count)
        with t.raises(BoundaryError, f"append on {count} of 2 events") as caught:
            await t.store.append("b", [tagged("x")], unless=SEAT, since=part.token)
        error: Any = caught.error
        t.equal(error.event.version, 1 + 2 * count, "version of the event that was missed")
    for count in (2, 3):
        whole = await t.store.query(SEAT, max_count=count)
        await t.store.append(f"whole-{count}", [tagged("x")], unless=SEAT, since=whole.token)


@clause("GRD-07", needs=("global_order", "conditions"))
async def a_token_after_a_position(t: Trial) -> None:
    """The token of a query after a position stands for what was skipped, too."""
    await t.store.append("a", [tagged("seat:1"), tagged("seat:1")])
    first = (await t.store.query(SEAT, max_count=1)).position
    rest = await t.store.query(SEAT, after=first)
    t.equal(len(rest.events), 1, "events after the first")
    await t.store.append("b", [tagged("x")], unless=SEAT, since=rest.token)


@clause("GRD-08", needs=("global_order", "conditions"))
async def a_retry_succeeds(t: Trial) -> None:
    """A conditional append that is sent again with the same ids gives the original result."""
    for expected in ("any", NO_STREAM, "stream_exists"):
        stream = f"s-{expected}"
        if expected == "stream_exists":
            await t.store.append(stream, make(1))
        query = match(f"once-{expected}")
        events = [NewEvent("Before", 1), tagged(f"once-{expected}"), tagged("x")]
        first = await t.store.append(stream, events, expected=expected, unless=query)
        await t.store.append("later", [tagged(f"once-{expected}")])
        again = await t.store.append(stream, events, expected=expected, unless=query)
        t.equal(
            (again.version, again.position, again.created, again.deduplicated),
            (first.version, first.position, first.created, True),
            f"result of the retry that expects {expected}",
        )
        read = await t.store.read(stream)
        t.equal(read.version, first.version, "head of the stream")


@clause("GRD-09", needs=("global_order", "conditions"))
async def half_a_retry_is_a_conflict(t: Trial) -> None:
    """A conditional append of which only some events are there is a conflict."""
    own = tagged("seat:1")
    await t.store.append("a", [own], unless=SEAT)
    for events in ([own, tagged("x")], [tagged("x"), own]):
        with t.raises(BoundaryError, "append of which one event is there"):
            await t.store.append("a", events, unless=SEAT)
    with t.raises(BoundaryError, "the same event for another stream"):
        await t.store.append("b", [own], unless=SEAT)
    await t.untouched("a", 1, "appends of which one event is there")


@clause("GRD-10", needs=("global_order", "conditions"))
async def both_conditions_count(t: Trial) -> None:
    """`expected` and `unless` must both hold."""
    await t.store.append("a", [tagged("seat:1")])
    token = (await t.store.query(SEAT)).token
    with t.raises(ConcurrencyError, "append expecting no_stream") as caught:
        await t.store.append("a", make(1), expected=NO_STREAM, unless=SEAT, since=token)
    t.true(not isinstance(caught.error, BoundaryError), "it is the stream's conflict")
    with t.raises(BoundaryError, "append expecting 1, and that nothing matches"):
        await t.store.append("a", make(1), expected=1, unless=SEAT)
    result = await t.store.append("a", make(1), expected=1, unless=SEAT, since=token)
    t.equal(result.version, 2, "version when both hold")


@clause("GRD-11", needs=("global_order", "conditions"))
async def conditions_without_events(t: Trial) -> None:
    """An append of no events checks its condition, and writes nothing."""
    t.equal((await t.store.append("a", [], unless=SEAT)).version, 0, "nothing matches")
    await t.store.append("s", [tagged("seat:1")])
    with t.raises(BoundaryError, "append of no events, while one matches"):
        await t.store.append("a", [], unless=SEAT)
    token = (await t.store.query(SEAT)).token
    await t.store.append("a", [], unless=SEAT, since=token)
    await t.untouched("a", 0, "appends of no events")


@clause("GRD-12", needs=("global_order", "conditions"))
async def of_racers_one_wins(t: Trial) -> None:
    """Of concurrent appends to different streams under the same condition, exactly one wins."""
    for number, query in enumerate((match("one"), match(types={"One"}), match("one", "two"))):
        event = [tagged("one", "two", type_="One")]
        token = (await t.store.query(query)).token
        won = await _race(t, 12, lambda i: (f"r{number}-{i}", event[0], query, token))  # noqa: B023  # awaited here
        t.equal(won.count(True), 1, f"appends that won under {query.to_json()}")


@clause("GRD-13", needs=("global_order", "conditions"))
async def unrelated_never_conflict(t: Trial) -> None:
    """Concurrent appends under conditions that have nothing to do with each other all win."""
    await t.store.append("a", [tagged(f"tag:{n}") for n in range(40)])
    tokens = [(await t.store.query(match(f"tag:{n}"))).token for n in range(40)]
    won = await _race(t, 40, lambda i: (f"s{i}", tagged(f"tag:{i}"), match(f"tag:{i}"), tokens[i]))
    t.equal(won, [True] * 40, "appends that won")
    t.equal(len((await t.store.query(Query.all())).events), 80, "events in the store")


@clause("GRD-14", needs=("global_order", "conditions"))
async def write_skew_over_tags(t: Trial) -> None:
    """Of two decisions that each break the condition of the other, at most one is written."""
    pairs = (
        (match("x"), tagged("y"), match("y"), tagged("x")),
        (match(types={"X"}), tagged("t"), match("t"), tagged(type_="X")),
        (match(types={"X"}), tagged(type_="Y"), match(types={"Y"}), tagged(type_="X")),
        (match("x", "y"), tagged("z"), match("z"), tagged("x", "y")),
        (match("x", types={"X"}), tagged("z"), match("z"), tagged("x", type_="X")),
        (Query.all(), tagged("z"), match("z"), NewEvent("Plain", 1)),
    )
    for number in range(3 * len(pairs)):
        first, one, second, other = pairs[number % len(pairs)]
        queries = (first, second)
        events = (one, other)
        tokens = [(await t.store.query(query)).token for query in queries]
        won = await _race(
            t,
            2,
            lambda i: (f"skew-{number}-{i}", _copy(events[i]), queries[i], tokens[i]),  # noqa: B023  # awaited here
        )
        t.equal(won.count(True), 1, f"of {first.to_json()} and {second.to_json()}, written")


@clause("GRD-15", needs=("global_order", "conditions"))
async def decisions_describe_themselves(t: Trial) -> None:
    """Whatever tasks append, each decision had seen all that matched before it."""
    results = await at_once(6, lambda i: decide(t.store, str(i), 12, seed=t.seed))
    written = sum(one for one, _ in results)
    events = await collect(t.store.iterate_all())
    t.equal(len(events), written, "events in the store, and what was acknowledged")
    t.true(check_decisions(events) > 0, "decisions were written")


@clause("GRD-16", needs=("global_order", "conditions", "shared"))
async def tokens_are_good_in_other_stores(t: Trial) -> None:
    """A token is good in another store on the same data, and so is what it has not seen."""
    async with t.second_client() as other:
        await other.append("a", [tagged("seat:1")])
        token = (await other.query(SEAT)).token
        await t.store.append("b", [tagged("x")], unless=SEAT, since=token)
        await t.store.append("a", [tagged("seat:1")])
        with t.raises(BoundaryError, "append in another store"):
            await other.append("b", [tagged("x")], unless=SEAT, since=token)
        stores = [t.store, other]
        token = (await t.store.query(SEAT)).token
        won = await _race(t, 8, lambda i: (f"r{i}", tagged("seat:1"), SEAT, token), stores)
        t.equal(won.count(True), 1, "appends through two stores that won")


@clause("GRD-17", needs=("global_order", "conditions"))
async def bad_tokens_are_refused(t: Trial) -> None:
    """What is no token raises InvalidArgumentError, and so does a token without a query."""
    await t.store.append("a", make(1))
    token = (await t.store.query(SEAT)).token
    t.equal(type(token), str, "type of a token")
    bad: tuple[Any, ...] = (0, 1, "", "1", "token", "é", token[:-1] + "~", b"x", [1], token + "~~")
    for since in bad:
        with t.raises(InvalidArgumentError, f"append since {since!r}"):
            await t.store.append("a", make(1), unless=SEAT, since=since)
    with t.raises(InvalidArgumentError, "append with a token and no query"):
        await t.store.append("a", make(1), since=token)
    await t.untouched("a", 1, "appends with bad tokens")


@clause("GRD-18", needs=("global_order", "conditions"))
async def run_in_session_tries_again(t: Trial) -> None:
    """`run_in_session` runs the function again when what it queried has changed."""
    tries: list[int] = []

    async def take(session: Session) -> int:
        taken = len((await session.query(SEAT)).events)
        tries.append(taken)
        if len(tries) < 3:
            await t.store.append("rival", [tagged("seat:1")])
        await session.append("mine", [tagged("x")])
        return taken

    t.equal(await run_in_session(t.store, take), 2, "events seen by the attempt that was committed")
    t.equal(tries, [0, 1, 2], "events seen by each attempt")
    t.equal((await t.store.read("mine")).version, 1, "head of the stream")


@clause("GRD-19", unless="conditions")
async def without_conditions_it_is_refused(t: Trial) -> None:
    """Without conditions, one raises NotSupportedError, and nothing is written."""
    await t.store.append("a", make(1))
    with t.raises(NotSupportedError, "append with a condition") as caught:
        await t.store.append("a", make(1), unless=match("x"))
    t.true(len(str(caught.error)) > 10, "the error says why", str(caught.error))
    await t.untouched("a", 1, "an append with a condition")


@clause("GRD-20", needs=("global_order", "conditions", "shared"), uses=("url",))
async def decisions_of_processes(t: Trial) -> None:
    """Whatever processes append, each decision had seen all that matched before it."""
    async with AsyncExitStack() as stack:
        url = t.harness.url()
        workers = [
            await stack.enter_async_context(worker(url, "decide", str(n), 25, t.seed))
            for n in range(4)
        ]
        for one in workers:
            await one.go()
        written = 0
        with no_hang("the processes decide"):
            for one in workers:
                written += await one.line()
    events = await collect(t.store.iterate_all())
    t.equal(len(events), written, "events in the store, and what was acknowledged")
    t.true(check_decisions(events) > 0, "decisions were written")


def _copy(event: NewEvent) -> NewEvent:
    return NewEvent(event.type, event.data, event.metadata, tags=event.tags)


async def _race(
    t: Trial,
    count: int,
    append: Callable[[int], tuple[str, NewEvent, Query, str]],
    stores: Any = None,
) -> list[bool]:
    """Append at once, each under its own condition; return which appends were written."""

    async def work(index: int) -> bool:
        stream, event, query, token = append(index)
        store = t.store if stores is None else stores[index % len(stores)]
        try:
            await store.append(stream, [_copy(event)], unless=query, since=token)
        except BoundaryError:
            return False
        return True

    return await at_once(count, work)


def _conflict_of(t: Trial, error: object, what: str) -> tuple[str, object, int]:
    """Return what a conflict says of its stream, and check that it is not that of a query."""
    t.true(not isinstance(error, BoundaryError), f"{what}: it is the stream's conflict")
    if not isinstance(error, ConcurrencyError):  # cannot be: it was raised as one
        raise TypeError
    return error.stream, error.expected, error.actual


@clause("GRD-21", needs=("global_order", "conditions"))
async def the_expectation_counts_first(t: Trial) -> None:
    """If neither `expected` nor `unless` holds, the conflict of the stream is raised."""
    await t.store.append("a", [tagged("seat:1"), *make(1)])
    cases: list[tuple[str, Expectation, int]] = [
        ("a", NO_STREAM, 2),
        ("a", 1, 2),
        ("a", 3, 2),
        ("b", STREAM_EXISTS, 0),
    ]
    for events in (make(1), []):
        for case in cases:
            stream, expected, _ = case
            what = f"append of {len(events)} expecting {expected}, and that nothing matches"
            with t.raises(ConcurrencyError, what) as caught:
                await t.store.append(stream, events, expected=expected, unless=SEAT)
            t.equal(_conflict_of(t, caught.error, what), case, f"{what}: the conflict")
    with t.raises(ConcurrencyError, "session whose stream and query have moved") as caught:
        async with t.store.session() as session:
            await session.query(SEAT)
            await session.append("a", make(1), expected=2)
            await t.store.append("a", [tagged("seat:1")])
    t.equal(_conflict_of(t, caught.error, "session"), ("a", 2, 3), "session: the conflict")
    await t.untouched("a", 3, "appends of which no condition holds")


@clause("GRD-22", needs=("sessions", "global_order", "conditions"))
async def expectations_of_all_streams_count_first(t: Trial) -> None:
    """If a stream of a session and its query have moved, the conflict of the stream is raised."""
    await t.store.append("b", make(1))
    with t.raises(ConcurrencyError, "session whose second stream and query moved") as caught:
        async with t.store.session() as session:
            await session.query(SEAT)
            await session.append("a", make(1))
            await session.append("b", make(1))
            await t.store.append("b", [tagged("seat:1")])
    t.equal(_conflict_of(t, caught.error, "session"), ("b", 1, 2), "the conflict")
    await t.untouched("a", 0, "a session of which nothing holds")
