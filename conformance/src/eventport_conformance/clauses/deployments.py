"""ODD: clocks that go back, and clients with other settings."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

from typing import Final

from eventport import NewEvent

from eventport_conformance.clause import clause
from eventport_conformance.helpers import fill, make, take
from eventport_conformance.trial import Trial


_VALUES: Final = (
    {"text": "\u00e9\u6ce8\U0001f980 \0 \\ 'quoted' \\x41", "": [None, True, {"a.b": "$c"}]},
    [2**63 - 1, -(2**63), 0.1 + 0.2, 1e300, 5e-324, -0.0, 1.0],
    bytes(range(256)),
    "1,5",
)
"""Data whose form depends on settings of clients: decimals, escapes, encodings, kinds of ids."""


@clause("ODD-09", uses=("slow_clock",))
async def a_clock_that_goes_back(t: Trial) -> None:
    """Within a stream `recorded_at` never goes back, even if the clock does."""
    await t.store.append("order", make(2))
    async with t.harness.slow_clock():
        await t.store.append("order", make(1))
        await t.store.append("order", make(2), expected=3)
        async with t.store.session() as session:
            await session.append("order", make(2))
    await t.store.append("order", make(1))
    times = [event.recorded_at for event in (await t.store.read("order")).events]
    t.equal(times, sorted(times), "times of the stream's events")
    t.equal(len(times), 8, "number of events")


@clause("ODD-11", needs=("global_order",), uses=("slow_clock",))
async def the_order_is_not_that_of_clocks(t: Trial) -> None:
    """The global order is that of the appends, even if the clock goes back, and a subscription
    that catches up meanwhile misses nothing.
    """
    await fill(t.store, "a", 4)
    async with t.store.subscribe() as subscription:
        await take(subscription, 2)
        async with t.harness.slow_clock():
            await fill(t.store, "b", 2)
            await fill(t.store, "a", 1)
        await fill(t.store, "c", 1)
        rest = await take(subscription, 6)
    wanted = [("a", 3), ("a", 4), ("b", 1), ("b", 2), ("a", 5), ("c", 1)]
    t.equal([(event.stream, event.version) for event in rest], wanted, "events of a subscription")
    found = [(event.stream, event.version) for event in (await t.store.read_all()).events]
    t.equal(found, [("a", 1), ("a", 2), *wanted], "events of read_all")


@clause("ODD-10", needs=("shared",), uses=("odd_client",))
async def clients_with_other_settings(t: Trial) -> None:
    """What one store appends reads the same through another whose connection has unusual settings,
    and the reverse.
    """
    events = [NewEvent("Odd", value, {"n": n}) for n, value in enumerate(_VALUES)]
    others = [NewEvent("Odd", value, {"n": n}) for n, value in enumerate(_VALUES)]
    async with t.harness.odd_client() as odd:
        await t.store.append("ours", events, expected=0)
        await odd.append("theirs", others, expected=0)
        async with odd.session() as session:
            await session.append("theirs", make(2), expected=4)
        await fill(odd, "ours", 2)
        for stream, first in (("ours", events), ("theirs", others)):
            here, there = await t.store.read(stream), await odd.read(stream)
            t.equal(there, here, f"stream {stream}, positions and times included")
            t.recorded(here.events[:4], first, f"events of stream {stream}")
            t.equal(here.version, 6, f"version of stream {stream}")
        again = await odd.append("ours", events, expected=0)
        t.true(again.deduplicated, "an append that the other one sends again is deduplicated")
