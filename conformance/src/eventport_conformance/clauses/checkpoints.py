"""CKP: checkpoint stores, which others may write for a database of theirs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from anyio import create_task_group
from anyio.lowlevel import checkpoint

from eventport.errors import InvalidArgumentError
from eventport.projections import (
    CheckpointStore,
    DeadLetter,
    LastEvent,
    Lease,
    LeaseLostError,
    NoDeadLetterError,
    ProjectionId,
)

from eventport_conformance.cancelling import cancel_everywhere
from eventport_conformance.clause import clause
from eventport_conformance.helpers import at_once
from eventport_conformance.trial import Deviation, Trial


ID: Final = ProjectionId("totals/of %", 2)
LONG: Final = 600.0
"""How many seconds a lease lasts: no clause waits for it to run out."""

LAST: Final = LastEvent(7, "order-1", 3, UUID(int=7))


class _Abandoned(Exception):  # noqa: N818  # it is what the clause does
    """Raised in a block by the clause itself."""


@asynccontextmanager
async def _opened(t: Trial) -> AsyncGenerator[CheckpointStore[Any], None]:
    async with t.harness.checkpoints(t.bare) as checkpoints:
        yield checkpoints


async def _lease(checkpoints: CheckpointStore[Any], owner: str = "one") -> Lease[Any]:
    lease = await checkpoints.acquire(ID, owner, LONG, "store-1")
    if lease is None:
        what = f"acquire by {owner!r}"
        raise Deviation(what, "a lease", "None")
    return lease


def _letter(position: int) -> DeadLetter:
    return DeadLetter(
        position, f"order-{position}", 1, "Placed", "KeyError", 5, datetime(2026, 1, 2, tzinfo=UTC)
    )


@clause("CKP-01", uses=("checkpoints",))
async def a_checkpoint_moves_on_and_never_back(t: Trial) -> None:
    """A checkpoint starts at 0, moves on by `advance` and `renew`, and never goes back."""
    async with _opened(t) as checkpoints:
        t.equal((await checkpoints.load(ID)).position, 0, "position before the first run")
        lease = await _lease(checkpoints)
        t.equal(lease.checkpoint.position, 0, "position of the first lease")
        for position, kept in [(5, 5), (7, 7), (6, 7)]:
            async with lease.advance(position):
                pass
            t.equal((await checkpoints.load(ID)).position, kept, f"position after {position}")
        for position, kept in [(3, 7), (9, 9)]:
            await lease.renew(position)
            t.equal((await checkpoints.load(ID)).position, kept, f"position renewed at {position}")
        other = ProjectionId(ID.name, ID.generation + 1)
        t.equal((await checkpoints.load(other)).position, 0, "position of another generation")
        await lease.release()
        again = await _lease(checkpoints, "two")
        t.equal(again.checkpoint.position, 9, "position of the next lease")


@clause("CKP-02", uses=("checkpoints",))
async def one_runner_has_the_lease(t: Trial) -> None:
    """While a runner has the lease, no other gets it, until it is released."""
    async with _opened(t) as checkpoints:
        lease = await _lease(checkpoints)
        t.equal(await checkpoints.acquire(ID, "two", LONG), None, "acquire by another runner")
        t.equal((await checkpoints.load(ID)).owner, "one", "owner")
        await lease.release()
        t.equal((await checkpoints.load(ID)).owner, None, "owner after the release")
        second = await _lease(checkpoints, "two")
        t.equal((await checkpoints.load(ID)).owner, "two", "owner of the next lease")
        await lease.release()  # it is no longer its own
        t.equal((await checkpoints.load(ID)).owner, "two", "owner after a late release")
        await second.renew(1)


@clause("CKP-03", uses=("checkpoints",))
async def a_new_lease_fences_off_the_one_before(t: Trial) -> None:
    """Once a lease was given anew, or reset, the one before it changes nothing any more."""
    async with _opened(t) as checkpoints:

        async def refused(lease: Lease[Any], position: int) -> None:
            with t.raises(LeaseLostError, "renew"):
                await lease.renew(100)
            with t.raises(LeaseLostError, "advance"):
                async with lease.advance(100, last_event=LAST, dead_letter=_letter(100)):
                    pass
            t.equal((await checkpoints.load(ID)).position, position, "position")
            t.equal(await checkpoints.dead_letters(ID), [], "dead letters")

        first = await _lease(checkpoints)
        second = await _lease(checkpoints)  # its own lease, as after a restart
        async with second.advance(3):
            pass
        await refused(first, 3)
        await checkpoints.reset(ID, 2)
        await refused(second, 2)


@clause("CKP-04", uses=("checkpoints",))
async def a_block_that_raises_moves_nothing(t: Trial) -> None:
    """A block of `advance` that raises leaves checkpoint, dead letters and lease as they were."""
    async with _opened(t) as checkpoints:
        lease = await _lease(checkpoints)
        async with lease.advance(3, last_event=LAST):
            pass
        before = await checkpoints.load(ID)
        try:
            async with lease.advance(9, last_event=LAST, dead_letter=_letter(9)):
                raise _Abandoned  # noqa: TRY301  # the point
        except _Abandoned:
            pass
        t.equal(await checkpoints.load(ID), before, "checkpoint after a block that raised")
        t.equal(await checkpoints.dead_letters(ID), [], "dead letters")
        async with lease.advance(9):
            pass
        t.equal((await checkpoints.load(ID)).position, 9, "position of the next block")


@clause("CKP-05", uses=("checkpoints",))
async def a_checkpoint_names_what_it_belongs_to(t: Trial) -> None:
    """A checkpoint keeps the last event and the first `store_id`, until `reset` forgets them."""
    async with _opened(t) as checkpoints:
        lease = await _lease(checkpoints)
        async with lease.advance(7, last_event=LAST):
            pass
        async with lease.advance(8):
            pass
        await lease.renew(9)
        kept = await checkpoints.load(ID)
        t.equal((kept.last_event, kept.store_id), (LAST, "store-1"), "last event and store_id")
        await lease.release()
        again = await checkpoints.acquire(ID, "two", LONG, "store-2")
        found = None if again is None else again.checkpoint
        t.equal(found and (found.last_event, found.store_id), (LAST, "store-1"), "of the lease")
        kept = await checkpoints.load(ID)
        t.equal((kept.last_event, kept.store_id), (LAST, "store-1"), "after another store asked")
        await checkpoints.reset(ID, 4)
        after = await checkpoints.load(ID)
        seen = (after.position, after.owner, after.last_event, after.store_id)
        t.equal(seen, (4, None, None, None), "after a reset")


@clause("CKP-06", uses=("checkpoints",))
async def dead_letters_are_kept_and_resolved_once(t: Trial) -> None:
    """Dead letters are listed in order; one is resolved once, after its block."""
    async with _opened(t) as checkpoints:
        lease = await _lease(checkpoints)
        for position in (3, 5, 12):
            async with lease.advance(position, dead_letter=_letter(position)):
                pass
        letters = [_letter(3), _letter(5), _letter(12)]
        t.equal(await checkpoints.dead_letters(ID), letters, "dead letters")
        try:
            async with checkpoints.resolve(ID, 5):
                raise _Abandoned  # noqa: TRY301  # the point
        except _Abandoned:
            pass
        t.equal(await checkpoints.dead_letters(ID), letters, "after a block that raised")
        async with checkpoints.resolve(ID, 5):
            pass
        t.equal(await checkpoints.dead_letters(ID), [letters[0], letters[2]], "after one")
        for position in (5, 4):
            with t.raises(NoDeadLetterError, f"resolve of {position}"):
                async with checkpoints.resolve(ID, position):
                    pass
        other = ProjectionId(ID.name, ID.generation + 1)
        t.equal(await checkpoints.dead_letters(other), [], "of another generation")


@clause("CKP-07", uses=("checkpoints",))
async def the_active_generation_never_goes_back(t: Trial) -> None:
    """The highest generation that was activated is the active one; 0 says that there is none."""
    async with _opened(t) as checkpoints:
        t.equal(await checkpoints.active(ID.name), 0, "before")
        for generation, active in [(2, 2), (1, 2), (10, 10), (9, 10)]:
            await checkpoints.activate(ProjectionId(ID.name, generation))
            t.equal(await checkpoints.active(ID.name), active, f"after {generation}")
        t.equal(await checkpoints.active("another"), 0, "of another name")
        t.equal((await checkpoints.load(ProjectionId(ID.name, 10))).position, 0, "its position")


@clause("CKP-08", uses=("checkpoints",))
async def of_many_that_ask_one_gets_the_lease(t: Trial) -> None:
    """Of runners that ask for a free lease at the same time, at most one has one that is good."""
    async with _opened(t) as checkpoints:
        for turn in range(5):
            leases: list[Lease[Any]] = []

            async def ask(owner: str, leases: list[Lease[Any]] = leases) -> None:
                lease = await checkpoints.acquire(ID, owner, LONG)
                if lease is not None:
                    leases.append(lease)

            async with create_task_group() as group:
                for number in range(8):
                    group.start_soon(ask, f"runner-{turn}-{number}")
            t.equal(len(leases), 1, "leases that were given")
            await leases[0].renew(turn)
            await leases[0].release()


@clause("CKP-09", uses=("checkpoints",))
async def a_generation_is_divided_once(t: Trial) -> None:
    """The first `divide` of a generation that has not run decides; then it cannot be reset."""
    async with _opened(t) as checkpoints:
        asked: list[int] = []

        async def divide(partitions: int) -> None:
            asked.append(await checkpoints.divide(ID, partitions))

        t.equal((await checkpoints.load(ID)).partitions, 0, "partitions before")
        async with create_task_group() as group:
            for partitions in range(2, 8):
                group.start_soon(divide, partitions)
        kept = asked[0]
        t.equal(asked, [kept] * 6, "answers to callers that ask for different numbers")
        lease = await _lease(checkpoints)
        t.equal(lease.checkpoint.partitions, kept, "partitions of a lease")
        await lease.release()
        t.equal(await checkpoints.divide(ID, kept + 1), kept, "partitions asked for later")
        t.equal((await checkpoints.load(ID)).partitions, kept, "partitions")
        with t.raises(InvalidArgumentError, "reset of a divided generation"):
            await checkpoints.reset(ID, 3)
        t.equal((await checkpoints.load(ID)).position, 0, "position after a refused reset")
        run, reset = (ID._replace(generation=ID.generation + n) for n in (1, 2))
        await checkpoints.acquire(run, "one", LONG)
        await checkpoints.reset(reset, 5)
        for other in (run, reset):
            t.equal(await checkpoints.divide(other, 4), 0, f"divide of {other}, begun before")
            t.equal((await checkpoints.load(other)).partitions, 0, f"partitions of {other}")


@clause("CKP-10", uses=("checkpoints",))
async def a_cancelled_advance_takes_nothing_with_it(t: Trial) -> None:
    """An `advance` that is cancelled at any wait does all or nothing, and the next one is kept."""
    async with _opened(t) as checkpoints:
        lease = await _lease(checkpoints)
        position = 0

        async def advance(to: int) -> None:
            nonlocal position
            async with lease.advance(to):
                await checkpoint()
            position = to

        async for run in cancel_everywhere(t.backend, lambda: advance(position + 1)):
            target = position + 2
            try:
                await advance(target)
            except LeaseLostError:  # it cannot know what became of the cancelled one
                lease = await _lease(checkpoints)
                await advance(target)
            # A store that has several connections uses some of them for these.
            loads = await at_once(6, lambda _: checkpoints.load(ID))
            t.equal([one.position for one in loads], [target] * 6, f"position after it {run}")
