"""Columns of aggregates: kept in the commits of their events, on every backend that can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from tests.toolkit.backends import WITH_CATALOGUE

from eventport import (
    Capability,
    ConcurrencyError,
    EventStore,
    InvalidArgumentError,
    NewEvent,
    NotSupportedError,
    connect,
    run_in_session,
)
from eventport.aggregates import Aggregate, Column, Repository, plain, unique
from eventport.folding import Fold
from eventport.keys import DuplicateKeyError
from eventport.typed import EventTypes

from eventport_conformance.waiting import no_hang


everywhere = pytest.mark.parametrize("backend", WITH_CATALOGUE)
"""On all stores that list their streams; the last test is about the others."""


@dataclass(frozen=True)
class Registered:
    email: str
    city: str


@dataclass(frozen=True)
class Moved:
    city: str


@dataclass(frozen=True)
class Renamed:
    email: str


@dataclass(frozen=True)
class Left:
    pass


Event = Registered | Moved | Renamed | Left
TYPES = EventTypes[Event](Registered, Moved, Renamed, Left)
INDEX = {"email": Column(is_unique=True, normalise=str.casefold), "city": plain}


class User(Aggregate[Event]):
    email: str | None = None
    city: str | None = None

    @classmethod
    def register(cls, email: str, city: str) -> User:
        user = cls()
        user.record(Registered(email, city))
        return user

    def apply(self, event: Event) -> None:
        match event:
            case Registered(email, city):
                self.email, self.city = email, city
            case Moved(city):
                self.city = city
            case Renamed(email):
                self.email = email
            case Left():
                self.email = self.city = None


def users_of(store: EventStore, **options: Any) -> Repository[User]:
    return Repository(store, "user", User, TYPES, index=INDEX, **options)


@pytest.fixture
def users(store: EventStore) -> Repository[User]:
    return users_of(store)


async def ids(users: Repository[User], city: str, **asked: Any) -> list[str | None]:
    return [user.aggregate_id for user in await users.list_by("city", city, **asked)]


@everywhere
async def test_what_was_saved_before_there_was_an_index_can_be_loaded_and_repaired(
    store: EventStore, users: Repository[User]
) -> None:
    without: Repository[User] = Repository(store, "user", User, TYPES)
    await without.add("1", User.register("", "Paris"))
    user = await users.load("1")
    assert user.email == ""
    user.record(Moved("Rome"))
    with pytest.raises(InvalidArgumentError, match="'email' of 'user' is empty"):
        await users.save(user)
    user.record(Renamed("ada@example.org"))
    await users.save(user)
    found = await users.find_by("email", "ada@example.org")
    assert found is not None
    assert found.city == "Rome"


@everywhere
async def test_aggregates_are_found_by_their_columns(users: Repository[User]) -> None:
    await users.add("1", User.register("Ada@example.org", "Paris"))
    await users.add("2", User.register("bob@example.org", "Rome/%"))
    await users.add("3", User.register("eve@example.org", "Paris"))
    found = await users.find_by("email", "ada@EXAMPLE.org")
    assert found is not None
    assert found.aggregate_id == "1"
    assert await users.find_by("email", "nobody@example.org") is None
    assert await ids(users, "Paris") == ["1", "3"]
    assert await ids(users, "Rome/%") == ["2"]
    assert await ids(users, "Par") == []


@everywhere
async def test_a_value_that_changes_takes_its_place(users: Repository[User]) -> None:
    await users.add("1", User.register("ada@example.org", "Paris"))
    user = await users.load("1")
    user.record(Moved("Rome"))
    user.record(Renamed("ada@example.com"))
    await users.save(user)
    assert (await ids(users, "Paris"), await ids(users, "Rome")) == ([], ["1"])
    assert await users.find_by("email", "ada@example.org") is None
    user.record(Moved("Paris"))  # the same object again
    await users.save(user)
    assert (await ids(users, "Paris"), await ids(users, "Rome")) == (["1"], [])
    user.record(Left())
    await users.save(user)
    assert (await ids(users, "Paris"), await users.find_by("email", "ada@example.com")) == (
        [],
        None,
    )
    await users.add("2", User.register("ada@example.com", "Paris"))
    assert await ids(users, "Paris") == ["2"]


@everywhere
async def test_a_value_that_is_taken_names_column_value_and_owner(
    users: Repository[User], store: EventStore
) -> None:
    await users.add("1", User.register("ada@example.org", "Paris"))
    with pytest.raises(DuplicateKeyError, match=r"user\.email: 'ada@example.org' is") as caught:
        await users.add("2", User.register("ADA@example.org", "Oslo"))
    assert (caught.value.name, caught.value.key, caught.value.owner) == (
        "user.email",
        "ada@example.org",
        "1",
    )
    assert not (await store.read("user-2")).exists
    assert await ids(users, "Oslo") == []


@everywhere
async def test_pages_by_id(users: Repository[User]) -> None:
    for number in range(7):
        await users.add(f"u-{number}", User.register(f"{number}@example.org", "Paris"))
    first = await ids(users, "Paris", max_count=3)
    assert first == ["u-0", "u-1", "u-2"]
    assert await ids(users, "Paris", max_count=3, after=first[-1]) == ["u-3", "u-4", "u-5"]
    assert await ids(users, "Paris", max_count=3, after="u-5") == ["u-6"]
    assert await ids(users, "Paris", max_count=0) == []


@everywhere
async def test_of_rivals_one_has_the_value(users: Repository[User], store: EventStore) -> None:
    taken: list[DuplicateKeyError] = []

    async def register(number: int) -> None:
        try:
            await users.add(str(number), User.register("ada@example.org", "Paris"))
        except DuplicateKeyError as exc:
            taken.append(exc)

    async with no_hang(), anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(register, number)
    assert len(taken) == 5
    owner = await users.find_by("email", "ada@example.org")
    assert owner is not None
    assert {error.owner for error in taken} == {owner.aggregate_id}
    assert await ids(users, "Paris") == [owner.aggregate_id]
    there = [number for number in range(6) if (await store.read(f"user-{number}")).exists]
    assert [str(number) for number in there] == [owner.aggregate_id]


@everywhere
async def test_a_unit_of_work_keeps_columns_and_can_swap(
    users: Repository[User], store: EventStore
) -> None:
    async with users.unit_of_work() as work:
        work.add("1", User.register("ada@example.org", "Paris"))
        work.add("2", User.register("bob@example.org", "Rome"))

    async def swap(session: Any) -> None:
        async with users.unit_of_work(session) as work:
            first, second = await work.load_many(["1", "2"])
            first.record(Renamed("bob@example.org"))
            second.record(Renamed("ada@example.org"))

    await run_in_session(store, swap)
    found = await users.find_by("email", "ada@example.org")
    assert found is not None
    assert found.aggregate_id == "2"


@everywhere
async def test_a_stale_aggregate_changes_no_column(users: Repository[User]) -> None:
    await users.add("1", User.register("ada@example.org", "Paris"))
    stale = await users.load("1")
    user = await users.load("1")
    user.record(Moved("Rome"))
    await users.save(user)
    stale.record(Moved("Oslo"))
    with pytest.raises(ConcurrencyError):
        await users.save(stale)
    assert (await ids(users, "Rome"), await ids(users, "Oslo")) == (["1"], [])


@everywhere
async def test_what_was_saved_without_the_index_is_added(
    users: Repository[User], store: EventStore
) -> None:
    without = Repository(store, "user", User, TYPES)
    await without.add("1", User.register("ada@example.org", "Paris"))
    await without.add("2", User.register("ada@example.org", "Rome"))
    assert await ids(users, "Paris") == []
    await users.reindex(["1"])
    await users.reindex(["1"])
    assert await ids(users, "Paris") == ["1"]
    with pytest.raises(DuplicateKeyError):
        await users.reindex(["2"])
    assert await ids(users, "Rome") == []


@everywhere
async def test_a_save_that_is_repeated_changes_nothing_more(
    users: Repository[User], store: EventStore
) -> None:
    user = User.register("ada@example.org", "Paris")
    await users.add("1", user)
    tracking = user.aggregate_tracking
    user.record(Moved("Rome"))
    unanswered = user.aggregate_tracking
    await users.save(user)
    position = (await store.read_all(max_count=1000)).position
    user.aggregate_tracking = unanswered  # as if the answer had been lost
    await users.save(user)
    assert (await store.read_all(max_count=1000)).position == position
    assert tracking.version == 1
    assert await ids(users, "Rome") == ["1"]


async def test_states_of_folds_have_columns() -> None:
    @dataclass
    class State:
        city: str | None = None

    def evolve(_: State, event: Event) -> State:
        return State(event.city if isinstance(event, Moved) else None)

    async with connect("memory://") as store:
        fold = Fold[State, Event](TYPES, State, evolve)
        people = Repository.of_fold(store, "person", fold, index={"city": plain})
        async with people.unit_of_work() as work:
            added = await _new(people)
            added.record(Moved("Paris"))
            work.add("1", added)
        assert [one.aggregate_id for one in await people.list_by("city", "Paris")] == ["1"]


async def _new(people: Repository[Any]) -> Any:
    from eventport.aggregates import Folded  # noqa: PLC0415  # only here

    return Folded(people.fold)


async def test_mistakes_are_explained() -> None:
    async with connect("memory://") as store:
        users = users_of(store)
        for wrong, what in (
            (users.find_by("name", "x"), "there is no column 'name'"),
            (users.find_by("city", "x"), "is not unique: list_by"),
            (users.list_by("email", "x"), "is unique: find_by"),
            (users.find_by("email", ""), "is empty"),
        ):
            with pytest.raises(InvalidArgumentError, match=what):
                await wrong
        number: Any = User.register("a", "b")
        number.city = 5
        with pytest.raises(InvalidArgumentError, match="column 'city' of 'user' must be text"):
            await users.add("1", number)
        with pytest.raises(InvalidArgumentError, match="too long together"):
            await users.add("2", User.register("a", "x" * 600))
        assert await store.streams() == []


async def test_without_sessions_it_is_refused(store: EventStore) -> None:
    users = Repository(store, "user", User, TYPES, index={"email": unique})
    if Capability.SESSIONS in store.capabilities:
        await users.add("1", User.register("ada@example.org", "Paris"))
        found = await users.find_by("email", "ada@example.org")
        assert found is not None
        await store.append("other", [NewEvent("Happened", 1)])
    else:
        with pytest.raises(NotSupportedError):
            await users.add("1", User.register("ada@example.org", "Paris"))
        assert not (await store.read("user-1")).exists
