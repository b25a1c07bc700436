"""Many tasks of two processes on one stream: nobody gives up, whichever way they write."""

from __future__ import annotations

import subprocess
import sys

from pathlib import Path

import pytest

from anyio import to_thread
from tests.toolkit.accounts import TYPES, Deposited
from tests.toolkit.read_models import PLACES

from eventport import connect

from eventport_conformance.waiting import HANG_SECONDS, no_hang


WORKER = Path(__file__).parent / "workers" / "deposit.py"
DEPOSITS = 150


@pytest.mark.parametrize("way", ["command", "session"])
@pytest.mark.parametrize("database", PLACES)
async def test_no_task_gives_up(request: pytest.FixtureRequest, database: str, way: str) -> None:
    place = PLACES[database](request)
    async with connect(place.url) as store:
        await store.append("account-1", [TYPES.new(Deposited(1))])
        processes = [_start(place.url, way) for _ in range(2)]
        try:
            with no_hang(seconds=5 * HANG_SECONDS):
                for process in processes:
                    assert process.stdout is not None
                    assert await to_thread.run_sync(process.stdout.readline) == "ready\n"
                for process in processes:  # all begin at the same moment
                    assert process.stdin is not None
                    process.stdin.write("go\n")
                    process.stdin.flush()
                ended = [await to_thread.run_sync(each.communicate) for each in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        assert [out for out, _ in ended] == ["0 []\n"] * 2
        assert (await store.read("account-1", max_count=0)).version == 1 + 2 * DEPOSITS


def _start(url: str, way: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WORKER), url, way, str(DEPOSITS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
