"""Calls of an engine: each has a deadline, and is repeated if its connection drops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, ParamSpec, TypeVar

from anyio import CancelScope, get_cancelled_exc_class, sleep

from eventport._concurrency.alarms import Limit, limit_factory
from eventport._concurrency.backoff import Backoff
from eventport._concurrency.one_shot import running_clock
from eventport._concurrency.shielding import run_shielded
from eventport._engine.commits import Commit, Failed, Outcome
from eventport._engine.engine import (
    AnswerLostError,
    ConnectionLostError,
    Engine,
    Interruptible,
    Remote,
)
from eventport.errors import StoreUnavailableError


P = ParamSpec("P")
T = TypeVar("T")

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
_SHORTEST_CALL: Final = 0.01
"""Even a late attempt gets this many seconds, so that it can say why it fails."""


def _scope(when: float) -> CancelScope:
    """Limit a call that may want to know its deadline, as `anyio.current_effective_deadline`."""
    return CancelScope(deadline=when)


class Deadline:
    """The moment at which attempts end, and the pauses between them.

    Args:
        seconds: How long they go on for.
        clock: That of the event loop; None to find out which one runs.
        start: When they began; None for now.
        limit: What ends a call at a time of that clock; a scope of anyio's unless it is given.
    """

    __slots__ = ("_backoff", "_clock", "_end", "_limit")

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] | None = None,
        start: float | None = None,
        limit: Limit = _scope,
    ) -> None:
        self._clock = clock or running_clock()
        self._end = (self._clock() if start is None else start) + seconds
        self._limit = limit
        self._backoff: Backoff | None = None

    @property
    def left(self) -> float:
        """How many seconds a call that begins now may take."""
        return max(self._end - self._clock(), _SHORTEST_CALL)

    @property
    def passed(self) -> bool:
        """Whether that moment is over."""
        return self._clock() >= self._end

    async def pause(self) -> None:
        """Wait before the next attempt."""
        if self._backoff is None:
            self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        await sleep(min(self._backoff.next(), self.left))

    async def limit(self, call: Awaitable[T], error: type[ConnectionLostError], where: str) -> T:
        """Treat a call that does not end in time as one whose connection dropped silently."""
        seconds = self.left
        cause: TimeoutError | None = None
        try:
            with self._limit(self._clock() + seconds):
                return await call
        except TimeoutError as exc:
            cause = exc
        message = f"{where}: no answer within {seconds:.3g} s"
        raise error(message) from (cause or TimeoutError())


async def retry_lost(call: Callable[[], Awaitable[T]], seconds: float, where: str) -> T:
    """Make a call that changes nothing, and make it again if the connection drops.

    Args:
        call: What to do.
        seconds: For how long to try.
        where: The place that errors name, without any secret.

    Raises:
        ConnectionLostError: it did not succeed in time.
    """
    return await _retry(call, Deadline(seconds), where, lambda: None)


async def _retry(
    call: Callable[P, Awaitable[T]],
    deadline: Deadline,
    where: str,
    on_loss: Callable[[], None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    reason: ConnectionLostError | None = None
    while True:
        try:
            return await deadline.limit(call(*args, **kwargs), ConnectionLostError, where)
        except ConnectionLostError as exc:
            on_loss()
            reason = _telling(reason, exc)
            if deadline.passed:
                raise reason from exc
        await deadline.pause()


class RemoteCalls:
    """The calls of a `Remote` engine.

    Args:
        engine: What is called.
        remote: The same engine, as the part that finds lost commits.
    """

    def __init__(self, engine: Engine, remote: Remote) -> None:
        self._engine = engine
        self._remote = remote
        self._progress: _Progress | None = None
        self._clock: Callable[[], float] | None = None
        self._limit: Limit = _scope
        self.losses = 0
        """How often a connection was lost so far."""

    def call(
        self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        """Ask for something; ask again if the connection drops.

        Raises:
            StoreUnavailableError: the server gave no answer in time.
        """
        clock = self._running_clock()
        deadline = Deadline(self._remote.timeout, clock, limit=self._limit)
        return _retry(call, deadline, self._engine.name, self._note_loss, *args, **kwargs)

    def interrupt(self) -> None:
        """Let the running `commit` end soon: nobody waits for it any more.

        What was sent is found out, but nothing is written again.
        """
        if self._progress is not None:
            self._progress.abandoned = True
        if isinstance(self._engine, Interruptible):
            self._engine.interrupt()

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Outcome]:
        """Write a batch: whatever happens to the connection, nothing is lost or written twice.

        Only the append's own answer acknowledges it, or what `Remote.find` finds. An error of
        the search is no answer to the append.
        """
        before = self._progress
        state = self._progress = _Progress(batch, self._remote.timeout, self._running_clock())
        try:
            await self._finish(state)
        finally:
            self._progress = before
        return state.result()

    async def commit_here(self, commit: Commit) -> Sequence[Outcome]:
        """Write one commit in the task of its caller, who may be cancelled.

        The cancellation goes on when it is known what became of the commit: whatever was sent is
        found out, and nothing is written any more after that.
        """
        state = _Progress([commit], self._remote.timeout, self._running_clock())
        try:
            await self._finish(state)
        except get_cancelled_exc_class():
            if state.abandon():
                await run_shielded(self._finish, state)
            raise
        return state.result()

    async def _finish(self, state: _Progress) -> None:
        """Write and find, until each commit has an outcome."""
        while state.left:
            was_search = state.unknown
            lost = await self._try(state)
            if not state.left:
                break
            if state.abandoned and not state.unknown:
                state.leave_unwritten()
            elif state.reason is not None and state.deadline.passed:
                self._give_up(state, state.reason)
            elif (lost is not None or was_search) and not state.is_first_search:
                await state.deadline.pause()

    async def _try(self, state: _Progress) -> ConnectionLostError | None:
        """Write or find what has no outcome yet; return the loss of a connection."""
        part = state.part
        try:
            if state.unknown:
                found = await self._find(part, state.deadline)
            else:
                state.is_sent = True
                found = await self._write(part, state.deadline)
        except ConnectionLostError as exc:
            self._note_loss()
            state.lose(exc)
            return exc
        except Exception:
            # Of a part, others are written already: the batch must not be taken for unwritten.
            if len(part) == len(state.outcomes):
                raise
            found = [await self._write_alone(commit) for commit in part]
        return state.take(found)

    def _write(
        self, batch: Sequence[Commit], deadline: Deadline
    ) -> Awaitable[Sequence[Outcome | None]]:
        return deadline.limit(self._engine.commit(batch), AnswerLostError, self._engine.name)

    async def _write_alone(self, commit: Commit) -> Outcome:
        """Write a commit of a batch of which others are written already."""
        try:
            return (await self.commit([commit]))[0]
        except Exception as exc:  # noqa: BLE001  # it is handed to the caller
            return Failed(exc)

    async def _find(self, batch: Sequence[Commit], deadline: Deadline) -> Sequence[Outcome | None]:
        search = self._remote.find(batch)
        try:
            return await deadline.limit(search, AnswerLostError, self._engine.name)
        except AnswerLostError:
            raise
        except Exception as exc:
            message = f"the search for a lost commit failed: {exc}"
            raise AnswerLostError(message) from exc

    def _note_loss(self) -> None:
        self.losses += 1

    def _running_clock(self) -> Callable[[], float]:
        if self._clock is None:
            self._clock, self._limit = running_clock(), limit_factory()
        return self._clock

    def _give_up(self, state: _Progress, cause: Exception) -> None:
        """Fail the commits that have no outcome, and say what is known of them."""
        seconds = f"{self._remote.timeout:g} s"
        if state.unknown:
            text = f"no answer within {seconds}: it is not known whether the append was written"
        else:
            text = f"no success within {seconds}: nothing was written"
        error = StoreUnavailableError(f"{self._engine.name}: {text} ({cause})")
        error.__cause__ = cause
        state.take([Failed(error)] * len(state.left))


class _Progress:
    """How far a batch is: the outcomes so far, and whether the others may have been written."""

    def __init__(self, batch: Sequence[Commit], seconds: float, clock: Callable[[], float]) -> None:
        self.outcomes: list[Outcome | None] = [None] * len(batch)
        self.left: Sequence[int] = range(len(batch))
        """The indices of the commits that have no outcome."""
        self.is_sent = False
        """Whether a call of the engine is on its way, or has raised."""
        self.unknown = False
        """Whether the last attempt may have written the others."""
        self.abandoned = False
        """Whether nobody waits for them any more."""
        self.reason: ConnectionLostError | None = None
        """What says most about why it has not succeeded so far."""
        self.is_first_search = False
        """Whether the next step is the first search for them, which needs no pause before it."""
        self._batch = batch
        self._seconds = seconds
        self._clock = clock
        self._start = clock()
        self._writing = Deadline(seconds, clock, self._start)
        self._finding: Deadline | None = None

    @property
    def part(self) -> Sequence[Commit]:
        """The commits that have no outcome."""
        if len(self.left) == len(self._batch):
            return self._batch
        return [self._batch[index] for index in self.left]

    @property
    def deadline(self) -> Deadline:
        """Until when the next step is tried."""
        if not self.unknown:
            return self._writing
        if self._finding is None:
            # Whether it was written must be found out, even if that takes longer.
            self._finding = Deadline(2 * self._seconds, self._clock, self._start)
        return self._finding

    def lose(self, error: ConnectionLostError) -> None:
        """Note a lost connection; if an answer was lost, the others may have been written."""
        self.is_sent = False
        self.reason = _telling(self.reason, error)
        self.is_first_search = isinstance(error, AnswerLostError) and not self.unknown
        self.unknown = self.unknown or isinstance(error, AnswerLostError)

    def take(self, found: Sequence[Outcome | None]) -> ConnectionLostError | None:
        """Note outcomes, as far as there are any; return the loss of a connection."""
        lost: ConnectionLostError | None = None
        self.unknown = self.is_sent = self.is_first_search = False
        left: list[int] = []
        for index, outcome in zip(self.left, found, strict=True):
            if isinstance(outcome, Failed) and isinstance(outcome.error, ConnectionLostError):
                if not isinstance(lost, AnswerLostError):
                    lost = outcome.error
                left.append(index)
            elif outcome is None:
                left.append(index)
            else:
                self.outcomes[index] = outcome
        self.left = left
        if lost is not None:
            self.lose(lost)
        return lost

    def abandon(self) -> bool:
        """Note that nobody waits any more; return whether something may have been written."""
        self.abandoned = True
        if self.is_sent and not self.unknown:
            self.lose(AnswerLostError("its caller was cancelled"))
        return self.unknown

    def leave_unwritten(self) -> None:
        """Give up what has no outcome."""
        error = StoreUnavailableError("nothing was written: its callers have given up")
        self.take([Failed(error)] * len(self.left))

    def result(self) -> list[Outcome]:
        """Return all outcomes, once each commit has one."""
        return [outcome for outcome in self.outcomes if outcome is not None]


def _telling(before: ConnectionLostError | None, now: ConnectionLostError) -> ConnectionLostError:
    """Return which of two errors says more; a timeout says less than what went wrong before."""
    return now if before is None or not isinstance(now.__cause__, TimeoutError) else before
