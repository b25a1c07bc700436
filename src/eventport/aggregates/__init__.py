"""Aggregates: objects that are loaded from their events, and saved by what they record."""

from __future__ import annotations

from eventport.aggregates.aggregate import Aggregate, Folded
from eventport.aggregates.repository import Repository, stream_name
from eventport.aggregates.work import Work
from eventport.errors import AggregateExistsError, AggregateNotFoundError


__all__ = [
    "Aggregate",
    "AggregateExistsError",
    "AggregateNotFoundError",
    "Folded",
    "Repository",
    "Work",
    "stream_name",
]
