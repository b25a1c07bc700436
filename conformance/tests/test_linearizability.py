"""The checker of histories says the same as trying all orders."""

from __future__ import annotations

import random

from collections.abc import Sequence
from itertools import permutations

from eventport_conformance.linearizability import Observation, Operation, Write, violation


def in_some_order(history: Sequence[Operation]) -> bool:
    """Try every order that keeps those apart that did not overlap."""
    for order in permutations(history):
        if any(
            later.returned < earlier.called
            for place, earlier in enumerate(order)
            for later in order[place + 1 :]
        ):
            continue
        head = 0
        for one in order:
            if isinstance(one, Write):
                if one.before != head:
                    break
                head = one.after
            elif one.head != head:
                break
        else:
            return True
    return False


def random_history(chance: random.Random) -> list[Operation]:
    """Make up a history: of a right store most of the time, then changed a little."""
    count = chance.randint(1, 6)
    moments = chance.sample(range(100), 2 * count)
    head = 0
    history: list[Operation] = []
    for moment in sorted(moments[:count]):
        called = moment - chance.choice([0, 0, 3, 10, 40])
        returned = moment + chance.choice([0, 0, 3, 10, 40])
        if chance.random() < 0.1:
            called = returned = chance.randrange(100)
        if chance.random() < 0.5:
            size = chance.randint(1, 2)
            history.append(Write(called, returned, head, head + size))
            head += size
        else:
            seen = head if chance.random() < 0.85 else chance.randint(0, 4)
            history.append(Observation(called, returned, seen))
    chance.shuffle(history)
    return history


def test_it_agrees_with_brute_force() -> None:
    chance = random.Random(7)
    verdicts = {True: 0, False: 0}
    for _ in range(3_000):
        history = random_history(chance)
        held = in_some_order(history)
        assert (violation(history) is None) is held, [str(one) for one in history]
        verdicts[held] += 1
    assert min(verdicts.values()) > 300, "both verdicts occur often"


def test_an_empty_history_holds() -> None:
    assert violation([]) is None


def test_a_stale_head_is_named() -> None:
    history: list[Operation] = [Write(0, 1, 0, 2), Observation(5, 6, 0)]
    assert violation(history) == "too late: append 0→2 [0, 1]"


def test_two_winners_are_named() -> None:
    history = [Write(0, 9, 0, 1), Write(0, 9, 0, 1)]
    assert "does not follow on 1" in str(violation(history))


def test_a_head_that_no_append_made_is_named() -> None:
    history: list[Operation] = [Write(0, 1, 0, 3), Observation(0, 9, 2)]
    assert violation(history) == "no append made this head: saw 2 [0, 9]"
