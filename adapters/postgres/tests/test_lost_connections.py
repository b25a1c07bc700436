"""Proves that appends survive lost connections: nothing acknowledged is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import random

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import count
from uuid import UUID

import asyncpg
import pytest

from adapters.postgres.tests.gate import build_gate, closed_gate, somebody_at_the_gate, wait_until
from adapters.postgres.tests.server import Server, bare_connection, url_through
from anyio import to_thread

from eventport import ANY, ConcurrencyError, NewEvent, StoreUnavailableError

from eventport_conformance.dropping import in_the_end
from eventport_conformance.proxy import Proxy
from eventport_conformance.waiting import HANG_SECONDS, START_SECONDS, no_hang
from eventport_postgres import PostgresEventStore


APPENDS, TASKS = 2_000, 16


class Work:
    """Appends from 16 tasks, half with an exact version, half to streams that all share.

    They are 2,000, and more if they end before there was trouble often enough.
    """

    def __init__(self, store: PostgresEventStore) -> None:
        self.store = store
        self.troubled = asyncio.Event()
        self.acknowledged: dict[UUID, tuple[str, int, int]] = {}
        self.unknown: set[UUID] = set()
        self.conflicts = 0
        self.deduplicated = 0
        self.hooked: Counter[UUID] = Counter()

    async def task(self, number: int) -> None:
        version = 0
        for index in count():
            if index >= APPENDS // TASKS and self.troubled.is_set():
                return
            events = [NewEvent("E", index) for _ in range(1 + index % 2)]
            own = index % 2 == 0
            stream = f"own-{number}" if own else f"shared-{index % 3}"
            try:
                result = await self.store.append(stream, events, expected=version if own else ANY)
            except StoreUnavailableError:
                self.unknown |= {event.id for event in events}
                version = (await self.store.read(f"own-{number}", max_count=0)).version
                continue
            assert not result.deduplicated
            if own:
                assert result.version == version + len(events)
                version = result.version
            assert result.position is not None
            self.acknowledged[events[-1].id] = stream, result.version, result.position

    async def hook(self, events: object) -> None:
        self.hooked.update(event.id for event in events)  # type: ignore[attr-defined]

    async def run(self, disturb: Callable[[], Awaitable[None]], times: int) -> None:
        """Work, be disturbed at least so often, and compare the answers with what is there."""
        self.store.after_commit(self.hook)
        followed: list[tuple[str, int]] = []

        async def follow() -> None:
            async with self.store.subscribe() as subscription:
                async for event in subscription:
                    followed.append((event.stream, event.version))  # noqa: PERF401  # as it comes

        async def disturb_repeatedly(workers: Iterable[asyncio.Task[None]]) -> None:
            # It is not cancelled: a stopped server has to be started again.
            for time in count(1):
                done = len(self.acknowledged)
                await disturb()
                # On a busy machine, something has to get through; nothing announces it when.
                while len(self.acknowledged) == done and not all(w.done() for w in workers):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                if time >= times:
                    self.troubled.set()
                if all(worker.done() for worker in workers):
                    return

        async with no_hang(seconds=5 * HANG_SECONDS), asyncio.TaskGroup() as group:
            follower = group.create_task(follow())
            async with asyncio.TaskGroup() as inner:
                workers = [inner.create_task(self.task(number)) for number in range(TASKS)]
                inner.create_task(disturb_repeatedly(workers))
            events = [event async for event in self.store.iterate_all()]
            while len(followed) < len(events):  # noqa: ASYNC110  # a subscription never ends
                await asyncio.sleep(0.01)
            follower.cancel()
        assert followed == [(event.stream, event.version) for event in events]
        stored = {event.id: (event.stream, event.version, event.position) for event in events}
        assert len(stored) == len(events), "an event is there twice"
        assert {id_: stored[id_] for id_ in self.acknowledged} == self.acknowledged
        assert max(self.hooked.values()) == 1
        assert stored.keys() - self.unknown == self.hooked.keys()


async def patient_store(url: str, schema: str) -> PostgresEventStore:
    """Open a store that a busy machine gives no reason to give up."""
    return await PostgresEventStore.connect(url, schema=schema, timeout=START_SECONDS)


async def test_dropped_connections(line: Proxy, schema: str) -> None:
    rng = random.Random(1)
    async with await patient_store(url_through(line), schema) as store:

        async def drop() -> None:
            await asyncio.sleep(rng.uniform(0.001, 0.08))
            line.drop()

        work = Work(store)
        await work.run(drop, 6)
    assert not work.unknown


async def test_terminated_backends(server: Server, schema: str) -> None:
    rng = random.Random(2)
    async with (
        bare_connection(server.url) as admin,
        await patient_store(server.url, schema) as store,
    ):

        async def terminate() -> None:
            await asyncio.sleep(rng.uniform(0.001, 0.08))
            await admin.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )

        work = Work(store)
        await work.run(terminate, 6)
    assert not work.unknown


async def test_a_server_that_crashes_and_comes_back(server: Server, schema: str) -> None:
    async def crash() -> None:
        await asyncio.sleep(0.1)
        await to_thread.run_sync(server.stop)
        await to_thread.run_sync(server.start)

    async with await patient_store(server.url, schema) as store:
        work = Work(store)
        await work.run(crash, 2)
    assert not work.unknown


async def test_what_cannot_be_settled_in_time_is_said_so(server: Server, schema: str) -> None:
    again = [NewEvent("E", 3)]
    async with (
        await PostgresEventStore.connect(server.url, schema=schema) as other,
        await PostgresEventStore.connect(server.url, schema=schema, timeout=0.3) as store,
    ):
        await other.append("s", [NewEvent("E", 1)])
        await to_thread.run_sync(server.stop)
        for attempt in (
            lambda: store.append("s", [NewEvent("E", 2)]),
            lambda: store.read("s"),
            store.read_all,
        ):
            with no_hang(), pytest.raises(StoreUnavailableError):
                await attempt()
        await to_thread.run_sync(server.start)
        append = partial(store.append, "s", again, expected=1)
        # On a busy machine, 0.3 seconds may be too short even for a server that answers.
        assert (await in_the_end("append", append)).version == 2


async def test_an_answer_that_got_lost_is_found_and_a_conflict_stays_one(
    schema: str, server: Server, line: Proxy
) -> None:
    async with (
        await PostgresEventStore.connect(server.url, schema=schema) as other,
        await PostgresEventStore.connect(url_through(line), schema=schema) as store,
    ):
        await other.append("taken", [NewEvent("E", 0)])
        for done in range(10):
            head = (await store.read_all()).position
            tasks = [
                asyncio.create_task(store.append(f"new-{head}", [NewEvent("E", 1)], expected=0)),
                asyncio.create_task(store.append("any", [NewEvent("E", 2)])),
                asyncio.create_task(store.append("taken", [NewEvent("E", 3)], expected=0)),
            ]
            with suppress(TimeoutError):
                async with no_hang():
                    # As soon as it is committed, whether or not its answer is on the line.
                    while (await other.read("any", max_count=0)).version <= done:  # noqa: ASYNC110
                        await asyncio.sleep(0)
            line.drop()
            made, appended, refused = await asyncio.gather(*tasks, return_exceptions=True)
            assert not isinstance(made, BaseException)
            assert not isinstance(appended, BaseException)
            assert (made.version, made.created, made.deduplicated) == (1, True, False)
            assert (appended.version, appended.deduplicated) == (done + 1, False)
            assert isinstance(refused, ConcurrencyError)
            assert refused.actual == 1


async def test_behind_a_pooler_a_batch_of_unknown_outcome_is_not_written_again(
    schema: str, server: Server, line: Proxy
) -> None:
    async with (
        await PostgresEventStore.connect(server.url, schema=schema) as other,
        bare_connection(server.url) as admin,
    ):
        await build_gate(admin, schema)
        pooled = await PostgresEventStore.connect(
            url_through(line), schema=schema, transaction_pooling=True, timeout=1
        )
        async with no_hang(), pooled as store:
            async with closed_gate(admin, schema):
                appending = asyncio.create_task(store.append("s", [NewEvent("Gated", "first")]))
                await somebody_at_the_gate(admin)
                line.drop()  # the server goes on, and then writes
                with pytest.raises(StoreUnavailableError, match="not known"):
                    await appending
            await wait_until(admin, f'SELECT count(*) FROM "{schema}".events')
            await other.append("s", [NewEvent("E", "last")])
            written = [event.data for event in (await other.read("s")).events]
        assert written == ["first", "last"]


async def test_a_pool_of_the_caller_survives_a_lost_answer(schema: str, line: Proxy) -> None:
    async with (
        no_hang(),
        asyncpg.create_pool(url_through(line), min_size=2, max_size=4) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema) as store,
    ):
        for version in range(1, 4):
            line.lose(b"marked", "answer")
            results = await asyncio.gather(
                store.append("s", [NewEvent("E", "marked")]),
                store.append("t", [NewEvent("E", "marked")]),
            )
            assert line.losses_due == 0
            assert [result.version for result in results] == [version, version]
