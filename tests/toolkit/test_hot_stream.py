"""Many tasks of two processes on one stream: nobody gives up, whichever way they write."""

from __future__ import annotations

import pytest

from anyio import to_thread
from tests.toolkit.accounts import TYPES, Deposited
from tests.toolkit.read_models import PLACES
from tests.toolkit.starting import workers

from eventport import connect

from eventport_conformance.scripts import go_together


DEPOSITS = 150


@pytest.mark.parametrize("way", ["command", "session", "gate"])
@pytest.mark.parametrize("database", PLACES)
async def test_no_task_gives_up(request: pytest.FixtureRequest, database: str, way: str) -> None:
    place = PLACES[database](request)
    async with connect(place.url) as store:
        await store.append("account-1", [TYPES.new(Deposited(1))])
        with workers() as start:
            processes = [start("deposit", place.url, way, DEPOSITS) for _ in range(2)]
            await to_thread.run_sync(lambda: go_together(*processes))
            ended = [await to_thread.run_sync(each.output) for each in processes]
        assert ended == ["0 []\n"] * 2
        assert (await store.read("account-1", max_count=0)).version == 1 + 2 * DEPOSITS
