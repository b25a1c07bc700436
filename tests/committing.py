"""What the tests of group commit share: an engine that holds batches, and callers."""

from __future__ import annotations

import asyncio

from collections.abc import Callable, Sequence

from anyio import (
    CancelScope,
    Event,
    move_on_after,
    wait_all_tasks_blocked,
)
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from eventport import NewEvent
from eventport._engine.commits import (
    Commit,
    Committed,
    Conflict,
    Outcome,
    StreamWrite,
    Written,
)
from eventport._engine.group_commit import (
    GroupCommit,
)
from eventport.adapter import encode_events

from eventport_conformance.waiting import HANG_SECONDS


def commit(name: str, *, events: int = 1, data: str = "1") -> Commit:
    """Make a commit that is told from others by its stream."""
    encoded = encode_events([NewEvent("T", data) for _ in range(events)])
    return Commit([StreamWrite(name, "any", encoded)])


def name_of(outcome: Outcome) -> int:
    assert isinstance(outcome, Committed)
    position = outcome.writes[0].positions[-1]
    assert position is not None
    return position


class Engine:
    """Takes batches, keeps each of them on the wire for as long as the test wants."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.written: list[str] = []
        self.held = held
        self.on_the_wire: list[Event] = []
        self.before_return: Callable[[], object] = lambda: None
        self.refuse: Callable[[Sequence[str]], Exception | None] = lambda _: None
        self.conflicts: set[str] = set()

    async def __call__(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        names = [commit.writes[0].stream for commit in commits]
        self.batches.append(names)
        if self.held:
            event = Event()
            self.on_the_wire.append(event)
            # A test that has failed answers no more, and what is shielded cannot be cancelled.
            with move_on_after(HANG_SECONDS) as waiting:
                await event.wait()
            if waiting.cancelled_caught:
                self.held = False
        else:
            await checkpoint()
        if error := self.refuse(names):
            raise error
        outcomes = [self._write(name) for name in names]
        self.before_return()
        return outcomes

    def _write(self, name: str) -> Outcome:
        if name in self.conflicts:
            return Conflict(name, 0, 7)
        self.written.append(name)
        return Committed([Written(1, [len(self.written)], created=True)])

    async def answer(self) -> None:
        """Let the batch that is on the wire come to its end, and everything that follows."""
        self.on_the_wire.pop(0).set()
        await wait_all_tasks_blocked()


class Caller:
    """One submit in a task of its own, and what became of it."""

    def __init__(self, group: GroupCommit, name: str) -> None:
        self.group = group
        self.commit = commit(name)
        self.scope = CancelScope()
        self.task: asyncio.Task[object] | None = None
        self.ended = False
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None

    async def run(self) -> None:
        try:
            with self.scope:
                self.outcome = await self.group.submit(self.commit)
        except Exception as exc:  # noqa: BLE001  # the test looks at it
            self.error = exc
        finally:
            self.ended = True

    def start_natively(self) -> None:
        self.task = asyncio.ensure_future(self.run())

    def cancel(self) -> None:
        if self.task:
            self.task.cancel()
        else:
            self.scope.cancel()


async def start(tasks: TaskGroup, group: GroupCommit, *names: str) -> list[Caller]:
    """Start callers one after the other, so that they queue in this order on trio, too."""
    callers = [Caller(group, name) for name in names]
    for caller in callers:
        tasks.start_soon(caller.run)
        await wait_all_tasks_blocked()
    return callers


async def drained(group: GroupCommit) -> None:
    """Wait until a group has nothing to write any more."""
    while group._queue.is_working:
        await checkpoint()
