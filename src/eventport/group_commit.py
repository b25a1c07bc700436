"""Group commit: what arrives while one commit is on the wire becomes the next, shared commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, cast

from anyio import Event

from eventport.commits import Commit, Outcome
from eventport.errors import StoreUnavailableError
from eventport.shielding import run_shielded


MAX_BATCH_EVENTS: Final = 1_000
"""A batch is full when its events are this many, so that no caller waits for too large a one."""

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""A batch is full when the data in it is of about this size."""


class GroupCommit:
    """Turns commits that arrive at the same time into batches, each with its own outcome.

    There is no timer, so a lone commit waits for nothing, and no background task: the caller
    who finds nobody at work leads a batch, the others wait. When its batch is done the leader
    makes the first of those who came meanwhile the next leader, and returns. The idea is that
    of the write-ahead log's group commit in databases (DeWitt et al., 1984, "Implementation
    techniques for main memory database systems"), done by the client.

    Args:
        commit: Writes a batch. It returns an outcome for each commit, in order; if it raises,
            it has written nothing, or else it raises `StoreUnavailableError`.
    """

    def __init__(self, commit: Callable[[Sequence[Commit]], Awaitable[Sequence[Outcome]]]) -> None:
        self._commit = commit
        self._queue: deque[_Request] = deque()
        self._leading = False
        self._idle: Event | None = None

    async def submit(self, commit: Commit) -> Outcome:
        """Commit together with others, and return this commit's own outcome.

        A caller who is cancelled while waiting for its turn leaves nothing behind. A leader who
        is cancelled brings its batch to an end first, because others depend on it.
        """
        request = _Request(commit)
        self._queue.append(request)
        if self._leading:
            try:
                await request.turn.wait()
            except BaseException:  # cancelled, or thrown away by a loop that closes
                self._leave(request)
                raise
            if request.ended:
                return request.result()
        self._leading = True
        await run_shielded(self._lead)
        return request.result()

    async def drain(self) -> None:
        """Wait until nothing is pending."""
        while self._leading:
            if self._idle is None:
                self._idle = Event()
            await self._idle.wait()

    async def _lead(self) -> None:
        """Commit one batch, whose first request is the leader's own."""
        batch = self._take()
        try:
            await self._run(batch)
        finally:
            for request in batch:
                request.end()
            self._hand_over()

    def _leave(self, request: _Request) -> None:
        """Take a cancelled caller out of the queue; if it had been made leader, pass that on."""
        if request in self._queue:
            self._queue.remove(request)
            if request.turn.is_set():
                self._hand_over()

    def _hand_over(self) -> None:
        if self._queue:
            self._queue[0].turn.set()
            return
        self._leading = False
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    def _take(self) -> list[_Request]:
        batch = [self._queue.popleft()]
        events, size = batch[0].events, batch[0].size
        while self._queue:
            request = self._queue[0]
            events += request.events
            size += request.size
            if events > MAX_BATCH_EVENTS or size > MAX_BATCH_BYTES:
                break
            batch.append(self._queue.popleft())
        return batch

    async def _run(self, batch: Sequence[_Request]) -> None:
        try:
            outcomes = await self._commit([request.commit for request in batch])
        except StoreUnavailableError as exc:
            for request in batch:
                request.error = exc
        except Exception as exc:  # noqa: BLE001  # it is handed to the callers
            if len(batch) == 1:
                batch[0].error = exc
                return
            # One of them spoils the batch, of which nothing was written: find out which.
            for request in batch:
                await self._run([request])
        else:
            for request, outcome in zip(batch, outcomes, strict=True):
                request.outcome = outcome


class _Request:
    """One caller's commit on its way through a batch."""

    __slots__ = ("commit", "error", "events", "outcome", "size", "turn")

    def __init__(self, commit: Commit) -> None:
        self.commit = commit
        self.turn = Event()
        """Set when the caller has something to do: to take its result, or to lead."""
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self.events = sum(len(write.events) for write in commit.writes)
        self.size = sum(
            len(event.data) + len(event.metadata)
            for write in commit.writes
            for event in write.events
        )

    @property
    def ended(self) -> bool:
        return self.outcome is not None or self.error is not None

    def end(self) -> None:
        """Give the caller its result; there is none only if the event loop cut the batch off."""
        if not self.ended:
            message = "the commit was interrupted, so it is not known whether it took place"
            self.error = StoreUnavailableError(message)
        self.turn.set()

    def result(self) -> Outcome:
        if self.outcome is None:
            raise cast("Exception", self.error)
        return self.outcome
