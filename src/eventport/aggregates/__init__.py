"""Aggregates: objects that are loaded from their events, and saved by what they record."""

from __future__ import annotations

from eventport.aggregates.aggregate import (
    Aggregate,
    AggregateExistsError,
    AggregateNotFoundError,
    Folded,
)
from eventport.aggregates.indexing import Column, plain, unique
from eventport.aggregates.repository import Repository, stream_name
from eventport.aggregates.unit_of_work import UnitOfWork


__all__ = [
    "Aggregate",
    "AggregateExistsError",
    "AggregateNotFoundError",
    "Column",
    "Folded",
    "Repository",
    "UnitOfWork",
    "plain",
    "stream_name",
    "unique",
]
