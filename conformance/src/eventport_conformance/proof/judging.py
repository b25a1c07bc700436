"""Letting clauses loose on a store that is known to be right, or wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from eventport import EventStore

from eventport_conformance.capabilities import FEATURES, Capabilities, Supported, Unsupported
from eventport_conformance.clause import Clause, Runs, all_clauses, applies
from eventport_conformance.harness import Harness, absent_hooks
from eventport_conformance.proof.nothing import NothingStore
from eventport_conformance.proof.plain import Database, HumbleStore, PlainStore
from eventport_conformance.running import Outcome, run_clause


PATIENCE: Final = 8.0
"""How many seconds a clause may take on a store with a bug, which is often that it hangs."""

_EVERYTHING: Final[Any] = dict.fromkeys(FEATURES, Supported())
_NOTHING: Final[Any] = dict.fromkeys(FEATURES, Unsupported("it is kept simple on purpose"))


def harness_of(store: type[PlainStore]) -> type[Harness]:
    """Make a harness for a plain store, or for one that was spoilt."""
    humble = issubclass(store, HumbleStore)
    return _harness(store.__name__, store, claims_all=not humble)


def harnesses_of_nothing() -> tuple[type[Harness], type[Harness]]:
    """Make harnesses for the store that does nothing: as if it could do all, and only the least."""
    return (
        _harness("nothing", lambda _: NothingStore(), claims_all=True),
        _harness("nothing-humble", lambda _: NothingStore(), claims_all=False),
    )


def clauses_for(harness: type[Harness]) -> list[Clause]:
    """Return the clauses that have to hold of a harness's store."""
    answers, absent = harness.capabilities.answers(), absent_hooks(harness)
    return [one for one in all_clauses() if isinstance(applies(one, answers, absent), Runs)]


def judge(harness: type[Harness], clause: Clause) -> Outcome:
    """Run a clause, without too much patience."""
    hurried = replace(clause, seconds=min(clause.seconds, PATIENCE))
    return run_clause(harness, hurried, "asyncio")


def _harness(
    called: str, make: Callable[[Database], EventStore], *, claims_all: bool
) -> type[Harness]:
    class ProofHarness(Harness):
        name = called
        capabilities = Capabilities(**(_EVERYTHING if claims_all else _NOTHING))
        database = Database()

        @asynccontextmanager
        async def open(self) -> AsyncGenerator[EventStore, None]:
            self.database = Database()
            async with make(self.database) as store:
                yield store

        @asynccontextmanager
        async def second_client(self) -> AsyncGenerator[EventStore, None]:
            async with make(self.database) as store:
                yield store

        without_polling = second_client  # a plain store polls only if that is its planted bug

    return ProofHarness
