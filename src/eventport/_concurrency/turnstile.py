"""Lets only so many tasks on in one turn of the event loop, however many come at once."""

from __future__ import annotations

from collections import deque

from anyio import Event

from eventport._concurrency.checkpoints import checkpoint
from eventport._concurrency.shielding import start_task


class Turnstile:
    """Keeps work that is done before the first wait of many tasks from filling one long turn.

    The event loop runs all tasks that are ready before it looks for anything else. If thousands
    begin together, what each does first happens in the same turn, and nothing else moves. Here
    the first ones go on at once, and the others wait in line for the next turns.

    Args:
        width: How many may go on in one turn.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._left = width
        self._line: deque[Event] = deque()
        """Each of these lets on those who go on in the same turn."""
        self._room = 0
        """How many the last of them can take."""
        self._turning = False
        self._turner: object = None

    def may_pass(self) -> bool:
        """Go on at once, if that is possible; otherwise `wait` has to be called."""
        if self._left and not self._turning:
            self._left -= 1
            return True
        return False

    async def wait(self) -> None:
        """Wait in line."""
        if not self._room:
            self._line.append(Event())
            self._room = self._width
        self._room -= 1
        turn = self._line[-1]
        if not self._turning:
            self._turning = True
            self._turner = start_task(self._turn, never_begun=self._let_all_on)
        await turn.wait()

    async def _turn(self) -> None:
        """Let the next ones on in each turn, until there are none."""
        try:
            while self._line:
                self._let_on()
                await checkpoint()
        finally:
            self._let_all_on()

    def _let_on(self) -> None:
        self._line.popleft().set()
        if not self._line:
            self._room = 0

    def _let_all_on(self) -> None:
        while self._line:  # the event loop is being closed
            self._let_on()
        self._left = self._width
        self._turning = False
