"""A read model of documents that several processes write and read."""

from __future__ import annotations

from msgspec import Struct

from eventport.read_models import ReadModel


class Count(Struct):
    """How many events a stream has, and the version of the last one."""

    events: int = 0
    last: int = 0


COUNTS = ReadModel("counted", Count, lookups=["events"])
