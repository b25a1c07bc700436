"""AGG: folding a stream into a state."""

from __future__ import annotations

from typing import Any

from eventport import AggregateResult, EventportError, InvalidArgumentTypeError, RecordedEvent

from eventport_conformance.clause import clause
from eventport_conformance.material import fill, make
from eventport_conformance.trial import Trial


class _OwnError(EventportError):
    """An error of the caller's code."""


def _numbers(state: tuple[int, ...], event: RecordedEvent) -> tuple[int, ...]:
    return (*state, event.data["n"])


def _count(state: int, _: RecordedEvent) -> int:
    return state + 1


@clause("AGG-01")
async def it_folds_in_order(t: Trial) -> None:
    """`aggregate` folds all events, oldest first, from the initial state."""
    await fill(t.store, "order", 5)
    result = await t.store.aggregate("order", _numbers, tuple[int, ...])
    t.equal(result.state, (1, 2, 3, 4, 5), "state")


@clause("AGG-02")
async def its_version_is_the_head_folded_to(t: Trial) -> None:
    """The version of a fold is the head that it folded to, good for the next append."""
    await fill(t.store, "order", 4)
    result = await t.store.aggregate("order", _count, int)
    t.equal((result.state, result.version, result.exists), (4, 4, True), "fold")
    after = await t.store.append("order", make(1), expected=result.version)
    t.equal(after.version, 5, "version after an append that expects it")


@clause("AGG-03")
async def a_missing_stream_gives_the_initial_state(t: Trial) -> None:
    """A fold of a stream that does not exist gives the initial state at version 0."""
    await fill(t.store, "order", 1)
    there = await t.store.aggregate("order", _count, lambda: 7)
    t.equal((there.state, there.version, there.exists), (8, 1, True), "fold of a stream")
    missing = await t.store.aggregate("missing", _count, lambda: 7)
    seen = (missing.state, missing.version, missing.exists)
    t.equal(seen, (7, 0, False), "fold of a missing stream")


@clause("AGG-04")
async def it_folds_to_a_version(t: Trial) -> None:
    """`to_version` is the last version folded, and the version of the result."""
    await fill(t.store, "order", 5)
    for last in (1, 3, 5):
        result = await t.store.aggregate("order", _numbers, tuple[int, ...], to_version=last)
        wanted = (tuple(range(1, last + 1)), last, True)
        t.equal((result.state, result.version, result.exists), wanted, f"fold to {last}")


@clause("AGG-05")
async def beyond_the_head_is_the_head(t: Trial) -> None:
    """A fold to a version beyond the head folds to the head and says so."""
    await fill(t.store, "order", 3)
    for last in (4, 2**63 - 1):
        result = await t.store.aggregate("order", _count, int, to_version=last)
        t.equal((result.state, result.version, result.exists), (3, 3, True), f"fold to {last}")


@clause("AGG-06")
async def to_version_0_folds_nothing(t: Trial) -> None:
    """A fold to version 0 gives the initial state at version 0 of a stream that exists."""
    await fill(t.store, "order", 3)
    result = await t.store.aggregate("order", _count, int, to_version=0)
    t.equal((result.state, result.version, result.exists), (0, 0, True), "fold to 0")


@clause("AGG-07")
async def what_evolve_raises_reaches_the_caller(t: Trial) -> None:
    """An error in the caller's function ends the fold, reaches the caller, and harms nothing."""
    await fill(t.store, "order", 5)
    seen: list[int] = []

    def evolve(state: int, event: RecordedEvent) -> int:
        seen.append(event.version)
        if event.version == 3:
            raise _OwnError
        return state

    with t.raises(_OwnError, "fold with a function that raises"):
        await t.store.aggregate("order", evolve, int)
    t.equal(seen, [1, 2, 3], "versions folded before the error")
    await t.untouched("order", 5, "fold with a function that raises")


@clause("AGG-08")
async def a_long_stream_is_whole(t: Trial) -> None:
    """A fold of a long stream takes in each event once, in order."""
    for first in range(1, 1301, 650):
        await t.store.append("order", make(650, start=first))

    def evolve(last: int, event: RecordedEvent) -> int:
        t.equal((event.version, event.data["n"]), (last + 1, last + 1), "next event")
        return event.version

    result = await t.store.aggregate("order", evolve, int)
    t.equal((result.state, result.version), (1300, 1300), "state and version")


@clause("AGG-09")
async def any_object_can_be_a_state(t: Trial) -> None:
    """`initial` makes a state for each fold: any object, None among them, and never a value."""
    await fill(t.store, "order", 2)
    made: list[list[int]] = []

    def initial() -> list[int]:
        made.append([])
        return made[-1]

    def grow(state: list[int], event: RecordedEvent) -> list[int]:
        state.append(event.version)
        return state

    for number in (1, 2):
        result = await t.store.aggregate("order", grow, initial)
        t.equal(len(made), number, f"states made after {number} folds")
        t.true(result.state is made[-1], "the state is the object that was made for the fold")
        t.equal(result.state, [1, 2], f"versions in the state of fold {number}")
    missing = await t.store.aggregate("missing", grow, initial)
    t.true(len(made) == 3 and missing.state is made[-1], "a missing stream has a new state")

    def forget(_: object, event: RecordedEvent) -> object:
        return None if event.version == 2 else event

    async def fold(initial: Any) -> AggregateResult[object]:
        return await t.store.aggregate("order", forget, initial)

    t.equal((await fold(object)).state, None, "a state of None")
    values: list[Any] = [[], 0, None, "text"]
    for value in values:
        with t.raises(InvalidArgumentTypeError, f"fold from {value!r}, which is a value"):
            await fold(value)
