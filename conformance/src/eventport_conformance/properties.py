"""Hypothesis against an asynchronous store, on whichever event loop it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from anyio import from_thread, to_thread
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from eventport_conformance.trial import Trial
from eventport_conformance.waiting import no_hang


T = TypeVar("T")


# They are about how quickly examples are found; here a slow store is not the test's fault.
_HEALTH_CHECKS: Final = (
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
)


def _settings(examples: int, steps: int = 1) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=_HEALTH_CHECKS,
        print_blob=False,
    )


async def for_all(
    t: Trial,
    strategy: st.SearchStrategy[T],
    check: Callable[[T], Awaitable[None]],
    *,
    examples: int,
) -> None:
    """Check something for many values, and find the smallest for which it does not hold."""

    async def bounded(value: T) -> None:
        with no_hang("a step of an example ends"):
            await check(value)

    @seed(t.seed)
    @_settings(examples)
    @given(strategy)
    def test(value: T) -> None:
        from_thread.run(bounded, value)

    # Hypothesis is synchronous: it runs in a thread, and its tests come back to the event loop.
    await to_thread.run_sync(test)


class AsyncStateMachine(RuleBasedStateMachine):
    """A state machine whose rules do their work on the event loop."""

    trial: Trial

    def wait(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run an async function, and return what it returns."""

        async def bounded() -> T:
            with no_hang("a step of an example ends"):
                return await function(*args)

        return from_thread.run(bounded)


async def run_machine(
    t: Trial, machine: type[AsyncStateMachine], *, examples: int, steps: int
) -> None:
    """Let a state machine take many random ways, and find the shortest that goes wrong."""
    bound = seed(t.seed)(type(machine.__name__, (machine,), {"trial": t}))
    await to_thread.run_sync(
        lambda: run_state_machine_as_test(bound, settings=_settings(examples, steps))
    )
