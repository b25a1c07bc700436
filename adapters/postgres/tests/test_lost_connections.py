"""Proves that appends survive lost connections: nothing acknowledged is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import random

from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

import asyncpg
import pytest

from anyio import to_thread
from server import Server, running_server

from eventport import ANY, ConcurrencyError, EventStore, NewEvent, StoreUnavailableError
from eventport.adapter import Commit, Committed, Failed, StreamWrite, Written
from eventport.codec import encode_events

from eventport_conformance.proxy import open_proxy
from eventport_conformance.waiting import HANG_SECONDS, no_hang, until
from eventport_postgres import PostgresEventStore


APPENDS, TASKS = 2_000, 16


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    """A server that may be cut off, killed and restarted, with nobody else on it."""
    # What a server has written when it is killed is there, on disk or not; only machines forget it.
    with running_server("fsync = off\n") as running:
        yield running


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
        """Work, be disturbed at least so often, and compare what was told with what is there."""
        self.store.after_commit(self.hook)
        followed: list[tuple[str, int]] = []

        async def follow() -> None:
            async with self.store.subscribe() as subscription:
                async for event in subscription:
                    followed.append((event.stream, event.version))  # noqa: PERF401  # as it comes

        async def disturb_again_and_again(workers: Iterable[asyncio.Task[None]]) -> None:
            # It is not cancelled: whoever stops a server has to start it again.
            for time in count(1):
                done = len(self.acknowledged)
                await disturb()
                # On a busy machine, something has to get through; nobody tells when.
                while len(self.acknowledged) == done and not all(w.done() for w in workers):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                if time >= times:
                    self.troubled.set()
                if all(worker.done() for worker in workers):
                    return

        async with no_hang(seconds=10 * HANG_SECONDS), asyncio.TaskGroup() as group:
            follower = group.create_task(follow())
            async with asyncio.TaskGroup() as inner:
                workers = [inner.create_task(self.task(number)) for number in range(TASKS)]
                inner.create_task(disturb_again_and_again(workers))
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


async def until_written(store: EventStore, stream: str, expected: int) -> None:
    """Append with a store that gives up soon, as a busy machine makes it do."""
    events = [NewEvent("E", 0)]

    async def is_written() -> bool:
        with suppress(StoreUnavailableError):
            return (await store.append(stream, events, expected=expected)).version == expected + 1
        return False

    await until(is_written, "the server is found again")


async def until_blocked(admin: asyncpg.Connection) -> None:
    """Wait until somebody waits for a lock on the server."""

    async def is_blocked() -> bool:
        return bool(await admin.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    await until(is_blocked, "an append waits for a lock")


async def test_cut_lines(server: Server, schema: str) -> None:
    rng = random.Random(1)
    async with open_proxy(server.socket) as line:
        url = f"postgresql://postgres@127.0.0.1:{line.port}/postgres"
        async with await PostgresEventStore.connect(
            url, schema=schema, timeout=HANG_SECONDS
        ) as store:

            async def cut() -> None:
                await asyncio.sleep(rng.uniform(0.001, 0.08))
                line.drop(reset=True)

            work = Work(store)
            await work.run(cut, 6)
    assert not work.unknown


async def test_terminated_backends(server: Server, schema: str) -> None:
    rng = random.Random(2)
    admin = await asyncpg.connect(server.url)

    async def terminate() -> None:
        await asyncio.sleep(rng.uniform(0.001, 0.08))
        await admin.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    async with await PostgresEventStore.connect(
        server.url, schema=schema, timeout=HANG_SECONDS
    ) as store:
        work = Work(store)
        await work.run(terminate, 6)
    await admin.close()
    assert not work.unknown


async def test_a_server_that_crashes_and_comes_back(server: Server, schema: str) -> None:
    async def crash() -> None:
        await asyncio.sleep(0.1)
        await to_thread.run_sync(server.stop)
        await to_thread.run_sync(server.start)

    async with await PostgresEventStore.connect(
        server.url, schema=schema, timeout=HANG_SECONDS
    ) as store:
        work = Work(store)
        await work.run(crash, 2)
    assert not work.unknown


async def test_what_cannot_be_settled_in_time_is_said_so(schema: str) -> None:
    with running_server("fsync = off\n") as server:
        store = await PostgresEventStore.connect(server.url, schema=schema, timeout=0.3)
        await store.append("s", [NewEvent("E", 1)])
        await to_thread.run_sync(server.stop)
        for attempt in (
            lambda: store.append("s", [NewEvent("E", 2)]),
            lambda: store.read("s"),
            store.read_all,
        ):
            async with no_hang():
                with pytest.raises(StoreUnavailableError):
                    await attempt()
        await to_thread.run_sync(server.start)
        await until_written(store, "s", expected=1)
        await store.aclose()


async def test_an_error_of_the_rest_of_a_batch_is_not_one_of_the_whole(
    store: PostgresEventStore,
) -> None:
    # The first commit has been found to be written. If its batch failed as a whole, it would be
    # written once more.
    committed = Committed([Written(1, [1], created=True)], datetime.now(UTC))
    first, *others = (
        Commit((StreamWrite(f"s-{number}", ANY, encode_events([NewEvent("E", number)])),))
        for number in range(3)
    )
    writer = store._writer
    for connection in store._connections._writers.values():  # type: ignore[attr-defined]
        connection.terminate()
    store._connections._url = "postgresql://127.0.0.1:1/nowhere"  # type: ignore[attr-defined]
    writer._timeout = 0.1
    outcomes = await writer._complete([first, *others], [committed, None, None])
    assert outcomes[0] is committed
    for outcome in outcomes[1:]:
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, StoreUnavailableError)


async def test_what_is_still_on_its_way_is_not_written_twice(
    url: str, schema: str, store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    # The first try waits for a lock on the server while its line is cut; it would get the lock
    # after somebody had looked for its event.
    transaction = admin.transaction()
    await transaction.start()
    await store.using(admin).append("s", [NewEvent("E", "first")])
    appending = asyncio.create_task(store.append("s", [NewEvent("E", "second")]))
    # The first look at the lock is a short one; then another connection waits for it.
    writers = store._connections._writers  # type: ignore[attr-defined]
    await until(lambda: True in writers, "the append waits for the lock")
    await until_blocked(admin)
    store._connections._writers[True]._transport.abort()  # type: ignore[attr-defined]
    await asyncio.sleep(0.1)
    await transaction.commit()
    async with no_hang():
        assert (await appending).version == 2
    await asyncio.sleep(0.1)
    assert [event.data for event in (await store.read("s")).events] == ["first", "second"]


async def test_an_answer_that_got_lost_is_found_and_a_conflict_stays_one(
    schema: str, server: Server
) -> None:
    async with (
        open_proxy(server.socket) as line,
        await PostgresEventStore.connect(server.url, schema=schema) as other,
    ):
        url = f"postgresql://postgres@127.0.0.1:{line.port}/postgres"
        async with await PostgresEventStore.connect(url, schema=schema) as store:
            await other.append("taken", [NewEvent("E", 0)])
            for done in range(10):
                head = (await store.read_all()).position
                tasks = [
                    asyncio.create_task(
                        store.append(f"new-{head}", [NewEvent("E", 1)], expected=0)
                    ),
                    asyncio.create_task(store.append("any", [NewEvent("E", 2)])),
                    asyncio.create_task(store.append("taken", [NewEvent("E", 3)], expected=0)),
                ]
                # As soon as it is committed, whether or not its answer is on the line.
                async with no_hang("an append is committed"):
                    while (await other.read("any", max_count=0)).version <= done:  # noqa: ASYNC110
                        await asyncio.sleep(0)
                line.drop(reset=True)
                made, appended, refused = await asyncio.gather(*tasks, return_exceptions=True)
                assert not isinstance(made, BaseException)
                assert not isinstance(appended, BaseException)
                assert (made.version, made.created, made.deduplicated) == (1, True, False)
                assert (appended.version, appended.deduplicated) == (done + 1, False)
                assert isinstance(refused, ConcurrencyError)
                assert refused.actual == 1


async def test_behind_a_pooler_a_batch_of_unknown_outcome_is_not_written_again(
    schema: str, server: Server
) -> None:
    async with (
        open_proxy(server.socket) as line,
        await PostgresEventStore.connect(server.url, schema=schema) as other,
    ):
        admin = await asyncpg.connect(server.url)
        url = f"postgresql://postgres@127.0.0.1:{line.port}/postgres"
        pooled = await PostgresEventStore.connect(url, schema=schema, transaction_pooling=True)
        async with no_hang(), pooled as store:
            async with admin.transaction():
                await other.using(admin).append("s", [NewEvent("E", "first")])
                batch = asyncio.gather(
                    *(store.append("s", [NewEvent("E", number)]) for number in range(3)),
                    return_exceptions=True,
                )
                await until_blocked(admin)
                line.drop(reset=True)  # the server goes on waiting for the lock, and then writes
                results = await batch
            assert [type(result) for result in results] == [StoreUnavailableError] * 3
            while (await other.read("s")).version < 4:  # noqa: ASYNC110  # or time is up
                await asyncio.sleep(0.01)
            await other.append("s", [NewEvent("E", "last")])
            written = [event.data for event in (await other.read("s")).events]
        assert written == ["first", 0, 1, 2, "last"]
        await admin.close()


async def test_a_pool_of_the_caller_survives_a_lost_answer(schema: str, server: Server) -> None:
    async with open_proxy(server.socket) as line:
        url = f"postgresql://postgres@127.0.0.1:{line.port}/postgres"
        async with (
            no_hang(),
            asyncpg.create_pool(url, min_size=2, max_size=4) as pool,
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
