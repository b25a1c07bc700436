"""ELS: a store that is used where it does not belong."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import warnings

from collections.abc import Callable, Coroutine
from threading import Thread
from typing import Any

from anyio import to_thread

from eventport import WrongEventLoopError

from eventport_conformance.clause import clause
from eventport_conformance.helpers import fill, make
from eventport_conformance.trial import Trial


_CHILD_SECONDS = 60
"""After how many seconds a child that hangs is killed."""


@clause("ELS-01")
async def another_event_loop(t: Trial) -> None:
    """A store that is used in another event loop raises WrongEventLoopError, and works on in its
    own.
    """
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


def _in_child(call: Callable[[], Coroutine[Any, Any, object]]) -> str:
    """Return the name of the error that a call meets in a forked child; empty if that crashed.

    The child makes the call in a thread that has no event loop yet.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # that there are threads, which is the point
        child = os.fork()
    if child == 0:
        faulthandler.disable()  # a driver that crashes here has nothing to say
        signal.alarm(_CHILD_SECONDS)  # what hangs says nothing
        said = ["no error"]

        def make_it() -> None:
            try:
                asyncio.run(call())
            except BaseException as exc:  # noqa: BLE001  # its name is what is asked for
                said[0] = type(exc).__name__

        thread = Thread(target=make_it)
        thread.start()
        thread.join()
        os.write(writing, said[0].encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        name = answer.read()
    _, status = os.waitpid(child, 0)
    return "it hangs" if os.WTERMSIG(status) == signal.SIGALRM else name


@clause("ELS-02")
async def a_forked_child(t: Trial) -> None:
    """In a forked child a store raises WrongEventLoopError, unless its driver crashes the child,
    and in the parent it works on.
    """
    if not hasattr(os, "fork"):
        return
    await fill(t.store, "order", 1)
    calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "append": lambda: t.store.append("order", make(1)),
        "read": lambda: t.store.read("order"),
        "aclose": t.store.aclose,
    }
    for name, call in calls.items():
        raised = _in_child(call)
        t.true(raised in {"WrongEventLoopError", ""}, f"{name} in a forked child raises it", raised)
    await t.untouched("order", 1, "calls in a forked child")
