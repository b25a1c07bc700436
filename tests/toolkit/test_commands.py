"""A command is decided on the newest state and applied once, whatever others write."""

from __future__ import annotations

import os

from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast
from uuid import UUID, uuid4

import anyio
import pytest

from tests.toolkit.accounts import (
    ACCOUNT,
    TYPES,
    AccountCommand,
    AccountEvent,
    Deposit,
    Deposited,
    Emptied,
    Meddling,
    NotEnoughMoneyError,
    Withdraw,
    Withdrawn,
    accounts,
    data,
    evolve,
)
from tests.toolkit.backends import OpenStore

from eventport import (
    ConcurrencyError,
    EventStore,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidStreamNameError,
    turns,
)
from eventport.commands import CommandHandler, CommandResult, Decider
from eventport.context import CAUSATION_ID, COMMAND_ID, CORRELATION_ID, bind_context, reacting_to
from eventport.folding import replay
from eventport.typed import UnknownEventTypeError

from eventport_conformance.waiting import HANG_SECONDS, no_hang


MANY = int(os.environ.get("EVENTPORT_TEST_COMMANDS", "0"))
"""How many commands race on each backend; 0 for as many as it does in a few seconds."""


# Deciding and writing.


async def test_what_is_decided_is_appended(store: EventStore) -> None:
    handler = accounts(store)
    first = await handler.handle("account-1", Deposit(70))
    assert (first.status, first.state, first.version) == ("executed", 70, 1)
    second = await handler.handle("account-1", Withdraw(70))
    assert (second.status, second.state, second.version) == ("executed", 0, 3)
    assert await data(store, "account-1") == [Deposited(70), Withdrawn(70), Emptied()]
    stored = (await store.read("account-1")).events
    assert [event.id for event in second.events] == [event.id for event in stored[1:]]
    assert second.position == stored[-1].position


async def test_nothing_decided_writes_nothing(store: EventStore) -> None:
    handler = accounts(store)
    handled = await handler.handle("account-1", Deposit(0), id=uuid4())
    assert handled == CommandResult("executed", 0, 0, (), None)
    assert not (await store.read("account-1")).exists


async def test_a_refused_command_writes_nothing_and_is_not_tried_again(store: EventStore) -> None:
    loader = Meddling(store, times=0)
    with pytest.raises(NotEnoughMoneyError):
        await accounts(store, loader=loader).handle("account-1", Withdraw(1))
    assert loader.loads == 1
    assert not (await store.read("account-1")).exists


async def test_after_a_conflict_it_is_decided_on_the_newer_state(store: EventStore) -> None:
    loader = Meddling(store, times=2)
    handled = await accounts(store, loader=loader).handle("account-1", Deposit(5))
    assert loader.seen == [0, 1000, 2000]
    assert (handled.status, handled.state, handled.version) == ("executed", 2005, 3)
    assert await data(store, "account-1") == [Deposited(1000), Deposited(1000), Deposited(5)]


async def test_the_last_conflict_is_raised(store: EventStore) -> None:
    loader = Meddling(store, times=3)
    with pytest.raises(ConcurrencyError):
        await accounts(store, loader=loader, attempts=3).handle("account-1", Deposit(5))
    assert loader.loads == 3
    assert await data(store, "account-1") == [Deposited(1000)] * 3


async def test_other_metadata_is_stored_too(store: EventStore) -> None:
    await accounts(store).handle("account-1", Deposit(1), metadata={"channel": "web"})
    (event,) = (await store.read("account-1")).events
    assert event.metadata["channel"] == "web"


# Once, however often it is delivered.


# In a session.


async def test_in_a_session_it_is_committed_with_the_rest(store: EventStore) -> None:
    handler = accounts(store)
    await handler.handle("account-1", Deposit(5))
    async with store.session() as session:
        await session.append("account-1", [TYPES.new(Deposited(2))])
        handled = await handler.handle("account-1", Deposit(1), session=session)
        assert (handled.state, handled.version, handled.position) == (8, 3, None)
        assert (await store.read("account-1")).version == 1
    assert await data(store, "account-1") == [Deposited(5), Deposited(2), Deposited(1)]


async def test_with_a_session_that_fails_nothing_is_written(store: EventStore) -> None:
    async def fail() -> None:
        async with store.session() as session:
            await accounts(store).handle("account-1", Deposit(5), session=session)
            raise NotEnoughMoneyError

    with pytest.raises(NotEnoughMoneyError):
        await fail()
    assert not (await store.read("account-1")).exists


# What it is due to.


async def ids(store: EventStore, stream: str) -> dict[str, Any]:
    metadata = (await store.read(stream)).events[-1].metadata
    return {key: metadata.get(key) for key in (CORRELATION_ID, CAUSATION_ID, COMMAND_ID)}


async def test_a_command_from_outside_begins_a_conversation(store: EventStore) -> None:
    id_ = uuid4()
    await accounts(store).handle("account-1", Deposit(5), id=id_)
    text = str(id_)
    assert await ids(store, "account-1") == {
        CORRELATION_ID: text,
        CAUSATION_ID: None,
        COMMAND_ID: text,
    }
    await accounts(store).handle("account-1", Deposit(5))
    found = await ids(store, "account-1")
    assert found[CORRELATION_ID] == found[COMMAND_ID] != text


async def test_events_say_what_they_are_due_to_through_calls_and_tasks(store: EventStore) -> None:
    handler = accounts(store)

    async def nested(stream: str) -> None:
        await handler.handle(stream, Deposit(5))

    async def request(name: str) -> None:
        with bind_context(correlation_id=name, causation_id=f"{name}-message"):
            await nested(f"{name}-1")
            async with anyio.create_task_group() as group:
                group.start_soon(nested, f"{name}-2")
                group.start_soon(nested, f"{name}-3")

    with no_hang():
        async with anyio.create_task_group() as group:
            for name in ("a", "b", "c"):
                group.start_soon(request, name)
    for name in ("a", "b", "c"):
        for number in (1, 2, 3):
            found = await ids(store, f"{name}-{number}")
            assert (found[CORRELATION_ID], found[CAUSATION_ID]) == (name, f"{name}-message")


async def test_a_reaction_has_the_event_as_its_cause_and_stays_in_its_conversation(
    store: EventStore,
) -> None:
    handler = accounts(store)
    with bind_context(correlation_id="request-1"):
        await handler.handle("account-1", Deposit(5))
    (first,) = (await store.read("account-1")).events
    with reacting_to(first):
        await handler.handle("account-2", Deposit(5))
    (second,) = (await store.read("account-2")).events
    with reacting_to(second):
        await handler.handle("account-3", Deposit(5))
    for stream, cause in (("account-2", first), ("account-3", second)):
        found = await ids(store, stream)
        assert (found[CORRELATION_ID], found[CAUSATION_ID]) == ("request-1", str(cause.id))


async def test_an_event_without_a_conversation_begins_one(store: EventStore) -> None:
    await store.append("account-1", [TYPES.new(Deposited(5))])
    (event,) = (await store.read("account-1")).events
    with reacting_to(event):
        await accounts(store).handle("account-2", Deposit(5))
    found = await ids(store, "account-2")
    assert found[CORRELATION_ID] == found[CAUSATION_ID] == str(event.id)


# Many at once.


async def test_no_update_is_lost_among_many_commands_at_once(
    open_store: OpenStore, backend: str
) -> None:
    """They come from several stores, as if from several processes, so that many conflict."""
    count = MANY or (200 if backend.startswith("eventstoredb") else 1000)
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_store()) for _ in range(3)]
        handlers = [accounts(store, attempts=1000) for store in stores]

        async def work(number: int) -> None:
            handler = handlers[number % len(handlers)]
            await handler.handle(f"account-{number % 10}", Deposit(number + 1), id=uuid4())

        with no_hang(seconds=5 * HANG_SECONDS):
            async with anyio.create_task_group() as group:
                for number in range(count):
                    group.start_soon(work, number)
        for account in range(10):
            loaded = await replay.load(stores[0], f"account-{account}", ACCOUNT.fold)
            amounts = range(account + 1, count + 1, 10)
            assert (loaded.version, loaded.state) == (len(amounts), sum(amounts))


async def test_commands_of_one_handler_on_one_stream_take_turns(store: EventStore) -> None:
    loader = Meddling(store, times=0)
    handler = accounts(store, loader=loader, attempts=1)
    with no_hang():
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(handler.handle, "account-1", Deposit(1))
    assert loader.seen == list(range(50))
    assert not turns._locks


# Bad input.


async def test_what_is_no_uuid_is_refused(store: EventStore) -> None:
    with pytest.raises(InvalidArgumentTypeError, match=r"id must be a uuid.UUID, not '1' \(str\)"):
        await accounts(store).handle("account-1", Deposit(5), id=cast("UUID", "1"))


async def test_names_and_metadata_that_cannot_be_are_refused(store: EventStore) -> None:
    handler = accounts(store)
    for name in ("", "$streams", cast("str", ["account-1"])):
        with pytest.raises(InvalidStreamNameError):
            await handler.handle(name, Deposit(5))
    with pytest.raises(InvalidArgumentTypeError, match="metadata must be a dict"):
        await handler.handle("account-1", Deposit(5), metadata=cast("dict[str, Any]", "web"))
    assert not (await store.read("account-1")).exists


async def test_a_decision_that_is_no_list_is_refused(store: EventStore) -> None:
    def forgets(command: AccountCommand, balance: int) -> Sequence[AccountEvent]:
        return cast("Sequence[AccountEvent]", None)

    decider = Decider(types=TYPES, initial=int, evolve=evolve, decide=forgets)
    with pytest.raises(InvalidArgumentTypeError, match="decide must return a list of events"):
        await CommandHandler(store, decider).handle("account-1", Deposit(5))


async def test_an_event_of_a_class_that_is_not_registered_is_refused(store: EventStore) -> None:
    def stray(command: AccountCommand, balance: int) -> Iterable[AccountEvent]:
        yield cast("AccountEvent", command)

    decider = Decider(types=TYPES, initial=int, evolve=evolve, decide=stray)
    with pytest.raises(
        UnknownEventTypeError, match="'Deposit'; registered: 'Deposited', 'Emptied'"
    ):
        await CommandHandler(store, decider).handle("account-1", Deposit(5))
    assert not (await store.read("account-1")).exists


@pytest.mark.parametrize("options", [{"attempts": 0}, {"lookback": 0}, {"attempts": True}])
async def test_counts_below_one_are_refused(store: EventStore, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=f"{next(iter(options))} must be"):
        accounts(store, **options)
