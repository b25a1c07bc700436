"""What the doctor says of a database: settings that lose data, a log that only grows."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from eventport import NewEvent
from eventport.diagnosis import Remark, diagnose, ready
from eventport.errors import StoreClosedError, StoreUnavailableError

from eventport_sqlite import SQLiteEventStore, examining


async def complaints(store: SQLiteEventStore) -> list[Remark]:
    found = await diagnose(store)
    wrong = [one for one in found.remarks if one.level != "info"]
    assert found.is_well == (not wrong)
    assert all(one.remedy for one in wrong)
    return wrong


async def test_a_file_with_safe_settings(store: SQLiteEventStore) -> None:
    assert await complaints(store) == []
    found = (await diagnose(store)).remarks
    texts = [one.text for one in found]
    assert "the journal mode is wal" in texts
    assert "no push: SQLite has no notifications; subscriptions poll" in texts


async def test_settings_that_lose_data(path: Path) -> None:
    async with await SQLiteEventStore.open(path, synchronous="normal") as store:
        (one,) = await complaints(store)
    assert (one.topic, one.text[:21]) == ("durability", "synchronous is normal")
    async with await SQLiteEventStore.open(":memory:") as store:
        (one,) = await complaints(store)
    assert "in memory" in one.text


async def test_a_log_that_only_grows(
    store: SQLiteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append("s", [NewEvent("T", {})])
    monkeypatch.setattr(examining, "LONG_LOG", 1)
    (one,) = await complaints(store)
    assert one.topic == "limits"


async def test_whether_a_store_is_ready(store: SQLiteEventStore, path: Path) -> None:
    await ready(store)
    await anyio.Path(path).rename(f"{path}.elsewhere")
    with pytest.raises(StoreUnavailableError, match="removed, moved or replaced"):
        await ready(store)
    with pytest.raises(StoreUnavailableError, match="removed, moved or replaced"):
        await diagnose(store)
    await store.aclose()
    with pytest.raises(StoreClosedError):
        await ready(store)
