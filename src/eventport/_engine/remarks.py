"""What an engine says about the state and the settings of its backend."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from msgspec import Struct


Level: TypeAlias = Literal["info", "warning", "error"]
"""How much a remark matters: a fact; what may lose data or fail later; what fails now."""

_CLOCKS_MAY_DIFFER: Final = 2.0
"""Seconds."""


class Remark(Struct, frozen=True):
    """Something that an operator of a store should know."""

    level: Level
    """How much it matters."""
    topic: str
    """What it is about: ``server``, ``durability``, ``schema``, ``grants``, ``limits``, ..."""
    text: str
    """What was found. It holds neither data of events nor passwords."""
    remedy: str = ""
    """What to do about it; "" for a fact."""


def fact(topic: str, text: str) -> Remark:
    """Return a remark that asks for nothing."""
    return Remark("info", topic, text)


def remark_on_clock(theirs: float, sent: float, received: float) -> Remark:
    """Compare the clock of a server with that of this host.

    Args:
        theirs: What the server's clock showed, in seconds since 1970.
        sent: When it was asked, by the clock of this host.
        received: When its answer came.
    """
    # The server looked at its clock at some moment between the question and the answer.
    difference = max(theirs - received, sent - theirs, 0.0)
    text = f"the server's clock and that of this host differ by {difference:.1f} s"
    if difference <= _CLOCKS_MAY_DIFFER:
        return fact("clock", text)
    remedy = "synchronise both by NTP: the times of events come from these clocks"
    return Remark("warning", "clock", text, remedy)
