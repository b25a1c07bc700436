"""Whether a store is ready, and what an operator should know about it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

from anyio import fail_after
from msgspec import Struct

from eventport._engine.calls import retry_lost
from eventport._engine.engine import Examines, Remote
from eventport._engine.remarks import Level, Remark, fact
from eventport._engine.store import Store
from eventport.errors import StoreUnavailableError
from eventport.fencing import fenced
from eventport.protocols import Capability, EventStore
from eventport.validation import TOOLKIT_STREAMS


__all__ = ["Diagnosis", "Level", "Remark", "diagnose", "ready"]

_UNFENCE: Final = (
    "append to the store that it names; if its events are still here alone, run the move again, or "
    "`eventport unfence`"
)

_NO_STREAM: Final = f"{TOOLKIT_STREAMS}ready"
"""A stream that nobody writes."""


class Diagnosis(Struct, frozen=True):
    """What was found out about a store."""

    store: str
    """Where it is, without any password."""
    remarks: list[Remark]
    """What was found."""

    @property
    def is_well(self) -> bool:
        """Whether there is nothing but facts."""
        return all(one.level == "info" for one in self.remarks)


async def ready(store: EventStore, *, within: float = 2.0) -> None:
    """Return if the store answers a read now; for the health checks of services.

    It reads a stream that is empty, so it costs one round trip. It does not write.

    Args:
        store: The store.
        within: After how many seconds without an answer the store is not ready. A health check
            should be quicker than the `timeout` of the store, which ends it at the latest.

    Raises:
        StoreUnavailableError: the backend gave no answer in time.
        StoreClosedError: the store has been closed.
        EventportError: the backend refuses the read.
    """
    try:
        with fail_after(within):
            await store.read(_NO_STREAM, max_count=0)
    except TimeoutError as exc:
        message = f"{store!r}: no answer within {within:g} s"
        raise StoreUnavailableError(message) from exc


async def diagnose(store: EventStore) -> Diagnosis:
    """Collect what an operator should know about a store; nothing is written.

    An adapter adds what it knows about its backend: see `eventport.adapter.Examines`.

    Raises:
        StoreUnavailableError: the backend gives no answer.
    """
    await store.read(_NO_STREAM, max_count=0)
    remarks = [fact("versions", f"eventport {version('eventport')}"), *_capabilities(store)]
    if not isinstance(store, Store):
        return Diagnosis(repr(store), remarks)
    engine = store.engine
    if (said := await fenced(store)) is not None:
        remarks.append(Remark("error", "fence", said, _UNFENCE))
    if isinstance(engine, Examines):
        remarks += (
            await retry_lost(engine.examine, engine.timeout, store.engine.name)
            if isinstance(engine, Remote)
            else await engine.examine()
        )
    return Diagnosis(store.engine.name, remarks)


def _capabilities(store: EventStore) -> list[Remark]:
    """Say what the store can do, and why it cannot do the rest."""
    has = ", ".join(sorted(one.value for one in store.capabilities))
    reasons: Mapping[Capability, str] = store.limitations if isinstance(store, Store) else {}
    lacks = sorted(frozenset(Capability) - store.capabilities, key=lambda one: one.value)
    return [
        fact("capabilities", has or "none"),
        *(
            fact("capabilities", f"no {one.value}: {reasons.get(one, 'the backend has none')}")
            for one in lacks
        ),
    ]
