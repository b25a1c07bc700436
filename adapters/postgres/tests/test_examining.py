"""What the doctor says of a real server: unsafe settings, missing rights, standbys."""

from __future__ import annotations

import asyncpg
import pytest

from eventport.adapter import Remark
from eventport.diagnosis import diagnose, ready
from eventport.errors import StoreUnavailableError

from eventport_postgres import PostgresEventStore
from eventport_postgres.examining import examine


def of(remarks: list[Remark], topic: str, level: str) -> list[str]:
    return [one.text for one in remarks if (one.topic, one.level) == (topic, level)]


async def test_a_server_with_safe_settings(store: PostgresEventStore) -> None:
    await ready(store)
    found = (await diagnose(store)).remarks
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        (said,) = (one for one in found if one.text.startswith(f"{name} is "))
        assert (said.level == "info") == said.text.endswith(" is on")
    assert of(found, "grants", "info") == ["the role may append and read"]
    assert of(found, "schema", "info") == ["version 5, the newest one"]
    assert len(of(found, "clock", "info")) == 1
    assert of(found, "server", "info")[0].startswith("PostgreSQL ")


async def test_settings_that_lose_data(url: str, schema: str, admin: asyncpg.Connection) -> None:
    hasty = {"synchronous_commit": "off"}
    async with (
        asyncpg.create_pool(url, min_size=0, max_size=2, server_settings=hasty) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema) as store,
    ):
        found = await diagnose(store)
    assert not found.is_well
    (warning,) = of(found.remarks, "durability", "warning")
    assert warning.startswith("synchronous_commit is off:")
    synced = await admin.fetchval("SHOW fsync") == "on"
    assert [text[:12] for text in of(found.remarks, "durability", "error")] == (
        [] if synced else ["fsync is off"]
    )
    assert all(one.remedy for one in found.remarks if one.level != "info")


async def test_rights_that_are_missing(
    schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    role = f"r_{schema}"
    await admin.execute(f"""
        CREATE ROLE {role};
        GRANT USAGE ON SCHEMA {schema} TO {role};
        GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};
        GRANT SELECT ON {schema}.positions TO {role};
        REVOKE EXECUTE ON FUNCTION {schema}.frontier() FROM PUBLIC;
    """)
    try:
        async with admin.transaction():
            await admin.execute(f"SET LOCAL ROLE {role}")
            found = await examine(admin, schema)
    finally:
        await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert of(found, "grants", "error") == [
        f"the role {role} lacks the right to INSERT on events",
        f"the role {role} lacks the right to INSERT on tags",
        f"the role {role} lacks the right to USAGE on positions",
        f"the role {role} lacks the right to execute frontier",
    ]


async def test_a_server_that_does_not_answer(url: str, schema: str) -> None:
    async with (
        asyncpg.create_pool(url, min_size=0, max_size=2) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema) as store,
        pool.acquire(),
        pool.acquire(),
    ):
        with pytest.raises(StoreUnavailableError, match=r"no answer within 0\.01 s"):
            await ready(store, within=0.01)
