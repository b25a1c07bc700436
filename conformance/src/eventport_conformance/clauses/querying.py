"""QRY: events of all streams, by type and tag."""

from __future__ import annotations

import random

from collections.abc import Collection, Sequence
from typing import Any, Final

from eventport import (
    InvalidArgumentError,
    Match,
    NewEvent,
    NotSupportedError,
    Query,
    RecordedEvent,
)

from eventport_conformance.clause import clause
from eventport_conformance.clauses.tagging import ODD
from eventport_conformance.deciding import random_event, random_query
from eventport_conformance.helpers import collect, make, take
from eventport_conformance.trial import Trial


EVENTS: Final = (
    ("a", "Opened", {"x"}),
    ("b", "Opened", {"x", "y"}),
    ("a", "Closed", {"x", "y"}),
    ("c", "Closed", {"y"}),
    ("c", "Opened", set[str]()),
    ("b", "Closed", {"z"}),
)
"""Stream, type and tags of six events, whose data are the numbers from 0."""


async def fill_six(t: Trial) -> list[int]:
    """Append six events, and return their positions."""
    positions: list[int] = []
    for number, (stream, type_, tags) in enumerate(EVENTS):
        result = await t.store.append(stream, [NewEvent(type_, number, tags=tags)])
        positions.append(result.position or 0)
    return positions


def numbers(events: Sequence[RecordedEvent]) -> list[int]:
    """Return which of the six events these are."""
    return [event.data for event in events]


def match(*tags: str, types: Collection[str] = ()) -> Query:
    """Make a query of one match."""
    return Query.of(Match(types=set(types), tags=set(tags)))


CASES: Final[Sequence[tuple[Query, list[int]]]] = (
    (match("x"), [0, 1, 2]),
    (match("x", "y"), [1, 2]),
    (match(types={"Opened"}), [0, 1, 4]),
    (match(types={"Opened", "Closed"}), [0, 1, 2, 3, 4, 5]),
    (match("y", types={"Closed"}), [2, 3]),
    (match("y", types={"Closed", "Opened"}), [1, 2, 3]),
    (match("x", "z"), []),
    (match("nothing"), []),
    (match(types={"Nothing"}), []),
    (Query.of(Match(tags={"z"}), Match(types={"Opened"}, tags={"y"})), [1, 5]),
    (Query.of(Match(tags={"x"}), Match(tags={"x", "y"}), Match(types={"Opened"})), [0, 1, 2, 4]),
    (Query.all(), [0, 1, 2, 3, 4, 5]),
)
"""Queries, and which of the six events match them."""


@clause("QRY-01", needs=("global_order",))
async def what_a_query_means(t: Trial) -> None:
    """A query gives the events that have one of the types and all tags of one of its matches."""
    await fill_six(t)
    for query, wanted in CASES:
        found = await t.store.query(query)
        t.equal(numbers(found.events), wanted, f"events that match {query.to_json()}")


@clause("QRY-02", needs=("global_order",))
async def whole_events(t: Trial) -> None:
    """A query gives whole events, as reads do, each once and in the order of positions."""
    await fill_six(t)
    every = (await t.store.read_all()).events
    t.equal(numbers(every), [0, 1, 2, 3, 4, 5], "the events")
    t.equal((await t.store.query(Query.all())).events, every, "all events")
    both = Query.of(Match(tags={"x"}), Match(tags={"y"}), Match(types={"Opened", "Closed"}))
    t.equal((await t.store.query(both)).events, every, "events that match twice")


@clause("QRY-03", needs=("global_order",))
async def ranges_of_a_query(t: Trial) -> None:
    """`after`, `max_count` and `backwards` choose among the events that match."""
    places = await fill_six(t)
    query = match("y")
    for after, count, backwards, wanted in (
        (0, None, False, [1, 2, 3]),
        (0, None, True, [3, 2, 1]),
        (0, 2, False, [1, 2]),
        (0, 2, True, [3, 2]),
        (0, 0, False, []),
        (0, 0, True, []),
        (0, 3, False, [1, 2, 3]),
        (places[1], None, False, [2, 3]),
        (places[1], None, True, [3, 2]),
        (places[1], 1, False, [2]),
        (places[1], 1, True, [3]),
        (places[3], None, False, []),
        (places[5], None, True, []),
    ):
        found = await t.store.query(query, after=after, max_count=count, backwards=backwards)
        what = f"after {after}, at most {count}, backwards={backwards}"
        t.equal(numbers(found.events), wanted, what)


@clause("QRY-04", needs=("global_order",))
async def resuming_a_query(t: Trial) -> None:
    """The position of a result resumes the query: page by page, each event comes once."""
    places = await fill_six(t)
    for query, wanted in CASES:
        seen: list[int] = []
        after = 0
        for _ in range(len(wanted) + 1):
            found = await t.store.query(query, after=after, max_count=1)
            seen += numbers(found.events)
            t.true(found.position >= after, "the position does not go back", found.position)
            after = found.position
        t.equal(seen, wanted, f"events of {query.to_json()}, one by one")
        t.true(after >= places[-1], "the last position is that of the whole store", after)


@clause("QRY-05", needs=("global_order",))
async def tags_are_compared_exactly(t: Trial) -> None:
    """A query takes no tag and no type for another that looks like it."""
    for tag in ODD:
        await t.store.append("a", [NewEvent(f"T{tag}", tag, tags={tag})])
    for tag in ODD:
        found = await t.store.query(match(tag))
        t.equal([event.data for event in found.events], [tag], f"events with the tag {tag!a}")
        found = await t.store.query(match(types={f"T{tag}"}))
        t.equal([event.data for event in found.events], [tag], f"events of the type T{tag!a}")


@clause("QRY-06", needs=("global_order",))
async def reading_all_by_a_query(t: Trial) -> None:
    """`read_all` and `iterate_all` with a query give the events that match it."""
    places = await fill_six(t)
    for query, wanted in CASES:
        read = await t.store.read_all(query=query)
        t.equal(numbers(read.events), wanted, f"read_all: {query.to_json()}")
        t.true(read.position >= places[-1], "its position is that of the last event", read.position)
        found = await collect(t.store.iterate_all(query=query))
        t.equal(numbers(found), wanted, f"iterate_all: {query.to_json()}")
    few = await t.store.read_all(query=match("y"), after=places[1], max_count=1)
    t.equal(numbers(few.events), [2], "read_all with a query, after a position, one event")


@clause("QRY-07", needs=("global_order",))
async def a_query_among_other_filters(t: Trial) -> None:
    """A query, `types` and `prefix` narrow each other."""
    await fill_six(t)
    for types, prefix, wanted in (
        ({"Closed"}, None, [2]),
        (None, "b", [1]),
        ({"Opened"}, "b", [1]),
        ({"Opened"}, "c", list[int]()),
    ):
        read = await t.store.read_all(query=match("x", "y"), types=types, prefix=prefix)
        t.equal(numbers(read.events), wanted, f"query, types {types} and prefix {prefix}")


@clause("QRY-08", needs=("global_order",))
async def following_a_query(t: Trial) -> None:
    """A subscription with a query gives the events that match it, old ones and new ones."""
    await fill_six(t)
    async with t.store.subscribe(query=match("x", "y")) as subscription:
        t.equal(numbers(await take(subscription, 2)), [1, 2], "old events")
        await t.store.append("a", [NewEvent("New", 6, tags={"x"})])
        await t.store.append("a", [NewEvent("New", 7, tags={"y", "x", "w"})])
        t.equal(numbers(await take(subscription, 1)), [7], "new events")


@clause("QRY-09", needs=("global_order",))
async def many_matches(t: Trial) -> None:
    """A query gives all of thousands of events, forwards and backwards."""
    for start in range(0, 3_000, 500):
        events = [
            NewEvent("Counted", n, tags={"all", f"part:{n % 3}"}) for n in range(start, start + 500)
        ]
        await t.store.append(f"s{start % 1000}", events)
    third = [n for n in range(3_000) if n % 3 == 1]
    for query, wanted in ((match("all"), list(range(3_000))), (match("all", "part:1"), third)):
        t.equal(numbers((await t.store.query(query)).events), wanted, "events forwards")
        found = await t.store.query(query, backwards=True, max_count=700)
        t.equal(numbers(found.events), wanted[::-1][:700], "700 events backwards")


@clause("QRY-10", needs=("global_order",))
async def against_a_model(t: Trial) -> None:
    """Random queries give what a look at each event gives, from any position and in both orders."""
    chance = random.Random(t.seed)  # noqa: S311  # no secret
    for number in range(40):
        events = [random_event(chance, 5, number) for _ in range(chance.randint(1, 3))]
        await t.store.append(f"s{number % 7}", events)
    every = (await t.store.read_all()).events
    t.true(len(every) >= 40, "the events are there", len(every))
    for _ in range(60):
        query, backwards = random_query(chance, 5), chance.random() < 0.4
        after = chance.choice([0, 0, chance.choice(every).position])
        count = chance.choice([None, 1, 3])
        wanted = [
            event
            for event in every
            if event.position > after and query.covers(event.type, event.tags)
        ]
        found = await t.store.query(query, after=after, max_count=count, backwards=backwards)
        what = f"{query.to_json()} after {after}, at most {count}, backwards={backwards}"
        t.equal(found.events, (wanted[::-1] if backwards else wanted)[:count], what)
        if not backwards and count is None:
            read = await t.store.read_all(query=query, after=after)
            t.equal(read.events, wanted, f"read_all: {what}")


@clause("QRY-11", needs=("global_order",))
async def bad_queries_are_refused(t: Trial) -> None:
    """What is no query, and bad ranges of one, raise InvalidArgumentError."""
    await t.store.append("a", make(1))
    bad: tuple[Any, ...] = ("Opened", None, {"tags": ["x"]}, Match(tags={"x"}), ["x"])
    for query in bad:
        with t.raises(InvalidArgumentError, f"query({query!r})"):
            await t.store.query(query)
        with t.raises(InvalidArgumentError, f"append unless {query!r}"):
            await t.store.append("a", make(1), unless=query, since="token")
    wrong: tuple[dict[str, Any], ...]
    wrong = ({"after": -1}, {"max_count": -1}, {"after": "1"}, {"max_count": True})
    for asked in wrong:
        with t.raises(InvalidArgumentError, f"query with {asked}"):
            await t.store.query(Query.all(), **asked)
    with t.raises(InvalidArgumentError, "read_all with what is no query"):
        await t.store.read_all(query=bad[0])
    with t.raises(InvalidArgumentError, "subscribe with what is no query"):
        async with t.store.subscribe(query=bad[0]):
            pass
    await t.untouched("a", 1, "bad queries")


@clause("QRY-12", needs=("global_order", "shared"))
async def fresh_events_of_others(t: Trial) -> None:
    """A query shows at once what another store has appended."""
    async with t.second_client() as other:
        for number in range(30):
            await other.append(f"s{number % 3}", [NewEvent("By", number, tags={"x"})])
            found = await t.store.query(match("x"), backwards=True, max_count=1)
            t.equal(numbers(found.events), [number], "the newest event")


@clause("QRY-13", unless="global_order")
async def without_an_order_it_is_refused(t: Trial) -> None:
    """Without a global order, a query raises NotSupportedError."""
    await t.store.append("a", make(1))
    with t.raises(NotSupportedError, "query without a global order"):
        await t.store.query(match("x"))
    await t.untouched("a", 1, "query without a global order")
