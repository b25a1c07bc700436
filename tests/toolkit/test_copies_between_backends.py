"""A store is copied from each backend to each other one, and then is equal."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import permutations

import pytest

from tests.copies import fill, held
from tests.toolkit.backends import BACKENDS

from eventport.copying import copy_events


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
