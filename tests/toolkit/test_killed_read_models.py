"""Documents count each event exactly once, whatever kills the runner."""

from __future__ import annotations

import os

from collections.abc import Generator
from pathlib import Path

import pytest

from adapters.mongodb.tests.conftest import needs_mongod
from adapters.mongodb.tests.servers import Server, with_database
from anyio import to_thread
from tests.toolkit.counted import COUNTS, Count
from tests.toolkit.read_models import PLACES
from tests.toolkit.starting import workers

from eventport import NewEvent, connect
from eventport.projections import open_checkpoints, wait_until
from eventport.read_models import open_read_models

from eventport_conformance.chaos import seeded_random
from eventport_conformance.waiting import HANG_SECONDS, no_hang


KILLS = int(os.environ.get("EVENTPORT_TEST_KILLS", "4"))


# A killed process leaves its transaction to the server, which ends it after a minute otherwise.
ENDS_SOON = ("--setParameter", "transactionLifetimeLimitSeconds=5")


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """Give the URL of a new store."""
    if request.param != "mongodb":
        yield PLACES[request.param](request).url
        return
    server = Server(tmp_path, *ENDS_SOON)
    server.start()
    try:
        yield with_database(server.url, "counted")
    finally:
        server.kill()


DATABASES = [*PLACES, pytest.param("mongodb", marks=needs_mongod)]


@pytest.mark.parametrize("url", DATABASES, indirect=True)
async def test_each_event_counts_once(url: str) -> None:
    chosen = seeded_random()
    async with (
        connect(url) as store,
        open_checkpoints(store) as checkpoints,
        open_read_models(store) as reader,
    ):
        last = 0
        with no_hang(seconds=HANG_SECONDS * (1 + KILLS / 4)), workers() as start:
            for turn in range(KILLS):
                for number in range(40):
                    event = NewEvent("Placed", number)
                    last = (await store.append(f"order-{number % 5}", [event])).position or 0
                worker = start("read_model", url)
                assert await to_thread.run_sync(worker.line) == "ready"
                for _ in range(chosen.randrange(1, 30)):
                    assert await to_thread.run_sync(worker.line), "the worker has ended by itself"
                if turn == KILLS - 1:
                    await wait_until(checkpoints, "counted", last)
                worker.kill()
        found = {one.key: one.document for one in await COUNTS.read(reader).find()}
        heads = {f"order-{number}": 8 * KILLS for number in range(5)}
        assert found == {stream: Count(head, head) for stream, head in heads.items()}
