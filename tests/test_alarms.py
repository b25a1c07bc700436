"""Alarms ring at their time, and a block that is limited by one is left as `asyncio.timeout` is."""

from __future__ import annotations

import asyncio

from functools import partial

import pytest

from anyio import CancelScope

from eventport._concurrency.alarms import Alarms

from eventport_conformance.waiting import no_hang


pytestmark = pytest.mark.usefixtures("in_time")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_they_ring_in_order_except_those_that_were_cleared() -> None:
    alarms, now = Alarms(), asyncio.get_running_loop().time()
    rung: list[int] = []
    done = asyncio.Event()
    numbers = [
        alarms.set(now + delay / 100, partial(rung.append, delay)) for delay in (5, 3, 1, 4, 2)
    ]
    alarms.set(now + 0.06, done.set)
    alarms.clear(numbers[3])
    alarms.clear(numbers[3])
    await done.wait()
    assert rung == [1, 2, 3, 5]
    alarms.clear(numbers[0])  # it has gone off


async def test_an_alarm_may_clear_another_that_is_due() -> None:
    alarms, now = Alarms(), asyncio.get_running_loop().time()
    rung: list[str] = []
    done = asyncio.Event()
    other = 0
    alarms.set(now, lambda: alarms.clear(other))
    other = alarms.set(now, lambda: rung.append("other"))
    alarms.set(now, done.set)
    await done.wait()
    assert rung == []


async def test_a_block_is_left_when_its_time_is_over() -> None:
    alarms, now = Alarms(), asyncio.get_running_loop().time()
    with alarms.limit(now + 60), alarms.limit(now + 0.01):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    with alarms.limit(now + 60):
        await asyncio.sleep(0)


async def test_a_cancellation_by_others_goes_on() -> None:
    alarms, now = Alarms(), asyncio.get_running_loop().time()
    with CancelScope() as scope:
        with alarms.limit(now + 60):
            scope.cancel()
            await asyncio.Event().wait()
        pytest.fail("the scope is cancelled")
    assert scope.cancelled_caught

    async def work() -> None:
        with alarms.limit(now + 60):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError), no_hang():
        await task


async def test_both_at_the_same_moment_are_a_cancellation() -> None:
    alarms, now = Alarms(), asyncio.get_running_loop().time()
    entered = asyncio.Event()

    async def work() -> None:
        with alarms.limit(now):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    alarms._ring()  # before the task has gone on
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_comes_through() -> None:
    alarms, now = Alarms(), asyncio.get_running_loop().time()
    with pytest.raises(KeyError), alarms.limit(now + 60):
        raise KeyError
