"""Proves that stores follow a failover, whatever servers show meanwhile."""

from __future__ import annotations

import asyncio

from collections.abc import Generator
from typing import Any

import asyncpg
import pytest

from adapters.postgres.tests.gate import wait_until
from adapters.postgres.tests.server import (
    Server,
    Standby,
    bare_connection,
    running_server,
    running_standby,
    url_through,
)
from anyio import to_thread

from eventport import NewEvent, StoreUnavailableError
from eventport.diagnosis import diagnose

from eventport_conformance.proxy import Proxy, open_proxy
from eventport_conformance.waiting import HANG_SECONDS, until
from eventport_postgres import PostgresEventStore


@pytest.fixture
def primary() -> Generator[Server]:
    with running_server("fsync = off\n") as running:
        yield running


@pytest.fixture
def standby(primary: Server) -> Generator[Standby]:
    with running_standby(primary) as running:
        yield running


def switch(line: Proxy, server: Server | Standby) -> None:
    """Let the address lead to another server."""
    line.target = server.socket
    line.drop()


async def caught_up(primary: asyncpg.Connection) -> None:
    """Wait until the standby has all that was written."""
    await wait_until(
        primary,
        "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()",
    )


async def test_the_doctor_names_asynchronous_standbys(
    primary: Server, standby: Standby, schema: str
) -> None:
    async with (
        bare_connection(primary.url) as admin,
        await PostgresEventStore.connect(primary.url, schema=schema) as store,
    ):
        await caught_up(admin)
        found = await diagnose(store)
        (wrong,) = (one for one in found.remarks if one.topic == "standbys")
        assert wrong.level == "warning"
        assert "a failover to one may lose commits" in wrong.text
        await admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await admin.execute("SELECT pg_reload_conf()")
        sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        await wait_until(admin, sync)
        found = await diagnose(store)
        (said,) = (one for one in found.remarks if one.topic == "standbys")
        assert (said.level, said.text) == ("info", "1 of 1 have each commit")


async def test_a_standby_that_shows_for_a_moment_ends_nothing(
    primary: Server, standby: Standby, schema: str
) -> None:
    seen: list[Any] = []
    async with (
        bare_connection(primary.url) as admin,
        open_proxy(primary.socket) as line,
        await PostgresEventStore.connect(url_through(line), schema=schema) as store,
        store.subscribe() as subscription,
    ):

        async def follow() -> None:
            async for event in subscription:
                seen.append(event.data)
                if event.data == 3:
                    return

        following = asyncio.create_task(follow())
        await store.append("s", [NewEvent("E", 1)])
        await caught_up(admin)
        switch(line, standby)
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(work)
            for work in (store.append("s", [NewEvent("E", 2)]), store.read("s"), store.read_all())
        ]
        connected = line.connections
        await until(lambda: line.connections >= connected + 10, "all of them try")
        assert [task for task in tasks if task.done()] == []
        switch(line, primary)
        appended, read, _ = await asyncio.gather(*tasks)
        assert appended.version == 2
        assert read.version in {1, 2}
        await store.append("s", [NewEvent("E", 3)])
        await asyncio.wait_for(following, HANG_SECONDS)
    assert seen == [1, 2, 3]


async def test_a_pool_that_gets_to_a_standby_gives_its_connections_up(
    primary: Server, standby: Standby, schema: str
) -> None:
    async with (
        bare_connection(primary.url) as admin,
        open_proxy(primary.socket) as line,
        asyncpg.create_pool(url_through(line), min_size=2, max_size=3) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema) as store,
    ):
        await store.append("s", [NewEvent("E", 1)])
        await caught_up(admin)
        switch(line, standby)
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(work)
            for work in (store.append("s", [NewEvent("E", 2)]), store.read_all())
        ]
        connected = line.connections
        await until(lambda: line.connections >= connected + 6, "all of them try")
        assert [task for task in tasks if task.done()] == []
        line.target = primary.socket  # those that are open stay with the standby
        appended, _ = await asyncio.gather(*tasks)
        assert appended.version == 2


async def test_a_call_that_is_cancelled_while_it_looks_at_a_server_leaves_no_connection(
    primary: Server, standby: Standby, schema: str
) -> None:
    looking = asyncio.Event()

    async def fall_silent() -> None:
        looking.set()
        await asyncio.Event().wait()

    async with (
        bare_connection(primary.url) as admin,
        bare_connection(standby.url) as follower,
        open_proxy(primary.socket) as line,
        await PostgresEventStore.connect(url_through(line), schema=schema) as store,
    ):
        await caught_up(admin)
        line.lose(b"pg_is_in_recovery", "answer", before=fall_silent)
        switch(line, standby)
        reading = asyncio.create_task(store.read("s"))
        await asyncio.wait_for(looking.wait(), HANG_SECONDS)
        reading.cancel()
        await asyncio.wait([reading])
        await wait_until(
            follower,
            "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend'",
        )


async def test_a_server_that_is_left_read_only_is_one_that_is_out_of_reach(
    primary: Server, schema: str
) -> None:
    async with (
        bare_connection(primary.url) as admin,
        await PostgresEventStore.connect(primary.url, schema=schema) as store,
    ):
        await store.append("s", [NewEvent("E", 1)])

        async def let_write(value: str) -> None:
            await admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = '{value}'")
            await admin.execute("SELECT pg_reload_conf()")
            await wait_until(
                admin, "SELECT current_setting('default_transaction_read_only') = $1", value
            )

        await let_write("on")
        appending = asyncio.create_task(store.append("s", [NewEvent("E", 2)]))
        await asyncio.sleep(0.5)
        assert not appending.done()
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await admin.execute("SELECT pg_reload_conf()")
        assert (await asyncio.wait_for(appending, HANG_SECONDS)).version == 2


async def test_a_lost_answer_after_a_failover_that_lost_events_is_found(
    primary: Server, standby: Standby, schema: str
) -> None:
    async with (
        bare_connection(primary.url) as admin,
        bare_connection(standby.url) as follower,
        open_proxy(primary.socket) as line,
        await PostgresEventStore.connect(url_through(line), schema=schema) as store,
    ):
        await store.append("s", [NewEvent("E", "kept")])
        await caught_up(admin)
        await follower.execute("ALTER SYSTEM SET primary_conninfo = ''")
        await follower.execute("SELECT pg_reload_conf()")
        await wait_until(admin, "SELECT count(*) = 0 FROM pg_stat_replication")
        for number in range(200):  # a sequence is at most 32 ahead on the standby
            await store.append("t", [NewEvent("E", number)])
        await admin.close()
        await to_thread.run_sync(primary.stop)
        await to_thread.run_sync(standby.promote)
        line.lose(b"marked", "answer")
        switch(line, standby)
        result = await store.append("s", [NewEvent("E", "marked")])
        assert line.losses_due == 0
        assert (result.version, result.deduplicated) == (2, False)
        rows = await follower.fetch(f'SELECT data::text FROM "{schema}".events ORDER BY position')
        assert [row[0] for row in rows] == ['"kept"', '"marked"']
    await to_thread.run_sync(primary.start)


async def test_nothing_acknowledged_is_lost_by_the_promotion_of_a_synchronous_standby(
    primary: Server, standby: Standby, schema: str
) -> None:
    acknowledged: list[Any] = []
    unknown: set[str] = set()
    async with bare_connection(primary.url) as admin:
        await admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await admin.execute("SELECT pg_reload_conf()")
        await wait_until(
            admin, "SELECT count(*) FROM pg_stat_replication WHERE sync_state <> 'async'"
        )
    promoted = asyncio.Event()
    async with (
        open_proxy(primary.socket) as line,
        await PostgresEventStore.connect(url_through(line), schema=schema) as store,
    ):

        async def work(number: int) -> None:
            after = 0
            while after < 20:
                event = NewEvent("E", number)
                try:
                    await store.append(f"s-{number % 3}", [event])
                except StoreUnavailableError:
                    unknown.add(str(event.id))
                else:
                    acknowledged.append(str(event.id))
                after += promoted.is_set()

        tasks = [asyncio.create_task(work(number)) for number in range(8)]
        while len(acknowledged) < 200:  # noqa: ASYNC110  # or a task fails
            await asyncio.sleep(0.005)
        await to_thread.run_sync(primary.stop)
        await to_thread.run_sync(standby.promote)
        async with bare_connection(standby.url) as follower:
            await follower.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            await follower.execute("SELECT pg_reload_conf()")
            switch(line, standby)
            promoted.set()
            await asyncio.gather(*tasks)
            rows = await follower.fetch(f'SELECT id::text FROM "{schema}".events')
    stored = [row[0] for row in rows]
    assert len(set(stored)) == len(stored)
    assert set(acknowledged) <= set(stored)
    assert set(stored) <= set(acknowledged) | unknown
    await to_thread.run_sync(primary.start)
