"""Proves that each error of the server becomes the one that is true of it, and shows no data."""

from __future__ import annotations

import logging

from typing import Any

import asyncpg
import pytest

from asyncpg import exceptions as pg

from eventport import (
    ConfigurationError,
    EventportError,
    IncompatibleStoreError,
    InvalidArgumentError,
    NewEvent,
    NotSupportedError,
    PayloadTooLargeError,
    StoreUnavailableError,
)
from eventport.adapter import MAX_INT, ConnectionLostError

from eventport_postgres import PostgresEventStore
from eventport_postgres.errors import translated


SECRET = "ada.lovelace@example.org"

TRUE_OF = {
    "08": StoreUnavailableError,
    "0A": NotSupportedError,
    "0P": ConfigurationError,
    "22": InvalidArgumentError,
    "26": ConfigurationError,
    "28": ConfigurationError,
    "3D": ConfigurationError,
    "3F": IncompatibleStoreError,
    "40": StoreUnavailableError,
    "42": IncompatibleStoreError,
    "53": StoreUnavailableError,
    "54": PayloadTooLargeError,
    "55": StoreUnavailableError,
    "57": StoreUnavailableError,
    "58": StoreUnavailableError,
    "72": StoreUnavailableError,
    "F0": ConfigurationError,
    "XX": StoreUnavailableError,
}
EXCEPTIONS = {
    "22023": ConfigurationError,
    "2200H": NotSupportedError,
    "23505": IncompatibleStoreError,
    "25006": StoreUnavailableError,
    "25P03": StoreUnavailableError,
    "25P04": StoreUnavailableError,
    "42501": ConfigurationError,
    "42704": ConfigurationError,
    "42P05": ConfigurationError,
    "55P02": ConfigurationError,
}
STATES = sorted(
    state
    for state in {str(getattr(kind, "sqlstate", None)) for kind in vars(pg).values()} - {"None"}
    if state[:2] not in {"00", "01", "02", "03"}  # no errors
)


def _is_of_kind(error: EventportError, kind: type[EventportError]) -> bool:
    return type(error) in {kind, ConnectionLostError} and isinstance(error, kind)


async def test_every_state_that_asyncpg_knows(admin: asyncpg.Connection) -> None:
    assert len(STATES) > 200
    wrong = []
    for state in STATES:
        with pytest.raises(pg.PostgresError) as caught:
            await admin.execute(
                f"DO $$ BEGIN RAISE '%', 'about something' USING ERRCODE = '{state}', "
                f"DETAIL = '{SECRET}', HINT = '{SECRET}'; END $$"
            )
        error = translated(caught.value)
        kind = EXCEPTIONS.get(state) or TRUE_OF.get(state[:2]) or NotSupportedError
        if not _is_of_kind(error, kind) or SECRET in f"{error} {error!r}":
            wrong.append((state, type(error).__name__, kind.__name__, str(error)))
    assert not wrong


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT '{0}'::int",
        "SELECT ('{{\"a\": {0}'::json)->>'a'",
        "DO $$ BEGIN RAISE 'no {0}'; END $$",
        "DO $$ BEGIN RAISE 'no {0}' USING ERRCODE = 'check_violation'; END $$",
        "DO $$ BEGIN EXECUTE 'SELECT {0}'; END $$",
    ],
)
async def test_what_the_server_says_of_values_is_not_shown(
    admin: asyncpg.Connection, sql: str
) -> None:
    with pytest.raises(pg.PostgresError) as caught:
        await admin.execute(sql.format(SECRET))
    assert "ada" in str(caught.value)
    error = translated(caught.value)
    assert "ada" not in f"{error} {error!r}"
    assert type(caught.value).__name__ in str(error)


async def test_a_trigger_that_refuses_an_event_shows_no_data(
    store: PostgresEventStore,
    admin: asyncpg.Connection,
    schema: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    await admin.execute(
        f"""
        CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.type = 'raise' THEN RAISE EXCEPTION 'not %', NEW.data::text; END IF;
            IF NEW.type = 'cast' THEN PERFORM (NEW.data->>'email')::pg_catalog.int4; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON {schema}.events
            FOR EACH ROW EXECUTE FUNCTION {schema}.refuse();
        ALTER TABLE {schema}.events ADD CONSTRAINT young CHECK ((data->>'age')::int4 < 100);
        """
    )
    for type_, age in (("raise", 1), ("cast", 1), ("check", 200)):
        event = NewEvent(type_, {"email": SECRET, "age": age})
        with pytest.raises(EventportError) as caught:
            await store.append("s", [event])
        assert not isinstance(caught.value, StoreUnavailableError | PayloadTooLargeError)
        assert SECRET not in f"{caught.value} {caught.value!r}"
        assert isinstance(caught.value.__cause__, asyncpg.PostgresError)
        assert type_ != "check" or "constraint young" in str(caught.value)
    assert SECRET not in caplog.text
    assert (await store.append("s", [NewEvent("E", {"age": 1})])).version == 1


async def test_a_value_that_asyncpg_refuses_is_not_shown(admin: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.DataError) as caught:
        await admin.fetch("SELECT $1::int", SECRET)
    error = translated(caught.value)
    assert isinstance(error, InvalidArgumentError)
    assert SECRET not in f"{error} {error!r}"


async def test_the_largest_positions_and_versions_overflow_nothing(
    store: PostgresEventStore,
) -> None:
    await store.append("s", [NewEvent("E", 1), NewEvent("E", 2)])
    for after in (MAX_INT, MAX_INT - 1, 2**62):
        choices: list[dict[str, Any]] = [{}, {"types": ["E"]}, {"prefix": "s"}]
        for choice in choices:
            result = await store.read_all(after=after, max_count=MAX_INT, **choice)
            assert (result.events, result.position) == ([], after)
    assert len((await store.read_all(max_count=MAX_INT, types=["E"])).events) == 2
    page = await store.read("s", from_version=MAX_INT, to_version=MAX_INT, max_count=MAX_INT)
    assert (page.events, page.version) == ([], 2)
    for expected in (MAX_INT, MAX_INT - 1, 2**62):
        for events in ([NewEvent("E", 3)], [NewEvent("E", 3), NewEvent("E", 4)]):
            with pytest.raises(EventportError, match="is at version 2"):
                await store.append("s", events, expected=expected)
