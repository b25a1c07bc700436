"""Running clauses on stores that are known to be right, or wrong."""

from __future__ import annotations

import pkgutil

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache
from importlib import import_module
from typing import Any, Final

from eventport import EventStore, NewEvent

from eventport_conformance.capabilities import FEATURES, Capabilities, Supported, Unsupported
from eventport_conformance.clause import Clause, Runs, all_clauses, applies
from eventport_conformance.harness import Harness, absent_hooks
from eventport_conformance.proof.mutants.base import MUTANTS, Mutant
from eventport_conformance.proof.noop_store import NoOpStore
from eventport_conformance.proof.reference_data import LARGEST, Database
from eventport_conformance.proof.reference_store import MinimalStore, ReferenceStore
from eventport_conformance.running import Outcome, run_clause


PATIENCE: Final = 8.0
"""How many seconds a clause may take on a store with a bug, which is often that it hangs."""

_EVERYTHING: Final[Any] = dict.fromkeys(FEATURES, Supported())
_NOTHING: Final[Any] = dict.fromkeys(FEATURES, Unsupported("it is kept simple on purpose"))


def harness_of(store: type[ReferenceStore]) -> type[Harness]:
    """Make a harness for the reference store, or for a mutant of it."""
    return _harness(store.__name__, store, claims_all=not issubclass(store, MinimalStore))


def noop_harnesses() -> tuple[type[Harness], type[Harness]]:
    """Make harnesses for the no-op store: it claims everything, or nothing."""
    return (
        _harness("noop", lambda _: NoOpStore(), claims_all=True),
        _harness("noop-minimal", lambda _: NoOpStore(), claims_all=False),
    )


@cache
def all_mutants() -> tuple[Mutant, ...]:
    """Return all mutants, group by group."""
    package = import_module("eventport_conformance.proof.mutants")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return tuple(MUTANTS)


def clauses_for(harness: type[Harness]) -> list[Clause]:
    """Return the clauses that a harness's store has to pass."""
    answers, absent = harness.capabilities.answers(), absent_hooks(harness)
    return [one for one in all_clauses() if isinstance(applies(one, answers, absent), Runs)]


def judge(harness: type[Harness], clause: Clause) -> Outcome:
    """Run a clause on a store that should fail it, without much patience."""
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

        without_polling = second_client  # only a mutant of it polls

        @asynccontextmanager
        async def odd_client(self) -> AsyncGenerator[EventStore, None]:
            async with make(self.database) as store:
                if isinstance(store, ReferenceStore):
                    store.is_odd = True
                yield store

        def refused_event(self) -> NewEvent:
            return NewEvent("Large", bytes(LARGEST + 1))

        async def delete_stream(self, stream: str) -> None:
            self.database.delete(stream)

        async def truncate_stream(self, stream: str, before: int) -> None:
            self.database.truncated[stream] = before

        @asynccontextmanager
        async def slow_clock(self) -> AsyncGenerator[None, None]:
            self.database.clock_offset = timedelta(hours=-1)
            yield
            self.database.clock_offset = timedelta()

    return ProofHarness
