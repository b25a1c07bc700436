"""USE: stores inside a transaction of the caller's."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from anyio import Event, create_task_group, sleep, sleep_forever

from eventport import ConcurrencyError, NotSupportedError, RecordedEvent, StoreClosedError

from eventport_conformance.cancelling import cancel_everywhere
from eventport_conformance.clause import clause
from eventport_conformance.clauses.inline import register_inline
from eventport_conformance.helpers import fill, make
from eventport_conformance.trial import Trial
from eventport_conformance.waiting import no_hang


_MEETING: Final = 0.15
"""How many seconds a transaction stays open; a busy machine can only make a clause see less."""


@clause("USE-01", uses=("using",))
async def what_is_joined_is_committed_or_undone_with_the_transaction(t: Trial) -> None:
    """Appends of a joined store are there exactly if the caller's transaction is committed."""
    await fill(t.store, "a", 1)
    for commits, head in ((False, 1), (True, 3)):
        async with t.harness.using(t.bare, commits) as joined:
            result = await joined.append("a", make(2), expected=1)
            t.equal(result.version, 3, "version of the append")
            async with joined.session() as session:
                await session.append("b", make(1))
            t.equal((await joined.read("b")).version, 1, "its own reads see it")
            t.equal((await t.store.read("a")).version, 1, "others see nothing before the end")
        t.equal((await t.store.read("a")).version, head, f"head, committed: {commits}")
        t.equal((await t.store.read("b")).version, int(commits), f"b, committed: {commits}")


@clause("USE-02", uses=("using",))
async def a_conflict_leaves_the_transaction_usable(t: Trial) -> None:
    """A conflict of a joined store writes nothing and leaves the caller's transaction usable."""
    await fill(t.store, "a", 1)
    async with t.harness.using(t.bare, True) as joined:  # noqa: FBT003  # as the hook is called
        await joined.append("b", make(1))
        with t.raises(ConcurrencyError, "append at a wrong version") as caught:
            await joined.append("a", make(1), expected=7)
        t.true("7" in str(caught.error), "the conflict names what was expected")
        await joined.append("a", make(1), expected=1)
        await joined.append("a", [])
    heads = [(await t.store.read(stream)).version for stream in ("a", "b")]
    t.equal(heads, [2, 1], "heads")


@clause("USE-03", uses=("using",))
async def a_joined_store_has_no_hooks_and_no_subscriptions(t: Trial) -> None:
    """A joined store, which does not see the commit, refuses hooks and subscriptions."""
    async with t.harness.using(t.bare, False) as joined:  # noqa: FBT003  # as above
        with t.raises(NotSupportedError, "subscribe"):
            async with joined.subscribe():
                pass
        with t.raises(NotSupportedError, "after_commit"):
            getattr(joined, "after_commit")(_hook)  # noqa: B009  # no protocol has it here
        await joined.aclose()
    await fill(t.store, "a", 1)


@clause("USE-04", uses=("using",))
async def a_cancelled_append_is_whole_or_not_there(t: Trial) -> None:
    """A joined append that is cancelled at any wait is in the transaction whole or not at all."""
    runs = 0

    async def append() -> None:
        await joined.append(f"s{runs}", make(3))

    async with AsyncExitStack() as opened:
        joined = await opened.enter_async_context(t.harness.using(t.bare, True))  # noqa: FBT003  # as above
        async for run in cancel_everywhere(t.backend, append):
            await opened.aclose()
            head = (await t.store.read(f"s{runs}")).version
            t.true(head in {0, 3}, f"all or nothing of an append {run}", head)
            t.true(head == 3 or not run.finished, f"what has returned is there: {run}")
            runs += 1
            joined = await opened.enter_async_context(t.harness.using(t.bare, True))  # noqa: FBT003  # as above


@clause("USE-05", uses=("using", "inline_notes"))
async def an_append_cancelled_in_a_handler_leaves_nothing(t: Trial) -> None:
    """A joined append that is cancelled while a handler waits leaves nothing to be committed."""
    async with t.harness.inline_notes(t.bare) as notes:
        waiting = Event()

        async def wait(_: Sequence[RecordedEvent], transaction: Any) -> None:
            await notes.write(transaction, "a note")
            waiting.set()
            await sleep_forever()

        register_inline(t, wait)
        async with (
            t.harness.using(t.bare, True) as joined,  # noqa: FBT003  # as above
            no_hang(),
            create_task_group() as group,
        ):
            group.start_soon(joined.append, "a", make(2))
            await waiting.wait()
            group.cancel_scope.cancel()
        t.equal((await t.store.read("a")).version, 0, "head")
        t.equal(list(await notes.committed()), [], "what the handler wrote")


async def _hook(_: object) -> None:
    """Never called."""


@clause("USE-06", uses=("using",))
async def a_closed_store_joins_nothing(t: Trial) -> None:
    """A store that has been closed raises StoreClosedError when it is to join a transaction."""
    await fill(t.store, "a", 1)
    await t.bare.aclose()
    with t.raises(StoreClosedError, "joining after closing"):
        async with t.harness.using(t.bare, True):  # noqa: FBT003  # as above
            pass


@clause("USE-07", uses=("using",))
async def who_meets_an_open_transaction_waits(t: Trial) -> None:
    """Appends that meet a transaction of a caller's which is still open are all written in the end,
    after it or beside it.
    """
    await fill(t.store, "a", 1)
    async with (
        create_task_group() as tasks,
        t.harness.using(t.bare, True) as joined,  # noqa: FBT003  # as above
    ):
        await joined.append("a", make(2), expected=1)
        for stream in ("a", "b", "c", "a"):
            tasks.start_soon(t.store.append, stream, make(1))
        await sleep(_MEETING)
    heads = [(await t.store.read(stream)).version for stream in ("a", "b", "c")]
    t.equal(heads, [5, 1, 1], "heads")
    await t.untouched("a", 5, "appends beside a transaction")
