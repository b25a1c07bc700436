"""A key has at most one owner, even if tasks claim, move, swap and release it at the same time."""

from __future__ import annotations

import hashlib
import hmac
import pickle

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import permutations

import anyio
import anyio.lowlevel
import pytest

from tests.toolkit.backends import BACKENDS, WITH_SESSIONS, OpenStore

from eventport import (
    Capability,
    ConcurrencyError,
    CorruptEventError,
    EventStore,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    NewEvent,
    NotSupportedError,
    Session,
    run_in_session,
)
from eventport.keys import DuplicateKeyError, UniqueKeys

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


EMAILS = UniqueKeys("email", normalise=str.casefold)
ADA = "ada@example.org"
BOB = "bob@example.org"

with_sessions = pytest.mark.parametrize("backend", WITH_SESSIONS)
without_sessions = pytest.mark.parametrize("backend", sorted(BACKENDS.keys() - set(WITH_SESSIONS)))


async def give(store: EventStore, value: str, owner: str, keys: UniqueKeys = EMAILS) -> None:
    async with store.session() as session:
        await keys.claim(session, value, owner)


async def types(store: EventStore, value: str, keys: UniqueKeys = EMAILS) -> list[str]:
    events = (await store.read(keys.stream(keys.key(value)))).events
    return [event.type.removeprefix("eventport.Key") for event in events]


@with_sessions
async def test_a_key_is_claimed_in_the_commit_of_the_events(store: EventStore) -> None:
    async with store.session() as session:
        await EMAILS.claim(session, ADA, "user-1")
        await session.append("user-1", [NewEvent("Registered", {})])
        assert await EMAILS.find_by(session, ADA) == "user-1"
        assert await EMAILS.find_by(store, ADA) is None
    assert await EMAILS.find_by(store, ADA) == "user-1"
    assert await EMAILS.find_by(store, BOB) is None
    events = (await store.read(f"eventport/key/email/{ADA}")).events
    assert [(event.type, event.data) for event in events] == [
        ("eventport.KeyClaimed", {"name": "email", "key": ADA, "owner": "user-1"})
    ]


@with_sessions
async def test_a_key_of_another_owner_is_refused_and_nothing_is_written(store: EventStore) -> None:
    await give(store, ADA, "user-1")
    with pytest.raises(DuplicateKeyError) as caught:  # noqa: PT012  # the block is what is tested
        async with store.session() as session:
            await session.append("user-2", [NewEvent("Registered", {})])
            await EMAILS.claim(session, ADA, "user-2")
    assert (caught.value.name, caught.value.key, caught.value.owner) == ("email", ADA, "user-1")
    assert str(caught.value) == "email: 'ada@example.org' is taken: it belongs to 'user-1'"
    assert not (await store.read("user-2")).exists


@with_sessions
async def test_a_key_is_moved_in_one_commit(store: EventStore) -> None:
    await give(store, ADA, "user-1")
    async with store.session() as session:
        await EMAILS.move(session, ADA, BOB, "user-1")
    assert await EMAILS.find_by(store, ADA) is None
    assert await EMAILS.find_by(store, BOB) == "user-1"
    await give(store, ADA, "user-2")
    with pytest.raises(DuplicateKeyError, match="belongs to 'user-2'"):
        async with store.session() as session:
            await EMAILS.move(session, BOB, ADA, "user-1")
    assert await EMAILS.find_by(store, BOB) == "user-1"


async def test_a_key_is_released_and_claimed_by_another(store: EventStore) -> None:
    await give(store, ADA, "user-1")
    async with store.session() as session:
        await EMAILS.release(session, ADA, "user-1")
    assert await EMAILS.find_by(store, ADA) is None
    await give(store, ADA, "user-2")
    assert await EMAILS.find_by(store, ADA) == "user-2"
    assert await types(store, ADA) == ["Claimed", "Released", "Claimed"]


async def test_what_is_so_already_is_not_written_again(store: EventStore) -> None:
    await give(store, ADA, "user-1")
    await give(store, ADA, "user-1")
    async with store.session() as session:
        await EMAILS.move(session, ADA, ADA.upper(), "user-1")
        await EMAILS.release(session, ADA, "user-2")  # it belongs to another owner
        await EMAILS.release(session, BOB, "user-1")  # nobody's
    assert await types(store, ADA) == ["Claimed"]
    assert await types(store, BOB) == []


async def test_a_key_that_is_claimed_and_released_in_one_session_is_free(store: EventStore) -> None:
    async with store.session() as session:
        await EMAILS.claim(session, ADA, "user-1")
        await EMAILS.release(session, ADA, "user-1")
        await EMAILS.claim(session, ADA, "user-2")
        with pytest.raises(DuplicateKeyError, match="belongs to 'user-2'"):
            await EMAILS.claim(session, ADA, "user-1")
    assert await EMAILS.find_by(store, ADA) == "user-2"


async def test_values_are_compared_as_they_are_normalised(store: EventStore) -> None:
    await give(store, "ADA@example.org", "user-1")
    assert await EMAILS.find_by(store, "ada@Example.Org") == "user-1"
    with pytest.raises(DuplicateKeyError):
        await give(store, ADA, "user-2")


async def test_keys_of_another_name_are_others(store: EventStore) -> None:
    await give(store, ADA, "user-1")
    logins = UniqueKeys("login")
    await give(store, ADA, "user-2", logins)
    assert await EMAILS.find_by(store, ADA) == "user-1"
    assert await logins.find_by(store, ADA) == "user-2"


@pytest.mark.parametrize("value", ["a/b", "a%2f", "a~b", "a\tb", "ä" * 2000, "ä" * 1999 + "b"])
async def test_any_text_is_a_value_of_its_own(store: EventStore, value: str) -> None:
    await give(store, value, "user-1")
    assert await EMAILS.find_by(store, value) == "user-1"
    assert await EMAILS.find_by(store, value + "b") is None
    events = (await store.read(EMAILS.stream(EMAILS.key(value)))).events
    assert events[0].data["key"] == value


@with_sessions
async def test_of_fifty_tasks_that_claim_one_key_one_wins(open_store: OpenStore) -> None:
    won: list[str] = []
    lost: list[DuplicateKeyError] = []

    async def register(store: EventStore, owner: str) -> None:
        async def claim(session: Session) -> None:
            await session.append(owner, [NewEvent("Registered", {})])
            await anyio.lowlevel.checkpoint()
            await EMAILS.claim(session, ADA, owner)

        try:
            await run_in_session(store, claim)
            won.append(owner)
        except DuplicateKeyError as error:
            lost.append(error)

    with no_hang():
        async with open_store() as one, open_store() as other:
            async with anyio.create_task_group() as group:
                for number in range(50):
                    store = one if number % 2 else other
                    group.start_soon(register, store, f"user-{number}")
            assert len(won) == 1
            assert {error.owner for error in lost} == {won[0]}
            assert len(lost) == 49
            assert await EMAILS.find_by(one, ADA) == won[0]
            assert await types(one, ADA) == ["Claimed"]
            users = [f"user-{number}" for number in range(50)]
            assert [user for user in users if (await one.read(user)).exists] == won


@with_sessions
async def test_two_owners_swap_their_keys_in_any_order(store: EventStore) -> None:
    users = {"user-1": ADA, "user-2": BOB}
    for user, email in users.items():
        await give(store, email, user)
    steps = [("claim", user) for user in users] + [("release", user) for user in users]
    for order in permutations(steps):
        async with store.session() as session, EMAILS.changes(session) as changes:
            for step, user in order:
                if step == "release":
                    changes.release(users[user], user)
                else:
                    (other,) = users.keys() - {user}
                    changes.claim(users[other], user)
        users = dict(zip(users, reversed(list(users.values())), strict=True))
        assert await EMAILS.find_by(store, ADA) == next(u for u in users if users[u] == ADA)
        assert await EMAILS.find_by(store, BOB) == next(u for u in users if users[u] == BOB)


@with_sessions
async def test_two_moves_swap_keys_too(store: EventStore) -> None:
    await give(store, ADA, "user-1")
    await give(store, BOB, "user-2")
    async with store.session() as session, EMAILS.changes(session) as changes:
        changes.move(ADA, BOB, "user-1")
        changes.move(BOB, ADA, "user-2")
    assert await EMAILS.find_by(store, ADA) == "user-2"
    assert await EMAILS.find_by(store, BOB) == "user-1"


@with_sessions
async def test_swaps_at_the_same_time_lose_and_double_no_key(store: EventStore) -> None:
    users = ("user-1", "user-2")
    for user, email in zip(users, (ADA, BOB), strict=True):
        await give(store, email, user)
        await store.append(user, [NewEvent("Registered", {"email": email})])

    async def swap(session: Session) -> None:
        emails = [
            (await session.read(user, backwards=True, max_count=1)).events[0].data["email"]
            for user in users
        ]
        async with EMAILS.changes(session) as changes:
            for user, old, new in zip(users, emails, reversed(emails), strict=True):
                changes.move(old, new, user)
                await session.append(user, [NewEvent("EmailChanged", {"email": new})])

    async def swap_five_times() -> None:
        left = 5
        while left:
            # What a session reads of two users may be of two moments, with a rival's swap between
            # them: then the key that it would claim is taken, and it looks again.
            with suppress(DuplicateKeyError):
                await run_in_session(store, swap, attempts=1_000)
                left -= 1

    with no_hang():
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(swap_five_times)
    assert await EMAILS.find_by(store, ADA) == "user-2"
    assert await EMAILS.find_by(store, BOB) == "user-1"
    assert len(await types(store, ADA)) == 1 + 2 * 15


@with_sessions
async def test_changes_are_made_together_or_not_at_all(store: EventStore) -> None:
    await give(store, ADA, "user-1")
    async with store.session() as session:
        with pytest.raises(DuplicateKeyError):  # noqa: PT012  # as above
            async with EMAILS.changes(session) as changes:
                changes.claim(BOB, "user-2")
                changes.claim(ADA, "user-2")
        with pytest.raises(DuplicateKeyError, match="belongs to 'user-3'"):  # noqa: PT012  # as above
            async with EMAILS.changes(session) as changes:
                changes.claim(BOB, "user-3")
                changes.claim(BOB, "user-4")
        with pytest.raises(RuntimeError):  # noqa: PT012  # as above
            async with EMAILS.changes(session) as changes:
                changes.claim(BOB, "user-5")
                raise RuntimeError
        await session.append("user-9", [NewEvent("Registered", {})])
    assert await EMAILS.find_by(store, BOB) is None
    assert (await store.read("user-9")).exists


async def test_without_a_retry_the_loser_has_a_conflict(store: EventStore) -> None:
    with pytest.raises(ConcurrencyError):  # noqa: PT012  # as above
        async with store.session() as session:
            await EMAILS.claim(session, ADA, "user-1")
            await give(store, ADA, "user-2")
    assert await EMAILS.find_by(store, ADA) == "user-2"


async def claim(session: Session) -> None:
    await EMAILS.claim(session, ADA, "user-1")


async def register(session: Session) -> None:
    await session.append("user-1", [NewEvent("Registered", {})])


@without_sessions
@pytest.mark.parametrize("steps", [(claim, register), (register, claim)])
async def test_without_sessions_it_is_refused_and_nothing_is_written(
    store: EventStore, steps: Sequence[Callable[[Session], Awaitable[None]]]
) -> None:
    async def take(session: Session) -> None:
        for step in steps:
            await step(session)

    assert Capability.SESSIONS not in store.capabilities
    with pytest.raises(NotSupportedError, match="several streams in one commit take KurrentDB"):
        await run_in_session(store, take)
    assert (await store.read_all()).events == []


@pytest.mark.parametrize(
    ("keys", "digest"),
    [
        (
            UniqueKeys("email", normalise=str.casefold, hashed=True),
            hashlib.sha256(ADA.encode()).hexdigest(),
        ),
        (
            UniqueKeys("email", normalise=str.casefold, secret=b"pepper"),
            hmac.new(b"pepper", ADA.encode(), "sha256").hexdigest(),
        ),
    ],
    ids=["hashed", "with-secret"],
)
async def test_a_hashed_value_is_stored_nowhere(
    store: EventStore, keys: UniqueKeys, digest: str
) -> None:
    await give(store, ADA.upper(), "user-1", keys)
    assert await keys.find_by(store, ADA) == "user-1"
    assert await EMAILS.find_by(store, ADA) is None
    with pytest.raises(DuplicateKeyError) as caught:
        await give(store, ADA, "user-2", keys)
    async with store.session() as session:
        await keys.release(session, ADA, "user-1")
    events = (await store.read_all()).events
    assert [event.stream for event in events] == [f"eventport/key/email/{digest}"] * 2
    assert "example" not in repr(events).casefold()
    assert caught.value.key == ADA
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert "example" not in (str(error) + repr(error)).casefold()
        assert "belongs to 'user-1'" in str(error)


async def test_a_stream_that_is_no_keys_any_more_is_not_taken_for_free(store: EventStore) -> None:
    await give(store, ADA, "user-1")
    await store.append(EMAILS.stream(ADA), [NewEvent("eventport.Surprise", {})])
    with pytest.raises(CorruptEventError, match="is no eventport\\.KeyClaimed"):
        await EMAILS.find_by(store, ADA)


async def test_bad_arguments_are_named_with_the_remedy() -> None:
    async with MemoryEventStore() as store, store.session() as session:
        with pytest.raises(InvalidArgumentTypeError, match="must be text, not 7 "):
            await EMAILS.claim(session, 7, "user-1")  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentTypeError, match="owner of a key must be text, not None"):
            await EMAILS.claim(session, ADA, None)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="is empty"):
            await UniqueKeys("login", normalise=str.strip).claim(session, "  ", "user-1")
    with pytest.raises(InvalidArgumentError, match="could be guessed"):
        UniqueKeys("email", secret=b"")
