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


class Affinity:
    """The process and the event loop that an object belongs to.

    They are those in which this is made; outside of any event loop, it is that of the first check,
    because some stores can be made there.
    """

    __slots__ = ("_loop", "_pid")

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop = _running_loop()

    def check(self, owner: object) -> None:
        """Raise `WrongEventLoopError` in a forked child and in another event loop.

        Args:
            owner: What was used; its repr becomes a part of the message.
        """
        if os.getpid() != self._pid:
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
