"""A store that does nothing and says so in the friendliest way; no clause may be true of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from anyio import Event

from eventport import (
    AggregateResult,
    AllResult,
    AppendResult,
    Capability,
    QueryResult,
    ReadResult,
    RecordedEvent,
    StreamInfo,
)


class NoOpStore:
    """Accepts everything, keeps nothing, and finds nothing. It is its own session."""

    capabilities: frozenset[Capability] = frozenset()
    position: int | None = None

    def after_commit(self, hook: Any) -> Any:
        """Register nothing."""
        return hook

    async def require(self, *_: Any, **__: Any) -> None:
        """Require nothing."""

    async def query(self, *_: Any, **__: Any) -> QueryResult:
        """Find nothing."""
        return QueryResult([], 0, "token")

    async def streams(self, **_: Any) -> list[StreamInfo]:
        """List nothing."""
        return []

    async def append(self, *_: Any, **__: Any) -> AppendResult:
        """Append nothing."""
        return AppendResult(0, None, created=False, deduplicated=False)

    async def read(self, *_: Any, **__: Any) -> ReadResult:
        """Find nothing."""
        return ReadResult([], 0)

    async def iterate(self, *_: Any, **__: Any) -> AsyncGenerator[RecordedEvent, None]:
        """Give nothing."""
        events: list[RecordedEvent] = []
        for event in events:
            yield event

    async def aggregate(
        self,
        stream: str,  # noqa: ARG002  # as in the protocol
        evolve: Any,  # noqa: ARG002  # as above
        initial: Any,
        **_: Any,
    ) -> AggregateResult[Any]:
        """Fold nothing."""
        return AggregateResult(initial(), 0, exists=False)

    async def read_many(self, streams: Any) -> dict[str, ReadResult]:
        """Find nothing."""
        return {name: ReadResult([], 0) for name in streams}

    async def aggregate_many(
        self,
        streams: Any,
        evolve: Any,  # noqa: ARG002  # as in the protocol
        initial: Any,
    ) -> dict[str, AggregateResult[Any]]:
        """Fold nothing."""
        return {name: AggregateResult(initial(), 0, exists=False) for name in streams}

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Self, None]:
        """Commit nothing."""
        yield self

    async def read_all(self, *, after: int = 0, **_: Any) -> AllResult:
        """Find nothing."""
        return AllResult([], after)

    async def iterate_all(self, **_: Any) -> AsyncGenerator[RecordedEvent, None]:
        """Give nothing."""
        events: list[RecordedEvent] = []
        for event in events:
            yield event

    @asynccontextmanager
    async def subscribe(self, *, after: Any = 0, **_: Any) -> AsyncGenerator[_Nothing, None]:
        """Follow nothing."""
        yield _Nothing(0 if after == "end" else after)

    async def aclose(self) -> None:
        """Close nothing."""

    async def __aenter__(self) -> Self:
        """Return the store."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close nothing."""


class _Nothing:
    """A subscription that is always caught up, and over."""

    def __init__(self, after: int) -> None:
        self.position = after
        self.caught_up = Event()
        self.caught_up.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RecordedEvent:
        raise StopAsyncIteration
