"""The command log: each command, its user and its events, in the same commit as the events."""

from __future__ import annotations

from eventport.command_log.log import CommandLog, LoggedResult
from eventport.command_log.records import CommandIdReusedError, CommandRecord, Recorded


__all__ = ["CommandIdReusedError", "CommandLog", "CommandRecord", "LoggedResult", "Recorded"]
