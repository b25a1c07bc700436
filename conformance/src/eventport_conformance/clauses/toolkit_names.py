"""NAM: streams that belong to the toolkit."""

from __future__ import annotations

from typing import Any, Final

from eventport import InvalidStreamNameError, NewEvent, Streams

from eventport_conformance.clause import clause
from eventport_conformance.helpers import fill, make
from eventport_conformance.trial import Trial


_OWN: Final = "eventport/key/email/ada"
_CLAIM: Final = NewEvent("eventport.KeyClaimed", {"owner": "ada"})


@clause("NAM-14")
async def toolkit_streams_refuse_events_of_a_program(t: Trial) -> None:
    """An append to `eventport/…` is refused unless each event's type begins with `eventport.`."""
    await fill(t.store, "good", 1)

    async def refused(streams: Streams, where: str) -> None:
        mixed: list[list[Any]] = [make(1), [_CLAIM, *make(1)], [NewEvent("eventport", 1)]]
        for number, events in enumerate(mixed):
            with t.raises(InvalidStreamNameError, f"append {number} {where}"):
                await streams.append(_OWN, events)

    await refused(t.store, "to a store")
    async with t.store.session() as session:
        await refused(session, "in a session")
    t.equal((await t.store.read(_OWN)).version, 0, "the stream's version")
    await t.untouched("good", 1, "refused appends")


@clause("NAM-15")
async def the_toolkit_appends_to_its_streams(t: Trial) -> None:
    """Events whose types begin with `eventport.` can be appended to `eventport/…`, and read."""
    t.equal((await t.store.append(_OWN, [_CLAIM])).version, 1, "version after an append")
    async with t.store.session() as session:
        await session.append(_OWN, [NewEvent("eventport.KeyReleased", {})])
    t.equal((await t.store.append(_OWN, [])).version, 2, "version after an append of no events")
    types = [event.type for event in (await t.store.read(_OWN)).events]
    t.equal(types, ["eventport.KeyClaimed", "eventport.KeyReleased"], "types read")
    # Only the whole of `eventport/` at the beginning is reserved.
    for name in ("eventport", "eventport-1", "my/eventport/1", "Eventport/1"):
        t.equal((await t.store.append(name, make(1))).version, 1, f"append to {name!r}")
