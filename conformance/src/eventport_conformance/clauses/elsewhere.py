"""ELS: a store that is used where it does not belong."""

from __future__ import annotations

import asyncio

from collections.abc import Callable, Coroutine
from typing import Any

from anyio import to_thread

from eventport import WrongEventLoopError

from eventport_conformance.clause import clause
from eventport_conformance.material import fill, make
from eventport_conformance.trial import Trial


@clause("ELS-01")
async def another_event_loop(t: Trial) -> None:
    """A store that is used in another event loop raises WrongEventLoopError, and goes on."""
    await fill(t.store, "order", 1)

    async def session() -> None:
        async with t.store.session() as unit:
            await unit.read("order")

    calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "append": lambda: t.store.append("order", make(1)),
        "read": lambda: t.store.read("order"),
        "session": session,
        "aclose": t.store.aclose,
    }
    for name, call in calls.items():
        with t.raises(WrongEventLoopError, f"{name} in another event loop"):
            await to_thread.run_sync(asyncio.run, call())
    await t.untouched("order", 1, "calls from another event loop")
