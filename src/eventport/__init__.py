"""One typed protocol for event stores, whichever database keeps the events."""

from __future__ import annotations

from eventport._config.connecting import connect
from eventport.boundaries import BoundaryError, Match, Query
from eventport.conflicts import run_in_session
from eventport.errors import (
    ConcurrencyError,
    ConfigurationError,
    CorruptEventError,
    EventportError,
    HistoryReplacedError,
    IncompatibleStoreError,
    InlineProjectionError,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidEventError,
    InvalidEventTypeError,
    InvalidStreamNameError,
    NotSupportedError,
    PayloadTooLargeError,
    StoreClosedError,
    StoreFencedError,
    StoreUnavailableError,
    WrongEventLoopError,
)
from eventport.events import CopiedEvent, NewEvent, RecordedEvent
from eventport.expectations import ANY, NO_STREAM, STREAM_EXISTS, Expectation
from eventport.protocols import Capability, EventStore, Session, Streams, Subscription
from eventport.results import (
    AggregateResult,
    AllResult,
    AppendResult,
    QueryResult,
    ReadResult,
    StreamInfo,
)


__all__ = [
    "ANY",
    "NO_STREAM",
    "STREAM_EXISTS",
    "AggregateResult",
    "AllResult",
    "AppendResult",
    "BoundaryError",
    "Capability",
    "ConcurrencyError",
    "ConfigurationError",
    "CopiedEvent",
    "CorruptEventError",
    "EventStore",
    "EventportError",
    "Expectation",
    "HistoryReplacedError",
    "IncompatibleStoreError",
    "InlineProjectionError",
    "InvalidArgumentError",
    "InvalidArgumentTypeError",
    "InvalidEventError",
    "InvalidEventTypeError",
    "InvalidStreamNameError",
    "Match",
    "NewEvent",
    "NotSupportedError",
    "PayloadTooLargeError",
    "Query",
    "QueryResult",
    "ReadResult",
    "RecordedEvent",
    "Session",
    "StoreClosedError",
    "StoreFencedError",
    "StoreUnavailableError",
    "StreamInfo",
    "Streams",
    "Subscription",
    "WrongEventLoopError",
    "connect",
    "run_in_session",
]
