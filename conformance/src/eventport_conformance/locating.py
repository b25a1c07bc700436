"""From what is written on the command line to a harness."""

from __future__ import annotations

import sys

from collections.abc import Mapping
from importlib import import_module
from typing import ClassVar

import anyio

from eventport import Capability, connect

from eventport_conformance.capabilities import Answer, Capabilities, Supported, Unsupported
from eventport_conformance.harness import Backend, Harness, Hook, check_harness
from eventport_conformance.running import OPENING_SECONDS, limitations_of
from eventport_conformance.url_harness import UrlHarness, new_url


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


def _harness_of_url(url: str, loops: tuple[Backend, ...]) -> type[Harness]:
    """Ask a store itself what it can do, and make a harness of that."""
    try:
        claimed, reasons, with_hooks = anyio.run(_ask, new_url(url), backend=loops[0])
    except Exception:  # noqa: BLE001  # the first clause reports it, and is not run
        claimed, reasons, with_hooks = frozenset(Capability), {}, True

    def answer(capability: Capability) -> Answer:
        if capability in claimed:
            return Supported()
        return Unsupported(
            reasons.get(capability.value) or f"the store does not claim {capability.value}"
        )

    class FoundHarness(UrlHarness):
        name = url.partition(":")[0]
        location = url
        backends = loops
        capabilities = Capabilities(
            sessions=answer(Capability.SESSIONS),
            global_order=answer(Capability.GLOBAL_ORDER),
            push=answer(Capability.PUSH),
            shared=answer(Capability.SHARED),
            durable=answer(Capability.DURABLE),
            guards=answer(Capability.GUARDS),
            conditions=answer(Capability.CONDITIONS),
            times=answer(Capability.TIMES),
            catalogue=answer(Capability.CATALOGUE),
            hooks=Supported() if with_hooks else Unsupported("the store has no after_commit"),
        )
        absent: ClassVar[Mapping[Hook, str]] = dict.fromkeys(
            ("address", "open_at", "restart"), "a URL alone gives no control of the server"
        )

    return FoundHarness


async def _ask(url: str) -> tuple[frozenset[Capability], Mapping[str, str], bool]:
    with anyio.fail_after(OPENING_SECONDS):
        async with connect(url) as store:
            return store.capabilities, limitations_of(store), hasattr(store, "after_commit")
