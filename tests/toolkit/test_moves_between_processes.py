"""Writers in other processes race with a move that is killed: no event is lost, or left behind."""

from __future__ import annotations

import os
import random
import secrets

from collections.abc import Generator
from pathlib import Path

import pytest

from anyio import to_thread
from tests.copies import held
from tests.toolkit.read_models import PLACES
from tests.toolkit.starting import workers

from eventport import connect
from eventport.fencing import fenced

from eventport_conformance.scripts import Start, go_together
from eventport_conformance.waiting import no_hang


KILLS = int(os.environ.get("EVENTPORT_TEST_KILLS", "3"))


@pytest.fixture
def start() -> Generator[Start]:
    with workers() as start_:
        yield start_


def outcomes(files: list[Path]) -> tuple[set[str], set[str]]:
    """Return the ids of events that were acknowledged, and of those that were refused."""
    lines = [line.split() for file in files for line in file.read_text().splitlines()]
    written = {id_ for what, id_ in lines if what == "written"}
    return written, {id_ for what, id_ in lines if what == "refused"}


@pytest.mark.parametrize("pair", ["sqlite-postgres", "postgres-sqlite"])
async def test_killed_moves_end_right(
    request: pytest.FixtureRequest, tmp_path: Path, start: Start, pair: str
) -> None:
    source, target = (PLACES[name](request).url for name in pair.split("-"))
    files = [tmp_path / "first", tmp_path / "second"]
    seed = int(os.environ.get("EVENTPORT_CHAOS_SEED", secrets.randbits(32)))
    print(f"EVENTPORT_CHAOS_SEED={seed}")  # noqa: T201  # for a failure
    rng = random.Random(seed)
    async with connect(source) as theirs, connect(target) as ours:
        writers = [start("write_until_moved", source, file) for file in files]
        await to_thread.run_sync(go_together, *writers)
        for writer in writers:
            assert await to_thread.run_sync(writer.line) == "writing"
        for _ in range(KILLS):
            # A few calls follow the fence, and most come before it.
            since = rng.choice(["", "set_fence"])
            at = rng.randrange(1, 30 if since else 100)
            mover = start("move_until_killed", source, target, at, since)
            await to_thread.run_sync(mover.lines)
            if mover.returncode == 0:
                break  # it had fewer calls
        with no_hang("the last move ends"):
            last = start("move_until_killed", source, target, 0, "")
            assert '"is_done":true' in await to_thread.run_sync(last.output)
        for writer in writers:
            await to_thread.run_sync(writer.output)
        written, refused = outcomes(files)
        there = {str(event.id) async for event in ours.iterate_all()}
        assert there == written
        assert refused
        assert await held(ours) == await held(theirs)
        assert "have moved" in (await fenced(theirs) or "")
