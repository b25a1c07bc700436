"""ODD: odd names and types in sessions over streams, and one append sent by several stores."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

from contextlib import AsyncExitStack

from eventport import ANY, NO_STREAM, AppendResult, NewEvent, NotSupportedError

from eventport_conformance.clause import clause
from eventport_conformance.helpers import at_once, make
from eventport_conformance.trial import Trial


_TYPES = ("a b", "a/b", "a+b@c", "été", "e\u0301te", "注文", "x😀", "'quoted'", "a:20b", "Plain")
_STORES = 3
_ROUNDS = 5


@clause("ODD-01", needs=("sessions",))
async def types_in_sessions_over_streams(t: Trial) -> None:
    """A session over several streams holds every event type that an append to one stream holds."""
    events = [NewEvent(type_, number) for number, type_ in enumerate(_TYPES)]
    async with t.store.session() as session:
        await session.append("a", events)
        await session.append("b", events)
    for stream in ("a", "b"):
        read = await t.store.read(stream)
        t.recorded(read.events, events, f"events of stream {stream} after the session")


@clause("ODD-02", needs=("sessions",))
async def names_that_differ_in_case_only(t: Trial) -> None:
    """Streams whose names differ in case only stay two in one session, or it is refused and writes
    nothing.
    """
    low, high = make(2), make(1)
    try:
        async with t.store.session() as session:
            await session.append("order-a", low)
            await session.append("order-A", high)
    except NotSupportedError:
        low, high = [], []
    for stream, events in (("order-a", low), ("order-A", high)):
        read = await t.store.read(stream)
        t.recorded(read.events, events, f"events of stream {stream} after the session")


@clause("ODD-03", needs=("shared",))
async def one_append_from_several_stores(t: Trial) -> None:
    """One append that several stores send at the same time is written once, and all succeed."""
    async with AsyncExitStack() as stack:
        others = [
            await stack.enter_async_context(t.second_client(f"store {number}"))
            for number in range(2, _STORES + 1)
        ]
        stores = [t.store, *others]
        for round_ in range(_ROUNDS):
            stream, events = f"s{round_}", make(3)

            async def work(
                number: int, stream: str = stream, events: list[NewEvent] = events
            ) -> AppendResult:
                return await stores[number].append(stream, events, expected=NO_STREAM)

            results = await at_once(_STORES, work)
            read = await t.store.read(stream)
            t.recorded(read.events, events, "events of an append that was sent by all")
            for result in results:
                t.equal(result.version, 3, "version that a store was given")
                t.equal(result.position, read.events[-1].position, "position that it was given")
            await stores[-1].append(f"other-{round_}", make(1), expected=ANY)
