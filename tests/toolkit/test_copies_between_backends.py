"""A store is copied from each backend to each other one, and then is equal."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import permutations

import pytest

from adapters.eventstoredb.tests.at_servers import numbered, set_metadata
from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double
from tests.copies import fill, held
from tests.toolkit.backends import BACKENDS

from eventport import connect
from eventport.copying import CopyRefusedError, copy_events


ENGINES = ("memory", "sqlite", "postgres", "mongodb", "eventstoredb")


@pytest.mark.parametrize(("first", "second"), [*permutations(ENGINES, 2)])
async def test_a_copy_is_equal(request: pytest.FixtureRequest, first: str, second: str) -> None:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(BACKENDS[first](request))
        there = await stack.enter_async_context(BACKENDS[second](request))
        source = await stack.enter_async_context(here())
        target = await stack.enter_async_context(there())
        await fill(source, 40, 12, seed=ENGINES.index(first))
        report = await copy_events(source, target)
        assert report.is_equal, report.difference
        assert report.source_hash == report.target_hash
        assert (report.copied, report.there, report.times_kept) == (
            len(await held(source)),
            0,
            True,
        )
        assert await held(target) == await held(source)

        await fill(source, 3, 2, seed=99)
        grown = await copy_events(source, target)
        assert grown.is_equal
        assert grown.there == report.copied
        assert await held(target) == await held(source)


async def test_a_truncated_stream_is_not_copied() -> None:
    double = Double()
    async with serve(double), connect(double.uri) as source, connect("memory://") as target:
        await source.append("whole", numbered(2))
        await source.append("cut", numbered(4))
        set_metadata(double, "cut", '{"$tb": 2}')
        with pytest.raises(CopyRefusedError, match="stream 'cut' cannot be copied"):
            await copy_events(source, target)
        assert not (await target.read_all()).events
