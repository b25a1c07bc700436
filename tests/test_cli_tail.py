"""`eventport tail --last` and `--stream`: where it begins, and how little it reads for that."""

from __future__ import annotations

import json
import os
import subprocess

from pathlib import Path

import pytest

from tests.cli_files import EVENTPORT

from eventport import InvalidArgumentError, NewEvent
from eventport.adapter import AllPage, AllQuery, Store
from eventport.cli.tailing import Selection, find_start
from eventport.projections import find_head

from eventport_memory import MemoryEventStore
from eventport_memory.engine import MemoryEngine


class Counting(MemoryEngine):
    """Counts the events that its pages of the global order held."""

    fetched = 0
    refuses_between = False

    async def read_all(self, query: AllQuery, /) -> AllPage:
        if self.refuses_between and query.after:
            raise InvalidArgumentError("this is no position of an event")
        page = await super().read_all(query)
        self.fetched += len(page.events)
        return page


async def filled(count: int, engine: MemoryEngine) -> Store:
    store = Store(engine, batching="never")
    for start in range(0, count, 1000):
        await store.append("s", [NewEvent("E", n) for n in range(start, min(count, start + 1000))])
    return store


@pytest.mark.parametrize("count", [0, 1, 3, 9, 10, 11])
@pytest.mark.parametrize("refuses", [False, True])
async def test_it_begins_before_the_last_events(count: int, *, refuses: bool) -> None:
    engine = Counting()
    engine.refuses_between = refuses
    async with MemoryEventStore() as _, await filled(10, engine) as store:
        start = await find_start(store, Selection(), count)
        engine.refuses_between = False
        assert len((await store.read_all(after=start)).events) == min(count, 10)


async def test_the_last_events_are_those_that_match() -> None:
    async with MemoryEventStore() as store:
        for number in range(200):
            await store.append(f"show-{number % 20}", [NewEvent("Odd" if number % 3 else "E", 1)])
        for chosen in (
            Selection(stream="show-1"),
            Selection(prefix="show-1"),
            Selection(["E"], stream="show-1"),
            Selection(["Never"]),
        ):
            all_ = [event async for event in store.iterate_all()]
            wanted = [
                event.position
                for event in all_
                if (chosen.types is None or event.type in chosen.types)
                and event.stream.startswith(chosen.prefix or "")
                and chosen.stream in {None, event.stream}
            ]
            start = await find_start(store, chosen, 3)
            assert [one for one in wanted if one > start] == wanted[-3:]


async def test_the_end_of_a_long_log_is_found_without_reading_it() -> None:
    engine = Counting()
    async with await filled(20_000, engine) as store:
        assert await find_head(store) == 20_000
        assert engine.fetched <= 1
        assert await find_start(store, Selection(), 5) == 19_995
        assert engine.fetched < 200


def test_the_command_shows_the_last_events_of_one_stream(tmp_path: Path) -> None:
    lines = ({"stream": f"show-{n % 15}", "type": "E", "data": n} for n in range(30))
    subprocess.run(
        [EVENTPORT, "import", "-", "--store", "sqlite:///s.db"],
        cwd=tmp_path,
        input="".join(f"{json.dumps(line)}\n" for line in lines),
        check=True,
        text=True,
    )
    process = subprocess.Popen(
        [EVENTPORT, "tail", "--stream", "show-1", "--last", "1", "--store", "sqlite:///s.db"],
        cwd=tmp_path,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()
    assert (line["stream"], line["data"]) == ("show-1", 16)


def test_it_takes_one_beginning(tmp_path: Path) -> None:
    done = subprocess.run(
        [EVENTPORT, "tail", "--after", "1", "--last", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--after or --last, not both" in done.stderr
