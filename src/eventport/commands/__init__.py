"""Commands: load a stream's state, decide what happens, append it at the version seen."""

from __future__ import annotations

from eventport.command_log import CommandIdReusedError
from eventport.commands.deciding import CommandResult, Decider
from eventport.commands.gates import GateFullError, GateLimits
from eventport.commands.handler import CommandHandler


__all__ = [
    "CommandHandler",
    "CommandIdReusedError",
    "CommandResult",
    "Decider",
    "GateFullError",
    "GateLimits",
]
