"""What inline projections have alike everywhere; and stores that cannot run them say so."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double

from eventport import (
    ConfigurationError,
    InlineProjectionError,
    InvalidArgumentTypeError,
    NotSupportedError,
    RecordedEvent,
    connect,
)
from eventport.adapter import (
    Commit,
    Committed,
    Conflict,
    EncodedEvent,
    InlineHandlers,
    Outcome,
    StreamWrite,
    Written,
    inline_failure,
    new_events,
)
from eventport.callbacks import InlineStore

from eventport_eventstoredb import EventStoreDBEventStore
from eventport_memory import MemoryEventStore
from eventport_sqlite import SQLiteEventStore


async def handler(_: object, __: object) -> None:
    """Do nothing."""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_backend_without_transactions_refuses_and_names_those_that_have_them() -> None:
    assert not issubclass(EventStoreDBEventStore, InlineStore)
    async with serve(Double()) as double:
        with pytest.raises(NotSupportedError, match=r"EventStoreDBEventStore.*SQLite, PostgreSQL"):
            async with connect(double.uri, inline=[handler]):
                pass


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_handlers_are_functions_and_no_option_of_a_url() -> None:
    with pytest.raises(ConfigurationError, match="no option 'inline'"):
        async with connect("sqlite://?inline=handler"):
            pass


def test_who_can_and_who_cannot() -> None:
    assert issubclass(SQLiteEventStore, InlineStore)
    assert issubclass(MemoryEventStore, InlineStore)


def test_handlers_keep_their_order_and_must_be_functions() -> None:
    handlers = InlineHandlers[object]()
    assert not handlers
    assert handlers.add(handler) is handler
    begun = iter(handlers)
    handlers.add(partial(handler))
    assert list(begun) == [handler]
    assert len(list(handlers)) == 2
    nothing: Any = None
    with pytest.raises(InvalidArgumentTypeError, match="function, not None"):
        handlers.add(nothing)


def test_a_failure_names_the_handler_and_shows_no_data() -> None:
    error = inline_failure(handler, LookupError("no such row: secret\nDETAIL: secret"))
    assert isinstance(error, InlineProjectionError)
    assert str(error).startswith("inline handler handler failed")
    assert str(error).endswith("written: LookupError")
    assert str(inline_failure(handler, KeyError())).endswith("KeyError")
    assert str(inline_failure(handler, "it was late")).endswith("it was late")


def test_only_what_is_written_now_is_new() -> None:
    now = datetime.now(UTC)
    first, second = (EncodedEvent("E", data, "{}", UUID(int=1), 3) for data in ("1", b"2"))
    commit = Commit((StreamWrite("s", "any", (first, second)),))
    committed = Committed((Written(3, (5, 8), created=False, times=(now, now)),))
    found: list[Outcome] = [
        committed,
        Conflict("s", 0, 1),
        Committed(committed.writes, deduplicated=True),
    ]
    (events,) = new_events([commit] * 3, found)
    assert events == [
        RecordedEvent("s", 2, 5, "E", 1, {}, UUID(int=1), now),
        RecordedEvent("s", 3, 8, "E", b"2", {}, UUID(int=1), now),
    ]
