"""Running a projection in a service that must keep running when the projection fails."""

from __future__ import annotations

import logging
import time

from typing import Final, Protocol

from anyio import sleep

from eventport.projections.failures import describe
from eventport.projections.retrying import Retries


_log: Final = logging.getLogger("eventport")

_PAUSES: Final = Retries(first_pause=1.0, max_pause=60.0)


class Runs(Protocol):
    """A runner of any kind."""

    async def run(self) -> None:
        """Run until a higher generation is active."""
        ...

    def about(self) -> dict[str, object]:
        """Return the `extra` of its log records."""
        ...


async def supervise(runner: Runs, *, pauses: Retries = _PAUSES) -> None:
    """Run a projection, and run it again after an error, until a higher generation is active.

    While it waits to run again, `Runner.state` is ``"stopped"`` and `Runner.error` says why: let
    the health check of a service report it. The pause doubles with each error, and starts from
    the first one again after a run that lasted longer than the longest pause.

    Args:
        runner: What to run. Cancel the call to end it.
        pauses: How long to wait; its number of attempts does not count.
    """
    failures = 0
    while True:
        begin = time.monotonic()
        try:
            return await runner.run()
        except Exception as exc:  # noqa: BLE001  # the service keeps running, whatever it is
            if time.monotonic() - begin > pauses.max_pause:
                failures = 0
            failures += 1
            seconds = pauses.pause(failures)
            extra = runner.about()
            # Described without its text, which may hold data.
            _log.error(
                "%r: %s; it runs again in %.1f s", runner, describe(exc), seconds, extra=extra
            )
        await sleep(seconds)
