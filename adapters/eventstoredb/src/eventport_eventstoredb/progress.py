"""How a commit comes to a known outcome, although answers are lost on the way."""

from __future__ import annotations

import asyncio

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from eventport.errors import EventportError, PayloadTooLargeError, StoreUnavailableError

from eventport_eventstoredb.calls import now
from eventport_eventstoredb.errors import NoAnswerError


T = TypeVar("T")

_LONGEST_PAUSE: Final = 2.0


@dataclass
class Progress:
    """How far a commit has come."""

    deadline: float
    """When its outcome must be known, by the event loop's clock."""
    sent: bool = False
    """Whether an attempt was sent."""
    unknown: bool = False
    """Whether an attempt was sent whose answer was lost."""


async def until_known(progress: Progress, attempt: Callable[[], Awaitable[T | None]]) -> T:
    """Attempt a commit again until its outcome is known, or its time is up.

    Only the answer to an append says whether it took place: once one was lost, an error of a
    look, or of a further attempt, leaves it unknown.
    """
    pause = 0.05
    while True:
        try:
            if (outcome := await attempt()) is not None:
                return outcome
            if now() > progress.deadline:
                raise NoAnswerError("other writers were faster each time")
        except StoreUnavailableError as exc:
            if now() + pause > progress.deadline:
                raise _given_up(progress, exc) from exc
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        except PayloadTooLargeError:
            raise  # as it was for the attempt whose answer was lost
        except EventportError as exc:
            if progress.unknown:
                raise _given_up(progress, exc) from exc
            raise


async def sent(progress: Progress, call: Awaitable[T]) -> T:
    """Wait for the answer to an append, and note it if that is lost."""
    progress.sent = True
    try:
        return await call
    except StoreUnavailableError:
        progress.unknown = True
        raise


def _given_up(progress: Progress, exc: Exception) -> StoreUnavailableError:
    if progress.unknown:
        return StoreUnavailableError(f"it is not known whether the append took place: {exc}")
    return StoreUnavailableError(f"nothing was appended: {exc}")
