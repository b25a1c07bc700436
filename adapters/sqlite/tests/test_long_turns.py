"""Thousands of tasks that append at once leave turns of the event loop to others."""

from __future__ import annotations

from tests.turns import check_turns

from eventport_sqlite import SQLiteEventStore


async def test_no_turn_does_the_work_of_thousands_of_appends(store: SQLiteEventStore) -> None:
    await check_turns(store)
