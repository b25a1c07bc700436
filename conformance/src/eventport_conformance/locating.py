"""From what is written on the command line to a harness."""

from __future__ import annotations

import sys

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import ClassVar, Final
from uuid import uuid4

import anyio

from eventport import Capability, EventStore, connect

from eventport_conformance.capabilities import Answer, Capabilities, Supported, Unsupported
from eventport_conformance.harness import Backend, Harness, Hook, check_harness
from eventport_conformance.running import OPENING_SECONDS


NEW: Final = "{new}"
"""In a URL, this becomes a new name each time that an empty store is needed."""


class NotEmptyError(Exception):
    """A store that was opened for a clause holds events."""


def find_harness(store: str, backends: tuple[Backend, ...]) -> type[Harness]:
    """Return the harness for a URL, or the one that ``module:Name`` stands for.

    Raises:
        ValueError: it is neither.
        ImportError: there is no such module.
    """
    if "://" in store:
        return _harness_of_url(store, backends)
    module, colon, name = store.partition(":")
    if not colon or not module or not name:
        message = f"{store!r} is neither a URL nor of the form module:Harness"
        raise ValueError(message)
    sys.path.insert(0, "")  # the author's module, in the directory where the command is called
    found = getattr(import_module(module), name, None)
    if found is None:
        message = f"there is no {name} in {module}"
        raise ValueError(message)
    harness: type[Harness] = getattr(found, "harness", found)
    check_harness(harness)
    return harness


def _harness_of_url(template: str, loops: tuple[Backend, ...]) -> type[Harness]:
    """Ask a store itself what it can do, and make a harness of that."""
    try:
        claimed, with_hooks = anyio.run(_ask, _new(template), backend=loops[0])
    except Exception:  # noqa: BLE001  # the first clause will say what it is, and is not run
        claimed, with_hooks = frozenset(Capability), True

    def answer(capability: Capability) -> Answer:
        if capability in claimed:
            return Supported()
        return Unsupported(f"the store does not claim {capability.value}")

    separate = NEW in template

    class UrlHarness(Harness):
        name = template.partition(":")[0]
        backends = loops
        capabilities = Capabilities(
            sessions=answer(Capability.SESSIONS),
            global_order=answer(Capability.GLOBAL_ORDER),
            push=answer(Capability.PUSH),
            shared=answer(Capability.SHARED),
            durable=answer(Capability.DURABLE),
            hooks=Supported() if with_hooks else Unsupported("the store has no after_commit"),
        )
        absent: ClassVar[Mapping[Hook, str]] = dict.fromkeys(
            ("address", "open_at", "restart"), "a URL alone does not give power over the server"
        )
        current = template

        @asynccontextmanager
        async def open(self) -> AsyncGenerator[EventStore, None]:
            self.current = _new(template)
            async with connect(self.current) as store:
                await _check_empty(store, separate=separate)
                yield store

        @asynccontextmanager
        async def second_client(self) -> AsyncGenerator[EventStore, None]:
            async with connect(self.current) as store:
                yield store

        def url(self) -> str:
            return self.current

    return UrlHarness


async def _ask(url: str) -> tuple[frozenset[Capability], bool]:
    with anyio.fail_after(OPENING_SECONDS):
        async with connect(url) as store:
            return store.capabilities, hasattr(store, "after_commit")


async def _check_empty(store: EventStore, *, separate: bool) -> None:
    if separate or Capability.GLOBAL_ORDER not in store.capabilities:
        return
    if (await store.read_all(max_count=1)).events:
        message = (
            f"the store is not empty: write {NEW} where the URL names the database, such as "
            f"sqlite:////tmp/{NEW}.db, and each clause gets a new one"
        )
        raise NotEmptyError(message)


def _new(url: str) -> str:
    return url.replace(NEW, f"conformance-{uuid4().hex[:12]}")
