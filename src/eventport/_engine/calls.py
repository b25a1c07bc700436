"""Calls of an engine: each ends in time, and one whose connection dropped is made again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from anyio import current_time, fail_after, sleep

from eventport._concurrency.backoff import Backoff
from eventport._engine.commits import Commit, Committed, Failed, Outcome
from eventport._engine.engine import AnswerLostError, ConnectionLostError, Engine, Remote
from eventport._engine.queries import AllQuery, StreamQuery
from eventport.errors import EventportError, StoreUnavailableError


Q = TypeVar("Q", StreamQuery, AllQuery)
T = TypeVar("T")

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
_SHORTEST_CALL: Final = 0.01
"""Even a late attempt gets this many seconds, so that it can say why it fails."""


class Deadline:
    """A moment until which something is tried, and the pauses between the attempts."""

    def __init__(self, seconds: float) -> None:
        self._end = current_time() + seconds
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)

    @property
    def left(self) -> float:
        """How many seconds a call that begins now may take."""
        return max(self._end - current_time(), _SHORTEST_CALL)

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return current_time() >= self._end

    async def pause(self) -> None:
        """Wait before the next attempt."""
        await sleep(min(self._backoff.next(), self.left))


class RemoteCalls:
    """The calls of a `Remote` engine.

    Args:
        engine: What is called.
        remote: The same engine, as the part that finds lost commits.
    """

    def __init__(self, engine: Engine, remote: Remote) -> None:
        self._engine = engine
        self._remote = remote

    async def read(self, call: Callable[[Q], Awaitable[T]], query: Q) -> T:
        """Read; ask again if the connection drops.

        Raises:
            StoreUnavailableError: the server gave no answer in time.
        """
        deadline = Deadline(self._remote.timeout)
        while True:
            try:
                with _lost_after(deadline.left, ConnectionLostError):
                    return await call(query)
            except ConnectionLostError:
                if deadline.passed:
                    raise
            await deadline.pause()

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Outcome]:
        """Write a batch: whatever happens to the connection, nothing is lost or written twice.

        Only the append's own answer acknowledges it, or what `Remote.find` finds. An error of
        the search is no answer to the append.
        """
        outcomes: list[Outcome | None] = [None] * len(batch)
        writing = Deadline(self._remote.timeout)
        finding = Deadline(2 * self._remote.timeout)
        unknown = False
        while left := [index for index, outcome in enumerate(outcomes) if outcome is None]:
            part = [batch[index] for index in left]
            lost: Exception | None = None
            found: Sequence[Outcome | None] = [None] * len(part)
            try:
                if unknown:
                    found = await self._find(part, finding)
                else:
                    found = await self._write(part, writing)
            except ConnectionLostError as exc:
                lost = exc
            except EventportError:
                if len(part) == len(batch):
                    raise
                found = [await self._write_alone(commit) for commit in part]
            was_unknown, unknown = unknown, unknown and lost is not None
            for index, outcome in zip(left, found, strict=True):
                if isinstance(outcome, Failed) and isinstance(outcome.error, ConnectionLostError):
                    lost = outcome.error
                else:
                    outcomes[index] = outcome
                unknown = unknown or isinstance(lost, AnswerLostError)
            if lost is not None:
                if (finding if unknown else writing).passed:
                    return self._give_up(outcomes, lost, unknown=unknown)
                if was_unknown == unknown:
                    await (finding if unknown else writing).pause()
        return [outcome for outcome in outcomes if outcome is not None]

    async def _write(self, batch: Sequence[Commit], deadline: Deadline) -> Sequence[Outcome]:
        with _lost_after(deadline.left, AnswerLostError):
            return await self._engine.commit(batch)

    async def _write_alone(self, commit: Commit) -> Outcome:
        """Write a commit of a batch of which others are written already."""
        try:
            return (await self.commit([commit]))[0]
        except EventportError as exc:
            return Failed(exc)

    async def _find(
        self, batch: Sequence[Commit], deadline: Deadline
    ) -> Sequence[Committed | None]:
        try:
            with _lost_after(deadline.left, AnswerLostError):
                return await self._remote.find(batch)
        except AnswerLostError:
            raise
        except Exception as exc:
            raise AnswerLostError(f"the search for a lost commit failed: {exc}") from exc

    def _give_up(
        self, outcomes: Sequence[Outcome | None], cause: Exception, *, unknown: bool
    ) -> list[Outcome]:
        """Say what is known of the commits that have no outcome."""
        seconds = f"{self._remote.timeout:g} s"
        if unknown:
            text = f"no answer within {seconds}: it is not known whether the append was written"
        else:
            text = f"no connection within {seconds}: nothing was written"
        error = StoreUnavailableError(f"{self._engine.name}: {text} ({cause})")
        error.__cause__ = cause
        return [outcome or Failed(error) for outcome in outcomes]


@contextmanager
def _lost_after(seconds: float, error: type[ConnectionLostError]) -> Generator[None, None, None]:
    """Take a call that does not end for one whose connection dropped in silence."""
    try:
        with fail_after(seconds):
            yield
    except TimeoutError as exc:
        raise error(f"no answer within {seconds:.3g} s") from exc
