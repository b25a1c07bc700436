"""Specifications of what aggregates and deciders do: given events, when this, then those events."""

from __future__ import annotations

import re

from collections.abc import Callable, Sequence
from difflib import ndiff
from inspect import iscoroutine
from pprint import pformat
from typing import Any, Generic, TypeVar, cast, overload

from eventport.aggregates import Aggregate
from eventport.commands import Decider


__all__ = ["Given", "Outcome", "Specification", "specify"]

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")
A = TypeVar("A", bound=Aggregate[Any])


@overload
def specify(subject: Decider[S, C, E]) -> Specification[C, E]: ...


@overload
def specify(subject: Callable[[], A]) -> Specification[Callable[[A], object], Any]: ...


def specify(subject: Decider[Any, Any, Any] | Callable[[], Aggregate[Any]]) -> Any:
    """Begin specifications of a decider or of an aggregate's class.

    ``specify(ORDER).given(Placed()).when(Ship()).then(Shipped())`` says what a decider makes of
    a command, and ``specify(Order).given(Placed()).when(lambda order: order.ship()).then(…)``
    what a method records. Nothing is read or written.
    """
    if isinstance(subject, Decider):
        decider = cast("Decider[object, Any, Any]", subject)
        return Specification[Any, Any](lambda past, command: _decide(decider, past, command))
    return Specification[Any, Any](lambda past, action: _act(subject, past, action))


class Specification(Generic[C, E]):
    """What is to be specified; `specify` makes it."""

    def __init__(self, run: Callable[[Sequence[E], C], Sequence[E]]) -> None:
        self._run = run

    def given(self, *events: E) -> Given[C, E]:
        """Say what has happened so far; nothing, if there are no events."""
        return Given(self._run, events)


class Given(Generic[C, E]):
    """A past."""

    def __init__(self, run: Callable[[Sequence[E], C], Sequence[E]], events: Sequence[E]) -> None:
        self._run = run
        self._events = events

    def when(self, what: C) -> Outcome[E]:
        """Say what is done: a command, or a function that is called with the aggregate.

        A function may return another aggregate, such as a new one; then that one's events count.
        """
        action = getattr(what, "__qualname__", None) or "\n    ".join(_lines([what]))
        scenario = f"given\n{_indented(self._events)}\nwhen\n    {action}"
        try:
            return Outcome(scenario, self._run(self._events, what), None)
        except Exception as exc:  # noqa: BLE001  # the program's own, for the checks below
            return Outcome(scenario, (), exc)


class Outcome(Generic[E]):
    """The result; nothing is checked before one of these methods is called."""

    def __init__(self, scenario: str, events: Sequence[E], error: Exception | None) -> None:
        self.events = events
        """The events that happened."""
        self.error = error
        """What was raised, if anything was."""
        self._scenario = scenario

    def then(self, *events: E) -> None:
        """Assert that exactly these events happened, in this order."""
        if self.error is not None:
            message = f"{self._scenario}\nthen it raised {self.error!r}"
            raise AssertionError(message) from self.error
        if list(self.events) != list(events):
            lines = ndiff(_lines(events), _lines(self.events))
            diff = "\n".join(f"  {line.rstrip()}" for line in lines if not line.startswith("?"))
            message = f"{self._scenario}\nthen (- expected, + happened)\n{diff}"
            raise AssertionError(message)

    def then_nothing(self) -> None:
        """Assert that no event happened, and no error."""
        self.then()

    def then_raises(self, error: type[Exception], match: str | None = None) -> None:
        """Assert that it was refused, by an error of this type.

        Args:
            error: The type.
            match: A regular expression that is searched for in the error's text.
        """
        wanted = error.__name__ if match is None else f"{error.__name__} matching {match!r}"
        if self.error is None:
            happened = _indented(self.events)
            message = f"{self._scenario}\nthen {wanted} was expected, but this happened\n{happened}"
            raise AssertionError(message)
        if not isinstance(self.error, error) or not re.search(match or "", str(self.error)):
            message = f"{self._scenario}\nthen {wanted} was expected, but it raised {self.error!r}"
            raise AssertionError(message) from self.error


def _decide(decider: Decider[S, C, E], past: Sequence[E], command: C) -> Sequence[E]:
    state = decider.initial()
    for event in past:
        state = decider.evolve(state, event)
    decided = list(decider.decide(command, state))
    for event in decided:
        decider.types.new(event)  # what cannot be stored must fail here, and not in production
        state = decider.evolve(state, event)
    return decided


def _act(
    new: Callable[[], Aggregate[E]],
    past: Sequence[E],
    action: Callable[[Aggregate[E]], object],
) -> Sequence[E]:
    aggregate = new()
    for event in past:
        aggregate.apply(event)
    result = action(aggregate)
    if iscoroutine(result):
        result.close()
        message = f"{action!r} is asynchronous: rules that wait for something are not specified"
        raise TypeError(message)
    if isinstance(result, Aggregate):
        aggregate = cast("Aggregate[E]", result)
    return aggregate.pending_events


def _lines(values: Sequence[object]) -> list[str]:
    return [line for value in values for line in pformat(value, width=88).splitlines()]


def _indented(values: Sequence[object]) -> str:
    return "\n".join(f"    {line}" for line in _lines(values)) or "    nothing"
