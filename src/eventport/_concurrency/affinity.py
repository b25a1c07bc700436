"""Where an object may be used: in the process and the event loop that it belongs to."""

from __future__ import annotations

import asyncio
import os
import sys

from typing import Final

from eventport.errors import WrongEventLoopError


_REMEDY: Final = (
    "open a store in each process and each event loop, and close it where it was opened; an "
    "application opens its store once, in the loop that serves all requests"
)


_forks = 0
"""How many forks lie between this process and the first one. To ask the system for the number of
this process at each call would cost more than all else of the check."""


def _note_fork() -> None:
    global _forks  # noqa: PLW0603  # a child gets a copy of what its parent had
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class Affinity:
    """The process and the event loop that an object belongs to.

    Both are taken when this object is made. If no event loop runs then, the loop is that of the
    first check, because some stores can be made outside of any loop.
    """

    __slots__ = ("_forks", "_loop")

    def __init__(self) -> None:
        self._forks = _forks
        self._loop = _running_loop()

    def check(self, owner: object) -> None:
        """Raise `WrongEventLoopError` in a forked child and in another event loop.

        Args:
            owner: What was used; its repr becomes a part of the message.
        """
        if self._forks != _forks:
            message = f"{owner!r} was opened in the process that forked this one: {_REMEDY}"
            raise WrongEventLoopError(message)
        loop = _running_loop()
        if loop is not self._loop:
            if self._loop is None:
                self._loop = loop
                return
            message = f"{owner!r} belongs to another event loop: {_REMEDY}"
            raise WrongEventLoopError(message)


def _running_loop() -> object:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        # Either trio runs this, and then it has been imported, or somebody drives it by hand.
        trio = sys.modules.get("trio")
    try:
        return trio and trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None
