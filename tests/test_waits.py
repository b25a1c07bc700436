"""A wait on a server ends at its deadline, with an error that says what did not come."""

from __future__ import annotations

import asyncio

import pytest

from eventport.adapter import limit_wait


pytestmark = pytest.mark.usefixtures("in_time")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_the_error_says_what_did_not_come() -> None:
    with pytest.raises(TimeoutError, match=r"^no answer within 0\.01 s$"):
        async with limit_wait(0.01):
            await asyncio.Event().wait()
    with pytest.raises(TimeoutError, match=r"^no connection was free within 0\.01 s$"):
        async with limit_wait(0.01, "no connection was free"):
            await asyncio.Event().wait()


async def test_a_block_that_ends_in_time_changes_nothing() -> None:
    async with limit_wait(60):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError, match=r"^the driver's own$"):
        async with limit_wait(60):
            raise TimeoutError("the driver's own")


async def test_a_wait_can_be_cut_short() -> None:
    async def work() -> None:
        async with limit_wait(None) as wait:
            wait.cut()
            wait.cut()
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match="cut short"):
        await work()


async def test_a_cancelled_caller_gets_its_cancellation() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with limit_wait(60):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
