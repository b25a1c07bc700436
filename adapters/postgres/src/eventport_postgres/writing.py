"""Batches on their way: one round trip each, and certainty if the connection is lost."""

from __future__ import annotations

import asyncio

from collections.abc import Sequence
from typing import Any, Final

from asyncpg.exceptions import LockNotAvailableError

from eventport.adapter import Commit, Committed, Failed, Outcome
from eventport.errors import EventportError, StoreUnavailableError

from eventport_postgres.batches import CONFIRM, Statements, only_found, outcomes
from eventport_postgres.connections import Backend, Connections
from eventport_postgres.errors import (
    DRIVER_ERRORS,
    NothingWrittenError,
    StreamBusyError,
    is_lost,
    is_worth_a_retry,
    translated,
)
from eventport_postgres.inline import InlineProjections
from eventport_postgres.looking import Landmark, Looker
from eventport_postgres.schema import AnyConnection, quoted


_PAUSE: Final = 0.02
"""How many seconds to wait before the server is tried again."""

_PATIENCE: Final = "50ms"
"""How long a batch of commits waits for a stream that some transaction keeps locked."""

# By the locks of the function `append`; those that this takes itself end with it.
_LOCKED: Final = """
    SELECT u.stream FROM unnest($1::text[]) AS u(stream)
    WHERE NOT pg_try_advisory_xact_lock(
        hashtextextended(u.stream, $2::text::regclass::oid::integer)
    )
"""


class _Refused(Exception):  # noqa: N818  # it is an answer
    """The server's own answer to a batch is an error: nothing of it was written."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Writer:
    """Writes batches through the server's function ``append``.

    Args:
        connections: Where to get the connection from.
        schema: The schema, not quoted.
        timeout: How many seconds a batch may take, and after a lost connection once more.
        landmark: An event that was there before the first batch.
        inline: What runs in the transactions of the batches.
        transaction_pooling: Whether a pooler hides which backend does the work.
    """

    def __init__(
        self,
        connections: Connections,
        schema: str,
        timeout: float,
        landmark: Landmark | None,
        inline: InlineProjections,
        *,
        transaction_pooling: bool,
    ) -> None:
        self._connections = connections
        self._timeout = timeout
        self._inline = inline
        self._transaction_pooling = transaction_pooling
        self._statements = Statements(schema, lock_timeout=_PATIENCE)
        self._looker = Looker(schema, transaction_pooling=transaction_pooling)
        self._landmark = landmark
        self._sequence = f"{quoted(schema)}.positions"
        self._given_up = False
        self._sent: asyncio.Timeout | None = None
        """What ends the wait for the server's answer to a batch."""

    def give_up(self) -> None:
        """Let the batch that is on its way end soon, since nobody waits for it any more.

        It may have been written then, or not, but it will not be later.
        """
        self._given_up = True
        if self._sent is not None:
            self._sent.reschedule(asyncio.get_running_loop().time())

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Write a batch. A commit to a stream that is locked ends with `Failed`.

        Raises:
            StoreUnavailableError: the server was out of reach, and is not back in time.
            NothingWrittenError: it refused the batch.
            InlineProjectionError: a handler kept the batch from being written.
        """
        self._given_up = False
        attempts = _Attempts(self._timeout)
        request = self._statements.write(commits)
        found: Sequence[Outcome | None] | None = None
        while found is None:
            try:
                found = await self._attempt(commits, request, attempts)
            except _Refused as refusal:
                attempts.unknown = False
                if not is_worth_a_retry(refusal.error):
                    raise _refused(commits, refusal.error) from refusal.error
                await attempts.pause(refusal.error)
            except EventportError:
                raise
            except Exception as exc:
                # An error while we connect, or look, says nothing about what was sent before.
                if not attempts.unknown and not is_lost(exc):
                    raise _refused(commits, exc) from exc
                await attempts.pause(exc)
        return await self._complete(commits, found)

    async def _attempt(
        self, commits: Sequence[Commit], request: tuple[Any, ...], attempts: _Attempts
    ) -> Sequence[Outcome | None] | None:
        within = attempts.left()
        async with self._connections.writing(within) as connection:
            # Who it is has to be known before anything is sent that might get lost.
            backend = (
                None
                if self._transaction_pooling
                else await self._connections.backend(connection, within)
            )
            if attempts.unknown:
                found = await self._looker.look(
                    connection, commits, attempts.asked, self._landmark, within
                )
                attempts.unknown = False
                if found is not None:
                    return found
            if self._given_up:
                raise StoreUnavailableError("nothing was written: its caller has given up")
            attempts.asked, attempts.unknown = backend, True
            try:
                # Handlers may take longer than the server: they have a limit of their own.
                async with asyncio.timeout(None if self._inline else within) as self._sent:
                    return await self._ask(connection, commits, request, within)
            finally:
                self._sent = None

    async def _ask(
        self,
        connection: AnyConnection,
        commits: Sequence[Commit],
        request: tuple[Any, ...],
        within: float,
    ) -> Sequence[Outcome | None]:
        """Let the server write a batch, and return which of its commits it cannot write for now."""
        try:
            if self._inline:
                found = await self._inline.write(connection, commits, request, within)
            else:
                row = await connection.fetchrow(*request)
                assert row is not None  # noqa: S101  # a function that is no set gives one row
                found = outcomes(commits, row)
                if only_found(found):
                    await connection.execute(CONFIRM)
        except EventportError:
            raise
        except LockNotAvailableError as exc:
            return await self._locked(connection, commits, exc, within)
        except Exception as exc:
            if is_lost(exc):
                raise
            raise _Refused(exc) from exc
        self._remember(commits, found)
        return found

    async def _locked(
        self,
        connection: AnyConnection,
        commits: Sequence[Commit],
        refusal: LockNotAvailableError,
        within: float,
    ) -> Sequence[Outcome | None]:
        """Say which commits of a refused batch are to streams that are locked."""
        streams = {write.stream for commit in commits for write in commit.writes}
        try:
            async with asyncio.timeout(within):
                rows = await connection.fetch(_LOCKED, list(streams), self._sequence)
        except DRIVER_ERRORS as exc:
            connection.terminate()
            raise _Refused(refusal) from exc  # that remains the answer
        locked = {row["stream"] for row in rows}
        if not locked:
            raise _Refused(refusal)  # it was another lock, or these have been released by now
        return [
            Failed(StreamBusyError("a stream of this commit is locked"))
            if any(write.stream in locked for write in commit.writes)
            else None
            for commit in commits
        ]

    def _remember(self, commits: Sequence[Commit], found: Sequence[Outcome]) -> None:
        for commit, outcome in zip(reversed(commits), reversed(found), strict=True):
            if isinstance(outcome, Committed) and not outcome.deduplicated:
                position = outcome.writes[-1].positions[-1]
                self._landmark = Landmark(position, commit.writes[-1].events[-1].id)
                return

    async def _complete(
        self, commits: Sequence[Commit], found: Sequence[Outcome | None]
    ) -> Sequence[Outcome]:
        """Write the commits of a batch that have no outcome yet; the others have theirs."""
        left = [commit for commit, outcome in zip(commits, found, strict=True) if outcome is None]
        rest = iter(await self._commit_rest(left))
        return [outcome or next(rest) for outcome in found]

    async def _commit_rest(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Write a part of a batch: an error of it must not be taken for one of the whole."""
        if not commits:
            return ()
        try:
            return await self.commit(commits)
        except NothingWrittenError:
            return [one for commit in commits for one in await self._commit_rest([commit])]
        except EventportError as exc:
            return [Failed(exc)] * len(commits)


class _Attempts:
    """How far the attempts to write one batch have come."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._deadline = asyncio.get_running_loop().time() + timeout
        self.unknown = False
        """Whether a batch was sent whose answer has not arrived."""
        self.asked: Backend | None = None
        """Who was asked last; None behind a pooler that hides it."""
        self._reason: Exception | None = None

    def left(self) -> float:
        """Return how many seconds are left."""
        return max(self._end() - asyncio.get_running_loop().time(), 0.01)

    async def pause(self, exc: Exception) -> None:
        """Wait for a moment before the next attempt, or raise what there is to say in the end."""
        if self._reason is None or not isinstance(exc, TimeoutError):
            self._reason = exc  # a timeout says less than what went wrong before
        if asyncio.get_running_loop().time() < self._end():
            await asyncio.sleep(_PAUSE)
            return
        error = translated(self._reason)
        if self.unknown:
            message = f"whether the append was written is not known: {error}"
            raise StoreUnavailableError(message) from exc
        raise error from exc

    def _end(self) -> float:
        # Whether it was written has to be found out, even if that takes longer.
        return self._deadline + (self._timeout if self.unknown else 0)


def _refused(commits: Sequence[Commit], exc: Exception) -> EventportError:
    # Its members are worth trying one by one.
    return NothingWrittenError(str(exc)) if len(commits) > 1 else translated(exc)
