"""Group commit: what arrives while one commit is on the wire becomes the next, shared commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeAlias

from anyio import get_cancelled_exc_class
from anyio.lowlevel import checkpoint_if_cancelled

from eventport._concurrency.nesting import inside_of
from eventport._concurrency.one_shot import OneShot, one_shot_factory
from eventport._concurrency.queueing import Queue, Request
from eventport._concurrency.shielding import wait_out
from eventport._engine.commits import Commit, Outcome
from eventport.errors import NotSupportedError, StoreUnavailableError


Batching: TypeAlias = Literal["always", "contended", "never"]
"""When commits that arrive at the same time are written as one batch.

- ``"always"``: each commit goes through the group. There is one call of `Engine.commit` at a time.
- ``"contended"``: a commit that finds no other pending is written by the caller's own task, which
  saves a task; those that arrive meanwhile form the first batch after it.
- ``"never"``: each commit is written alone and at once, for engines that have nothing to share or
  that form groups of their own.
"""

MAX_BATCH_COMMITS: Final = 128
"""A batch is full when it has this many commits: a larger one would start later, and the next
one can be encoded while this one is written."""

MAX_BATCH_EVENTS: Final = 1_000
"""A batch is full when it has this many events, so that no caller waits for a huge one."""

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""A batch is full when data and metadata in it have this size in UTF-8."""


_WAITS_FOR_ITSELF: Final = (
    "an append from inside a commit of the same store waits for itself: an inline handler appends "
    "in its own transaction, with store.using(transaction.connection), where the backend has that"
)


class GroupCommit:
    """Turns commits that arrive at the same time into batches, each with its own outcome.

    There is no timer, so a lone commit waits for nothing. A task of its own writes batch after
    batch while there are any, and ends with the last; no cancelled caller can tear a batch in
    two. The idea is that of the write-ahead log's group commit in databases (DeWitt et al.,
    1984, "Implementation techniques for main memory database systems"), done by the client.

    Args:
        commit: Writes a batch. It returns an outcome for each commit, in order; if it raises,
            it has written nothing, unless it raises `StoreUnavailableError`.
        give_up: Called when every caller of the batch that is being written has been cancelled:
            `commit` may then end early, by raising.
        commit_here: Writes a commit that is alone, in the caller's own task, which saves a task
            and a turn of the event loop. If it is cancelled, it raises only when nothing will be
            written any more. None to have all written by the group's own task.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Commit]], Awaitable[Sequence[Outcome]]],
        give_up: Callable[[], None] | None = None,
        commit_here: Callable[[Commit], Awaitable[Sequence[Outcome]]] | None = None,
    ) -> None:
        self._commit = commit
        self._commit_here = commit_here
        self._give_up = give_up
        self._queue = Queue[_Request](self._take_turn)
        self._written: Sequence[_Request] = ()
        self._marker: object = None
        """Stands for the batch that is being written: what it calls is inside of it."""
        self._one_shot: Callable[[], OneShot] | None = None
        """Known from the first commit on: the group may be made outside of an event loop."""

    async def submit(self, commit: Commit, *, is_alone: bool = False) -> Outcome:
        """Commit together with others, and return this commit's own outcome.

        A caller that is cancelled before its commit is on the wire leaves nothing behind. Later it
        waits for the end of the batch before the cancellation goes on, so that nothing more is
        written once this has returned or raised. The batch is asked to end early if all of its
        callers have been cancelled.

        Args:
            commit: What to write.
            is_alone: Whether no other caller is pending, nor has an answer that it has not taken
                yet: that one may well commit again in the same turn of the event loop.

        Raises:
            NotSupportedError: a commit of this very group is waiting for it.
        """
        if self._marker is not None and inside_of.get() is self._marker:
            raise NotSupportedError(_WAITS_FOR_ITSELF)
        if is_alone and self._commit_here is not None and not self._queue.is_working:
            return await self._write_here(commit, self._commit_here)
        if self._one_shot is None:
            self._one_shot = one_shot_factory()
        request = _Request(commit, self._one_shot())
        self._queue.waiting[request] = None
        if not self._queue.is_working:
            self._queue.start()
        try:
            await request.ended.wait()
        except get_cancelled_exc_class():
            if request in self._queue.waiting:
                del self._queue.waiting[request]
            else:
                self._abandon(request)
                await wait_out(request.ended)
            raise
        return request.result()

    def _abandon(self, request: _Request) -> None:
        request.abandoned = True
        if self._give_up is not None and all(one.abandoned for one in self._written):
            self._give_up()

    async def _write_here(
        self, commit: Commit, write: Callable[[Commit], Awaitable[Sequence[Outcome]]]
    ) -> Outcome:
        """Write a lone commit; those that arrive meanwhile form the first batch after it."""
        await checkpoint_if_cancelled()  # what is sent would have to be found out again
        self._queue.is_working = True
        self._marker = object()
        token = inside_of.set(self._marker)
        try:
            (outcome,) = await write(commit)
        finally:
            self._marker = None
            inside_of.reset(token)
            if self._queue.waiting:
                self._queue.start()
            else:
                self._queue.stop()
        return outcome

    async def _take_turn(self) -> None:
        batch = self._take()
        # For this task, and for what it calls. A task begun there may outlive the batch.
        self._marker = object()
        token = inside_of.set(self._marker)
        try:
            await self._run(batch)
        finally:
            self._marker = None
            inside_of.reset(token)
            for request in batch:
                request.end()

    def _take(self) -> list[_Request]:
        queue = self._queue
        batch = [queue.pop()]
        events, size = batch[0].events, batch[0].size
        while queue.waiting and len(batch) < MAX_BATCH_COMMITS:
            request = next(iter(queue.waiting))
            events += request.events
            size += request.size
            if events > MAX_BATCH_EVENTS or size > MAX_BATCH_BYTES:
                break
            batch.append(queue.pop())
        return batch

    async def _run(self, batch: Sequence[_Request]) -> None:
        self._written = batch
        try:
            outcomes = await self._commit([request.commit for request in batch])
        except StoreUnavailableError as exc:
            for request in batch:
                request.error = exc
        except Exception as exc:  # noqa: BLE001  # it is handed to the callers
            if len(batch) == 1:
                batch[0].error = exc
                return
            await self._run_one_by_one(batch, exc)
        else:
            if len(outcomes) != len(batch):
                message = f"the adapter returned {len(outcomes)} outcomes for {len(batch)} commits"
                for request in batch:
                    request.error = RuntimeError(message)
                return
            for request, outcome in zip(batch, outcomes, strict=True):
                request.answer = outcome

    async def _run_one_by_one(self, batch: Sequence[_Request], error: Exception) -> None:
        """Find out which commit spoils a batch, of which nothing was written."""
        for request in batch:
            if request.abandoned:
                request.error = error
            else:
                await self._run([request])


class _Request(Request[Outcome]):
    """One caller's commit on its way through a batch."""

    __slots__ = ("abandoned", "commit", "events", "size")

    interrupted = "the commit was interrupted, so it is not known whether it was written"

    def __init__(self, commit: Commit, ended: OneShot) -> None:
        super().__init__(ended)
        self.commit = commit
        self.abandoned = False
        self.events = self.size = 0
        for write in commit.writes:
            self.events += len(write.events)
            for event in write.events:
                self.size += event.size
