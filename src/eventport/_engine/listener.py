"""Listens for signs of new events: one task for each store, which reconnects when it fails."""

from __future__ import annotations

import logging

from contextlib import aclosing
from typing import Final

from anyio import CancelScope, Event, get_cancelled_exc_class, move_on_after, sleep

from eventport._concurrency.backoff import Backoff
from eventport._concurrency.shielding import start_task
from eventport._concurrency.signal import Signal
from eventport._engine.engine import Listens
from eventport._logs import about


_log: Final = logging.getLogger("eventport")

_CLOSING: Final = 5.0
"""How many seconds a listening call may take to end when the store is closed."""


class Listener:
    """Turns the signs of a `Listens` engine into wake-ups.

    Args:
        engine: What listens.
        signal: Notified for each sign, and when listening begins: events may have come before.
        store: The store, which log records name.
    """

    def __init__(self, engine: Listens, signal: Signal, store: object) -> None:
        self._store = store
        self._engine = engine
        self._signal = signal
        self._scope: CancelScope | None = None
        self._ended: Event | None = None
        self._task: object = None
        self.listening = False
        """Whether signs arrive at the moment, so that polling can be rare."""

    def start(self) -> None:
        """Start listening in the background, unless it has started."""
        if self._ended is None:
            self._ended = Event()
            self._scope = CancelScope()
            self._task = start_task(self._run, never_begun=self._ended.set)

    async def close(self) -> None:
        """Stop listening; a call that does not end in time is abandoned."""
        if self._ended is not None and self._scope is not None:
            self._scope.cancel()
            with move_on_after(_CLOSING):
                await self._ended.wait()

    async def _run(self) -> None:
        assert self._ended is not None  # noqa: S101  # `start` has made both
        assert self._scope is not None  # noqa: S101
        backoff = Backoff(0.05)
        try:
            with self._scope:
                while True:
                    await self._listen(backoff)
                    await sleep(backoff.next())
        except get_cancelled_exc_class():
            pass  # the event loop is being closed
        finally:
            self._ended.set()

    async def _listen(self, backoff: Backoff) -> None:
        """Listen until the connection is lost."""
        try:
            async with aclosing(self._engine.listen()) as signs:
                async for _ in signs:
                    backoff.reset()
                    self.listening = True
                    self._signal.notify()
        except Exception as exc:  # noqa: BLE001  # whatever it is, polling goes on
            extra = about(store=self._store)
            _log.info("no push for now, so subscriptions poll: %s", exc, extra=extra)
        finally:
            self.listening = False
            self._signal.notify()
