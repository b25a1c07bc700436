"""Points at which other tasks may run, and a cancellation takes effect."""

from __future__ import annotations

import asyncio

from collections.abc import Coroutine
from typing import Any

from anyio import lowlevel

from eventport._concurrency.one_shot import runs_on_asyncio


def checkpoint() -> Coroutine[Any, Any, None]:
    """Let other tasks run; await what is returned.

    It is what `anyio.lowlevel.checkpoint` does. That finds out anew each time which library runs
    it, which on asyncio costs several times what the checkpoint itself does.
    """
    return asyncio.sleep(0) if runs_on_asyncio() else lowlevel.checkpoint()
