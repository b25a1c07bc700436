"""ITR: going through a stream page by page."""

from __future__ import annotations

from contextlib import aclosing

from eventport_conformance.clause import clause
from eventport_conformance.helpers import collect, fill, make
from eventport_conformance.trial import Trial


@clause("ITR-01")
async def it_gives_the_whole_stream(t: Trial) -> None:
    """`iterate` yields all events of a stream, oldest first."""
    events = await fill(t.store, "order", 5)
    t.recorded(await collect(t.store.iterate("order")), events, "events iterated over")


@clause("ITR-02")
async def it_gives_a_range(t: Trial) -> None:
    """The bounds of `iterate` are inclusive versions, as those of a read."""
    await fill(t.store, "order", 6)
    for first, last in ((1, 6), (2, 4), (3, 3), (5, 99)):
        found = await collect(t.store.iterate("order", from_version=first, to_version=last))
        t.versions(found, range(first, min(last, 6) + 1), f"from {first} to {last}")


@clause("ITR-03")
async def it_goes_backwards(t: Trial) -> None:
    """`backwards` reverses the order of `iterate` and does not change the range."""
    await fill(t.store, "order", 6)
    found = await collect(t.store.iterate("order", backwards=True))
    t.versions(found, [6, 5, 4, 3, 2, 1], "backwards")
    found = await collect(t.store.iterate("order", from_version=2, to_version=4, backwards=True))
    t.versions(found, [4, 3, 2], "from 2 to 4 backwards")


@clause("ITR-04")
async def an_empty_range_ends_at_once(t: Trial) -> None:
    """`iterate` over an empty range or a missing stream yields nothing."""
    await fill(t.store, "order", 3)
    t.versions(await collect(t.store.iterate("order")), [1, 2, 3], "the stream")
    for first, last in ((4, None), (3, 2), (1, 0)):
        found = await collect(t.store.iterate("order", from_version=first, to_version=last))
        t.versions(found, [], f"from {first} to {last}")
    t.versions(await collect(t.store.iterate("missing")), [], "a missing stream")


@clause("ITR-05")
async def a_long_stream_is_whole(t: Trial) -> None:
    """`iterate` over a long stream yields each event once, in order, in both directions."""
    for first in range(1, 1301, 650):
        await t.store.append("order", make(650, start=first))
    t.versions(await collect(t.store.iterate("order")), range(1, 1301), "forwards")
    found = await collect(t.store.iterate("order", backwards=True))
    t.versions(found, range(1300, 0, -1), "backwards")


@clause("ITR-06")
async def it_ends_at_the_head_it_saw_first(t: Trial) -> None:
    """Events appended while `iterate` goes on are not part of it, so it ends."""
    await t.store.append("order", make(600))
    found: list[int] = []
    async with aclosing(t.store.iterate("order")) as events:
        async for event in events:
            found.append(event.version)
            if event.version % 100 == 0:
                await t.store.append("order", make(50))
            t.true(len(found) <= 600, "the iteration ends at 600", len(found))
    t.equal(found, list(range(1, 601)), "versions iterated over")


@clause("ITR-07")
async def the_store_can_be_used_meanwhile(t: Trial) -> None:
    """While a caller is in the middle of `iterate`, the store can be used for everything else."""
    await fill(t.store, "order", 5)
    seen: list[int] = []
    async with aclosing(t.store.iterate("order")) as events:
        async for event in events:
            result = await t.store.append("copy", make(1))
            read = await t.store.read("copy")
            seen.append(read.version)
            t.equal((result.version, read.version), (event.version,) * 2, "the other stream")
    t.equal(seen, [1, 2, 3, 4, 5], "heads of the other stream")


@clause("ITR-08")
async def it_can_be_left_in_the_middle(t: Trial) -> None:
    """A caller may leave `iterate` in the middle, and the store goes on."""
    await t.store.append("order", make(700))
    for _ in range(20):
        async with aclosing(t.store.iterate("order")) as events:
            async for event in events:
                if event.version == 3:
                    break
            else:
                t.true(False, "there is an event 3")  # noqa: FBT003  # reads well
    await t.untouched("order", 700, "20 iterations left in the middle")


@clause("ITR-09")
async def two_at_the_same_time(t: Trial) -> None:
    """Two concurrent iterations over one stream do not disturb each other."""
    await fill(t.store, "order", 6)
    found: list[int] = []
    async with (
        aclosing(t.store.iterate("order")) as up,
        aclosing(t.store.iterate("order", backwards=True)) as down,
    ):
        async for event in up:
            found += [event.version, (await anext(down)).version]
    t.equal(found, [1, 6, 2, 5, 3, 4, 4, 3, 5, 2, 6, 1], "versions, by turns")


@clause("ITR-10")
async def backwards_starts_at_one_head(t: Trial) -> None:
    """When iterating backwards, events appended meanwhile do not appear and shift nothing."""
    await t.store.append("order", make(600))
    found: list[int] = []
    async with aclosing(t.store.iterate("order", backwards=True)) as events:
        async for event in events:
            found.append(event.version)
            if event.version % 150 == 0:
                await t.store.append("order", make(5))
    t.equal(found, list(range(600, 0, -1)), "versions iterated over")
