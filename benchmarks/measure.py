"""Measuring contestants against each other: interleaved rounds, medians, ratios."""

from __future__ import annotations

import gc
import statistics
import sys

from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Final, NamedTuple, TypeAlias

from eventport import EventStore, Match, NewEvent, Query


QUICK: Final = "--quick" in sys.argv
"""Whether all is to take less than three minutes: figures are then only good for a first look."""

MANY: Final = 100_000 if QUICK else 1_000_000
"""How many events a large store has."""

QUICK_ROUNDS: Final = 3

Contestant: TypeAlias = Callable[[int], Awaitable[int]]
"""Does the work of one round, whose number it is given, and returns how many things it did."""


class Figure(NamedTuple):
    """One line of the report."""

    what: str
    ours: float
    """Things per second, the median of the rounds."""
    floor: float | None
    """The same of the bare driver, in the same run; None if there is nothing to compare with."""
    goal: float
    """What the ratio of the two, or else our own figure, should reach."""

    @property
    def value(self) -> float:
        """The figure that has a goal."""
        return self.ours if self.floor is None else self.ours / self.floor

    def __str__(self) -> str:
        floor = "" if self.floor is None else f"{self.floor:>12,.0f}/s"
        value = f"{self.value:,.0f}/s" if self.floor is None else f"{self.value:.2f} x"
        met = "yes" if self.value >= self.goal else "NO"
        return f"{self.what:<58}{self.ours:>12,.0f}/s{floor:>14}{value:>14}{self.goal:>10,g}  {met}"


HEADER = f"{'what':<58}{'eventport':>14}{'floor':>14}{'figure':>14}{'goal':>10}  met"


async def rates(contestants: Sequence[Contestant], rounds: int) -> list[float]:
    """Let contestants take turns, and return the median of each one's things per second."""
    seen: list[list[float]] = [[] for _ in contestants]
    for number in range(min(rounds, QUICK_ROUNDS) if QUICK else rounds):
        # Turns change, so that nobody always runs right after the same other.
        order = list(zip(contestants, seen, strict=True))
        for contestant, values in order if number % 2 else order[::-1]:
            gc.collect()
            start = perf_counter()
            count = await contestant(number)
            values.append(count / (perf_counter() - start))
    return [statistics.median(values) for values in seen]


async def append_once(store: EventStore, tag: str) -> None:
    """Append one event with a tag, unless there is one with it."""
    event = NewEvent("ItemAdded", {"order": "o-1", "sku": "abc", "quantity": 2}, tags={tag})
    await store.append(tag, [event], unless=Query.of(Match(tags={tag})))
