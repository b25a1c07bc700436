"""Reactors: events lead to commands, appends and timeouts, each with its effect once."""

from __future__ import annotations

from eventport.reactors.reaction import Reaction
from eventport.reactors.reactor import BoundReactor, Reactor
from eventport.reactors.refusals import ReactionLoopError, UnknownTimeoutError
from eventport.reactors.runner import ReactorRunner
from eventport.reactors.timeouts import Timeout


__all__ = [
    "BoundReactor",
    "Reaction",
    "ReactionLoopError",
    "Reactor",
    "ReactorRunner",
    "Timeout",
    "UnknownTimeoutError",
]
