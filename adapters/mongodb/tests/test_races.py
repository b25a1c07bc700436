"""Proves that a lost race for a position is run again, and that a conflict of streams is true."""

from __future__ import annotations

import time

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import anyio
import pytest

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure

from eventport import (
    ANY,
    NO_STREAM,
    ConcurrencyError,
    InvalidEventError,
    NewEvent,
    PayloadTooLargeError,
    StoreUnavailableError,
)
from eventport.adapter import Commit, Committed, Conflict, Failed, StreamWrite, encode_events
from eventport.expectations import Expectation

from eventport_conformance.waiting import no_hang
from eventport_mongodb import MongoDBEventStore
from eventport_mongodb.driver import Document
from eventport_mongodb.heads import Head


Raw = AsyncCollection[dict[str, Any]]


def document(position: int, stream: str, version: int, count: int = 1) -> Document:
    """Make what another process would have written."""
    events = [
        {"id": uuid4(), "type": "Theirs", "data": index, "metadata": {}} for index in range(count)
    ]
    return {
        "_id": position,
        "stream": stream,
        "version": version,
        "count": count,
        "at": time.time_ns() // 1_000,
        "events": events,
    }


@pytest.fixture
def before_insert(
    store: MongoDBEventStore, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], Awaitable[Any]]], list[int]]:
    """Do something between the store's last look and its next insert; count its inserts."""

    def arrange(act: Callable[[], Awaitable[Any]]) -> list[int]:
        log = store._mongodb.log
        inserts: list[int] = []
        insert = log.insert

        async def insert_later(documents: Any, session: Any = None) -> None:
            inserts.append(len(documents))
            if len(inserts) == 1:
                await act()
            await insert(documents, session)

        monkeypatch.setattr(log, "insert", insert_later)
        return inserts

    return arrange


async def positions(raw: Raw) -> list[tuple[int, str, int]]:
    found = await raw.find().sort("_id").to_list()
    assert [one["_id"] for one in found] == [
        1 + sum(other["count"] for other in found[:index]) for index in range(len(found))
    ], "there is a gap, or positions overlap"
    return [(one["_id"], one["stream"], one["version"]) for one in found]


@pytest.mark.parametrize("expected", [ANY, 1, "stream_exists"])
async def test_a_position_that_was_taken_is_claimed_anew(
    store: MongoDBEventStore, raw: Raw, before_insert: Any, expected: Expectation
) -> None:
    await store.append("ours", [NewEvent("Ours", 1)])
    inserts = before_insert(lambda: raw.insert_one(document(2, "other", 1, 3)))
    result = await store.append("ours", [NewEvent("Ours", 2)], expected=expected)
    assert (result.version, result.position) == (2, 5)
    assert inserts == [1, 1]
    assert await positions(raw) == [(1, "ours", 1), (2, "other", 1), (5, "ours", 2)]


@pytest.mark.parametrize("expected", [NO_STREAM, 0])
async def test_a_new_stream_that_somebody_else_made_is_a_conflict(
    store: MongoDBEventStore, raw: Raw, before_insert: Any, expected: Expectation
) -> None:
    before_insert(lambda: raw.insert_one(document(1, "ours", 1, 2)))
    with pytest.raises(ConcurrencyError) as caught:
        await store.append("ours", [NewEvent("Ours", 2)], expected=expected)
    assert caught.value.actual == 2
    assert await positions(raw) == [(1, "ours", 1)]


async def test_a_version_that_was_taken_is_a_conflict_for_an_exact_expectation(
    store: MongoDBEventStore, raw: Raw, before_insert: Any
) -> None:
    await store.append("ours", [NewEvent("Ours", 1)])
    # Not at the position that the store claims, but after it: only the version is taken.
    await raw.insert_one(document(2, "other", 1))
    before_insert(lambda: raw.insert_one(document(3, "ours", 2, 2)))
    with pytest.raises(ConcurrencyError) as caught:
        await store.append("ours", [NewEvent("Ours", 2)], expected=1)
    assert (caught.value.expected, caught.value.actual) == (1, 3)
    assert await positions(raw) == [(1, "ours", 1), (2, "other", 1), (3, "ours", 2)]


async def test_a_version_that_was_taken_is_no_conflict_for_any(
    store: MongoDBEventStore, raw: Raw, before_insert: Any
) -> None:
    await store.append("ours", [NewEvent("Ours", 1)])
    before_insert(lambda: raw.insert_one(document(2, "ours", 2, 2)))
    result = await store.append("ours", [NewEvent("Ours", 2)])
    assert (result.version, result.position) == (4, 4)
    assert await positions(raw) == [(1, "ours", 1), (2, "ours", 2), (4, "ours", 4)]


async def test_in_one_batch_each_commit_gets_what_it_deserves(
    store: MongoDBEventStore, raw: Raw, before_insert: Any
) -> None:
    for stream in ("a", "b", "c"):
        await store.append(stream, [NewEvent("Ours", 1)])

    async def others() -> None:
        await raw.insert_many([document(4, "b", 2), document(5, "new", 1), document(6, "z", 1)])

    before_insert(others)
    commits: list[tuple[str, Expectation]] = [
        ("a", 1),
        ("b", 1),
        ("c", ANY),
        ("b", ANY),
        ("new", NO_STREAM),
        ("d", NO_STREAM),
    ]
    outcomes = await commit(store, commits)
    assert outcomes == [(2, 7), ("b", 2), (2, 8), (3, 9), ("new", 1), (1, 10)]
    assert [place for place in await positions(raw) if place[0] >= 7] == [
        (7, "a", 2),
        (8, "c", 2),
        (9, "b", 3),
        (10, "d", 1),
    ]


async def test_a_race_that_is_lost_in_the_middle_of_a_batch_leaves_no_hole(
    store: MongoDBEventStore, raw: Raw, before_insert: Any
) -> None:
    # The store has never heard of this stream, so it finds out in the middle of the insert.
    await raw.insert_one(document(1, "old", 1))
    await store.append("a", [NewEvent("Ours", 1)])
    inserts = before_insert(nothing)
    outcomes = await commit(store, [("a", 1), ("old", NO_STREAM), ("b", NO_STREAM)])
    assert outcomes == [(2, 3), ("old", 1), (1, 4)]
    assert inserts == [3, 1]
    assert [place[:2] for place in await positions(raw)] == [
        (1, "old"),
        (2, "a"),
        (3, "a"),
        (4, "b"),
    ]


async def test_a_session_that_loses_a_position_commits_elsewhere(
    store: MongoDBEventStore, raw: Raw, before_insert: Any
) -> None:
    inserts = before_insert(lambda: raw.insert_one(document(1, "other", 1, 2)))
    async with store.session() as session:
        await session.append("a", [NewEvent("Ours", 1)])
        await session.append("b", [NewEvent("Ours", 2)])
        await session.append("a", [NewEvent("Ours", 3)])
    assert session.position == 5
    assert inserts == [3, 3]
    assert await positions(raw) == [(1, "other", 1), (3, "a", 1), (4, "b", 1), (5, "a", 2)]


async def test_a_session_that_loses_a_stream_writes_nothing(
    store: MongoDBEventStore, raw: Raw, before_insert: Any
) -> None:
    before_insert(lambda: raw.insert_one(document(1, "b", 1)))
    with pytest.raises(ConcurrencyError) as caught:  # noqa: PT012  # the end of the block raises
        async with store.session() as session:
            await session.append("a", [NewEvent("Ours", 1)])
            await session.append("b", [NewEvent("Ours", 2)])
    assert (caught.value.stream, caught.value.actual) == ("b", 1)
    assert await positions(raw) == [(1, "b", 1)]


async def test_old_knowledge_is_no_conflict(store: MongoDBEventStore, raw: Raw) -> None:
    await store.append("s", [NewEvent("Ours", 1)])
    await raw.insert_one(document(2, "s", 2, 3))
    assert (await store.append("s", [NewEvent("Ours", 2)], expected=4)).version == 5
    await raw.insert_many([document(6 + n, f"other-{n}", 1) for n in range(2_100)])
    await raw.insert_one(document(2_106, "s", 6))
    assert (await store.append("s", [NewEvent("Ours", 3)], expected=6)).version == 7
    with pytest.raises(ConcurrencyError) as caught:
        await store.append("s", [NewEvent("Ours", 3)], expected=6)
    assert caught.value.actual == 7


@pytest.mark.parametrize("expected", [ANY, 2])
async def test_a_head_that_is_old_when_its_answer_comes_is_not_believed(
    store: MongoDBEventStore, raw: Raw, monkeypatch: pytest.MonkeyPatch, expected: Expectation
) -> None:
    await store.append("x", [NewEvent("Ours", 1)])
    await raw.insert_one(document(2, "s", 1))
    ask = store._mongodb.log.head

    async def answer_late(stream: str) -> Head:
        head = await ask(stream)
        monkeypatch.setattr(store._mongodb.log, "head", ask)
        await raw.insert_one(document(3, "s", 2))
        await store.append("y", [NewEvent("Ours", 2)])
        return head

    monkeypatch.setattr(store._mongodb.log, "head", answer_late)
    assert (await store.read("s", to_version=1)).version == 1
    with no_hang():
        result = await store.append("s", [NewEvent("Ours", 3)], expected=expected)
    assert (result.version, result.position) == (3, 5)


async def test_a_stream_that_grows_while_a_conflict_is_looked_into_may_be_none(
    store: MongoDBEventStore, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append("s", [NewEvent("Ours", 1)])
    log = store._mongodb.log
    ask = log.head

    async def answer_later(stream: str) -> Head:
        if stream == "s" and await raw.count_documents({"_id": 2}) == 0:
            await raw.insert_one(document(2, "s", 2, 2))
        return await ask(stream)

    monkeypatch.setattr(log, "head", answer_later)
    assert await commit(store, [("a", ANY), ("s", 3), ("s", 3)]) == [(1, 4), (4, 5), ("s", 4)]
    assert await positions(raw) == [(1, "s", 1), (2, "s", 2), (4, "a", 1), (5, "s", 4)]


async def test_one_that_the_server_refuses_harms_nobody_in_its_batch(
    store: MongoDBEventStore, raw: Raw
) -> None:
    validator = {"stream": {"$ne": "refused"}}
    await raw.database.command({"collMod": raw.name, "validator": validator})
    commits = [
        make_commit(stream, ANY, NewEvent("Ours", 1)) for stream in ("a", "refused", "a", "b")
    ]
    one, refused, two, three = await store._commit(commits)
    assert isinstance(refused, Failed)
    assert isinstance(refused.error, InvalidEventError)
    assert isinstance(refused.error.__cause__, BulkWriteError)
    assert all(isinstance(other, Committed) for other in (one, two, three))
    assert await positions(raw) == [(1, "a", 1), (2, "a", 2), (3, "b", 1)]


async def test_what_may_have_been_written_is_not_written_again(
    url: str, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await MongoDBEventStore.connect(url, timeout=1) as store:
        insert = store._mongodb.log.insert

        async def lose_the_answer(documents: Sequence[Document]) -> None:
            await insert(documents)
            raise AutoReconnect("the connection dropped")

        async def refuse(_: Sequence[Document]) -> dict[int, Document]:
            raise OperationFailure("not any more", 13)

        monkeypatch.setattr(store._mongodb.log, "insert", lose_the_answer)
        monkeypatch.setattr(store._mongodb.log, "at_places", refuse)
        errors: list[Exception] = []

        async def append(number: int) -> None:
            try:
                await store.append("s", [NewEvent("Ours", number)])
            except StoreUnavailableError as exc:
                errors.append(exc)

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(append, number)
        assert len(errors) == 3
        await store.aclose()
        assert await positions(raw) == [(1, "s", 1), (2, "s", 2), (3, "s", 3)]


@pytest.mark.parametrize("has_rival", [True, False])
async def test_of_a_batch_whose_answer_was_lost_each_commit_takes_place_once(
    store: MongoDBEventStore, raw: Raw, monkeypatch: pytest.MonkeyPatch, has_rival: bool
) -> None:
    await store.append("a", [NewEvent("Ours", 1)])
    insert = store._mongodb.log.insert
    sizes: list[int] = []

    async def lose_the_first_answer(documents: Sequence[Document], session: Any = None) -> None:
        sizes.append(len(documents))
        if len(sizes) == 1:
            await insert(documents[:2], session)
            if has_rival:
                await raw.insert_one(document(4, "other", 1))
            raise AutoReconnect("the connection dropped")
        await insert(documents, session)

    monkeypatch.setattr(store._mongodb.log, "insert", lose_the_first_answer)
    outcomes = await commit(store, [("a", ANY), ("b", NO_STREAM), ("c", ANY), ("d", ANY)])
    first = 5 if has_rival else 4
    assert outcomes == [(2, 2), (1, 3), (1, first), (1, first + 1)]
    assert sizes == ([4, 4, 2, 2, 2] if has_rival else [4, 4, 2])
    other = [(4, "other", 1)] if has_rival else []
    assert await positions(raw) == [
        (1, "a", 1),
        (2, "a", 2),
        (3, "b", 1),
        *other,
        (first, "c", 1),
        (first + 1, "d", 1),
    ]


async def test_what_was_written_before_the_deadline_is_known_after_it(
    url: str, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await MongoDBEventStore.connect(url, timeout=1) as store:
        await store.append("a", [NewEvent("Ours", 1)])
        await raw.insert_one(document(2, "old", 1))
        await store.append("a", [NewEvent("Ours", 2)])

        async def never(_: int, __: int) -> list[Document]:
            await anyio.sleep_forever()
            raise AssertionError

        monkeypatch.setattr(store._mongodb.log, "since", never)
        commits = [
            make_commit("a", ANY, NewEvent("Ours", 3)),
            make_commit("old", NO_STREAM, NewEvent("Ours", 4)),
        ]
        with no_hang():
            written, failed = await store._commit(commits)
        assert isinstance(written, Committed)
        assert isinstance(failed, Failed)
        assert "nothing was written" in str(failed.error)
    assert await positions(raw) == [(1, "a", 1), (2, "old", 1), (3, "a", 2), (4, "a", 3)]


async def test_one_that_is_too_large_harms_nobody_in_its_batch(
    store: MongoDBEventStore, raw: Raw
) -> None:
    large = NewEvent("Large", b"x" * 17_000_000)
    one, two, three = await store._commit(
        [
            make_commit("a", ANY, NewEvent("Ours", 1)),
            make_commit("a", ANY, large),
            make_commit("a", 1, NewEvent("Ours", 2)),
        ]
    )
    assert isinstance(one, Committed)
    assert isinstance(two, Failed)
    assert isinstance(two.error, PayloadTooLargeError)
    assert isinstance(three, Committed)
    assert await positions(raw) == [(1, "a", 1), (2, "a", 2)]


async def nothing() -> None:
    pass


async def commit(
    store: MongoDBEventStore, wanted: list[tuple[str, Expectation]]
) -> list[tuple[int | str, int | None]]:
    """Append to streams in one batch, and return each one's version and place, or its conflict."""

    commits = [make_commit(stream, expected, NewEvent("Ours", None)) for stream, expected in wanted]
    return [
        (one.writes[0].version, one.writes[0].positions[0])
        if isinstance(one, Committed)
        else (one.stream, one.actual)
        for one in await store._commit(commits)
        if isinstance(one, Committed | Conflict)
    ]


def make_commit(stream: str, expected: Expectation, event: NewEvent) -> Commit:
    return Commit((StreamWrite(stream, expected, encode_events([event])),))
