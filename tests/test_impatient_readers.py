"""A reader whose patience is shorter than a read still gets every event of a subscription."""

from __future__ import annotations

from anyio import move_on_after, sleep

from eventport import NewEvent
from eventport.adapter import AllPage, AllQuery, Store

from eventport_conformance.waiting import no_hang
from eventport_memory.engine import MemoryEngine


class Distant(MemoryEngine):
    """A read of it takes a while."""

    async def read_all(self, query: AllQuery, /) -> AllPage:
        await sleep(0.05)
        return await super().read_all(query)


async def test_a_page_that_nobody_waits_for_any_more_is_for_the_next() -> None:
    store = Store(Distant())
    await store.append("a", [NewEvent("A", number) for number in range(5)])
    found: list[int] = []
    with no_hang():
        async with store.subscribe() as subscription:
            while len(found) < 11:
                with move_on_after(0.005):
                    async for event in subscription:
                        found.append(event.data)  # noqa: PERF401  # each at its time
                if len(found) == 5:
                    await store.append("b", [NewEvent("A", number) for number in range(5, 10)])
                    found.append(-1)
    assert found == [0, 1, 2, 3, 4, -1, 5, 6, 7, 8, 9]
