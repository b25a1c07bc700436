"""Whether what several tasks saw of one stream can be put into one order.

A history is linearizable if each operation can be given one moment between its call and its return,
so that all of them, done one after the other in the order of these moments, give the results that
were seen. In general that is hard to decide. Here it is easy, because the versions that appends
return already show the order of the appends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Write:
    """An append that took the stream from one head to another."""

    called: int
    """When it was called, on any clock."""
    returned: int
    """When it returned."""
    before: int
    after: int

    def __str__(self) -> str:
        return f"append {self.before}→{self.after} [{self.called}, {self.returned}]"


@dataclass(frozen=True)
class Observation:
    """A read, or an append that was refused: it saw the stream at a head."""

    called: int
    """When it was called, on any clock."""
    returned: int
    """When it returned."""
    head: int

    def __str__(self) -> str:
        return f"saw {self.head} [{self.called}, {self.returned}]"


Operation: TypeAlias = Write | Observation


def violation(history: Sequence[Operation]) -> str | None:
    """Say why a history cannot be put into one order, or None if it can.

    The appends have to come in the order of their versions. Between two of them come those who saw
    the head that the first one made. Each operation is given the earliest moment that its call and
    the operations before it leave; if that is after its return, no other choice helps.
    """
    writes = sorted((one for one in history if isinstance(one, Write)), key=lambda one: one.before)
    observed = defaultdict[int, list[Observation]](list)
    for one in history:
        if isinstance(one, Observation):
            observed[one.head].append(one)
    head = now = 0
    for write in [*writes, None]:
        latest = now
        for observation in observed.pop(head, ()):
            moment = max(now, observation.called)
            if moment > observation.returned:
                return f"too late: {observation}"
            latest = max(latest, moment)
        if write is None:
            break
        if write.before != head:
            return f"does not follow on {head}: {write}"
        now = max(latest, write.called)
        if now > write.returned:
            return f"too late: {write}"
        head = write.after
    if observed:
        return f"no append made this head: {observed.popitem()[1][0]}"
    return None
