"""The log knows of every event which command caused it, and never takes a command twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, cast
from uuid import UUID, uuid4

import anyio
import anyio.lowlevel
import pytest

from tests.toolkit.accounts import (
    ACCOUNT,
    TYPES,
    AccountCommand,
    AccountEvent,
    Deposit,
    Deposited,
    NotEnoughMoneyError,
    Withdraw,
)
from tests.toolkit.backends import BACKENDS, WITH_SESSIONS, OpenStore

from eventport import (
    ConcurrencyError,
    EventStore,
    InvalidArgumentError,
    InvalidEventError,
    NewEvent,
    NotSupportedError,
    RecordedEvent,
)
from eventport.callbacks import HookStore
from eventport.command_log import CommandLog, Recorded
from eventport.commands import CommandHandler, CommandIdReusedError, CommandResult
from eventport.context import bind_context, reacting_to
from eventport.toolkit_streams import is_toolkit_stream

from eventport_conformance.waiting import no_hang


with_sessions = pytest.mark.parametrize("backend", WITH_SESSIONS)
without_sessions = pytest.mark.parametrize("backend", sorted(BACKENDS.keys() - set(WITH_SESSIONS)))


def logged(store: EventStore, **options: Any) -> CommandHandler[int, AccountCommand, AccountEvent]:
    options.setdefault("log", CommandLog(store))
    return CommandHandler(store, ACCOUNT, **options)


async def by_user(log: CommandLog, user: str, **options: Any) -> list[Any]:
    return [record.data.data async for record in log.by_user(user, **options)]


@with_sessions
async def test_a_command_is_recorded_with_its_user_its_cause_and_its_events(
    store: EventStore,
) -> None:
    await store.append("account-0", [TYPES.new(Deposited(1))])
    await store.append("account-1", [TYPES.new(Deposited(7))])
    (cause,) = (await store.read("account-0")).events
    log, id_ = CommandLog(store), uuid4()
    with bind_context(user="ada", correlation_id="request-1"), reacting_to(cause):
        handled = await logged(store, log=log).handle("account-1", Withdraw(7), id=id_)
    (record,) = await log.records(id_)
    command = record.data
    assert (command.id, command.type, command.data) == (id_, "Withdraw", {"amount": 7})
    assert (command.user, command.causation_id) == ("ada", str(cause.id))
    assert command.correlation_id == str(cause.id)
    assert (command.stream, command.first_version) == ("account-1", 2)
    assert command.events == [event.id for event in handled.events]
    assert len(command.events) == 2


@with_sessions
async def test_all_of_it_is_one_commit(store: EventStore) -> None:
    assert isinstance(store, HookStore)
    commits: list[int] = []

    @store.after_commit
    async def count(events: Sequence[RecordedEvent]) -> None:
        commits.append(len(events))

    with bind_context(user="ada"):
        await logged(store).handle("account-1", Deposit(5), id=(id_ := uuid4()))
    events = (await store.read_all()).events
    assert [(event.stream, event.type) for event in events] == [
        ("account-1", "Deposited"),
        (f"eventport/command/{id_}", "eventport.CommandRecorded"),
        ("eventport/user/ada", "eventport.UserActed"),
        ("eventport/commands-of/account-1", "eventport.CommandListed"),
    ]
    assert commits == [4]


@with_sessions
async def test_what_is_asked_of_it(store: EventStore) -> None:
    log = CommandLog(store)
    handler = logged(store, log=log)
    ids = [uuid4() for _ in range(3)]
    with bind_context(user="ada"):
        await handler.handle("account-1", Deposit(5), id=ids[0])
        await handler.handle("account-1", Withdraw(5), id=ids[1])
    with bind_context(user="bob"):
        await handler.handle("account-2", Deposit(6), id=ids[2])
    await handler.handle("account-2", Deposit(7))

    events = (await store.read("account-1")).events
    found = [await log.command_of(event) for event in events]
    assert [record.data.id for record in found if record] == [ids[0], ids[1], ids[1]]
    assert await log.events_of(ids[0]) == events[:1]
    assert await log.events_of(ids[1]) == events[1:]
    assert await by_user(log, "ada") == [{"amount": 5}, {"amount": 5}]
    assert [record.data.id async for record in log.by_user("ada", backwards=True)] == ids[1::-1]
    assert await by_user(log, "bob") == [{"amount": 6}]
    assert await by_user(log, "eve") == []


@with_sessions
async def test_what_was_not_recorded_is_not_found(store: EventStore) -> None:
    log = CommandLog(store)
    await CommandHandler(store, ACCOUNT).handle("account-1", Deposit(5))
    await store.append("account-1", [TYPES.new(Deposited(1))])
    await store.append("account-1", [TYPES.new(Deposited(1), metadata={"command_id": "of others"})])
    for event in (await store.read("account-1")).events:
        assert await log.command_of(event) is None
    assert await log.records(uuid4()) == []
    assert await log.events_of(uuid4()) == []


@with_sessions
async def test_an_answer_takes_no_look_at_the_whole_store(store: EventStore) -> None:
    log = CommandLog(store)
    handler = logged(store, log=log)
    for number in range(20):
        with bind_context(user=f"user-{number}"):
            await handler.handle(f"account-{number}", Deposit(5), id=UUID(int=number))
    (event,) = (await store.read("account-7")).events

    class Watched:
        """The store, but it tells what is read of it."""

        capabilities = store.capabilities

        def __init__(self) -> None:
            self.read_streams: list[str] = []

        async def read(self, stream: str, **options: Any) -> Any:
            self.read_streams.append(stream)
            return await store.read(stream, **options)

        async def read_many(self, streams: Iterable[str]) -> Any:
            names = list(streams)
            self.read_streams += names
            return await store.read_many(names)

        def iterate(self, stream: str, **options: Any) -> Any:
            self.read_streams.append(stream)
            return store.iterate(stream, **options)

    watched = Watched()
    log = CommandLog(cast("EventStore", watched))
    assert await log.command_of(event)
    assert watched.read_streams == [f"eventport/command/{UUID(int=7)}"]
    watched.read_streams.clear()
    assert await log.events_of(UUID(int=7)) == [event]
    assert watched.read_streams == [f"eventport/command/{UUID(int=7)}", "account-7"]
    watched.read_streams.clear()
    assert await by_user(log, "user-7") == [{"amount": 5}]
    assert watched.read_streams == ["eventport/user/user-7", f"eventport/command/{UUID(int=7)}"]
    watched.read_streams.clear()
    assert [record.data.id async for record in log.of_stream("account-7")] == [UUID(int=7)]
    assert watched.read_streams == [
        "eventport/commands-of/account-7",
        f"eventport/command/{UUID(int=7)}",
    ]
    watched.read_streams.clear()
    assert [record async for record in log.caused_by(event)] == []
    assert watched.read_streams == [f"eventport/caused-by/{event.id}"]


@with_sessions
async def test_a_repeated_command_is_recognised_however_far_the_stream_has_moved_on(
    store: EventStore,
) -> None:
    handler, id_ = logged(store, lookback=1), uuid4()
    first = await handler.handle("account-1", Deposit(5), id=id_)
    await store.append("account-1", [TYPES.new(Deposited(1)) for _ in range(300)])
    again = await handler.handle("account-1", Deposit(5), id=id_)
    assert (again.status, again.state) == ("already applied", 305)
    assert again.events == first.events
    assert again.position == (await store.read("account-1")).events[0].position


@with_sessions
async def test_of_deliveries_at_the_same_time_one_is_recorded(
    open_store: OpenStore, store: EventStore
) -> None:
    id_, handled = uuid4(), list[CommandResult[int]]()

    async def deliver(place: EventStore) -> None:
        with bind_context(user="ada"):
            handled.append(await logged(place, attempts=20).handle("account-1", Deposit(5), id=id_))

    async with open_store() as other:
        with no_hang():
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(deliver, (store, other)[number % 2])
    assert sorted(one.status for one in handled) == ["already applied"] * 9 + ["executed"]
    assert (await store.read("account-1")).version == 1
    assert len(await CommandLog(store).records(id_)) == 1
    assert await by_user(CommandLog(store), "ada") == [{"amount": 5}]


@with_sessions
async def test_commands_of_one_user_at_the_same_time_are_all_listed(store: EventStore) -> None:
    handler = logged(store, attempts=100)

    async def work(number: int) -> None:
        with bind_context(user="ada"):
            await handler.handle(f"account-{number}", Deposit(number), id=uuid4())

    with no_hang():
        async with anyio.create_task_group() as group:
            for number in range(1, 11):
                group.start_soon(work, number)
    found = await by_user(CommandLog(store), "ada")
    assert sorted(command["amount"] for command in found) == list(range(1, 11))


@with_sessions
async def test_what_is_refused_leaves_no_record(store: EventStore) -> None:
    handler = logged(store)
    with bind_context(user="ada"), pytest.raises(NotEnoughMoneyError):
        await handler.handle("account-1", Withdraw(1), id=uuid4())
    assert (await store.read_all()).events == []


@with_sessions
async def test_a_conflict_leaves_no_record(store: EventStore) -> None:
    handler, id_ = logged(store), uuid4()
    with pytest.raises(ConcurrencyError):  # noqa: PT012  # the block is what is tested
        async with store.session() as session:
            await handler.handle("account-1", Deposit(5), id=id_, session=session)
            await store.append("account-1", [TYPES.new(Deposited(1))])
    assert await CommandLog(store).records(id_) == []
    assert (await store.read("account-1")).version == 1


@with_sessions
async def test_a_cancelled_command_is_there_with_its_record_or_not_at_all(
    store: EventStore,
) -> None:
    log = CommandLog(store)
    handler = logged(store, log=log)
    outcomes: list[bool] = []
    for pause in range(70):
        id_, stream = uuid4(), f"account-{pause}"
        with no_hang(), bind_context(user=stream):
            async with anyio.create_task_group() as group:
                group.start_soon(partial(handler.handle, stream, Deposit(5), id=id_))
                if pause < 30:
                    for _ in range(pause):
                        await anyio.lowlevel.checkpoint()
                else:
                    await anyio.sleep(0.001 * 1.2 ** (pause - 30))  # for what takes a while
                if pause < 69:  # the last one may take as long as it takes
                    group.cancel_scope.cancel()
        written = (await store.read(stream)).version == 1
        assert len(await log.records(id_)) == written
        assert len(await by_user(log, stream)) == written
        again = await handler.handle(stream, Deposit(5), id=id_)
        assert (again.status == "already applied", again.state) == (written, 5)
        outcomes.append(written)
        if outcomes[-3:] == [True] * 3:
            break
    assert set(outcomes) == {True, False}


@with_sessions
async def test_one_command_may_write_several_streams_in_one_session(store: EventStore) -> None:
    log, id_ = CommandLog(store), uuid4()
    handler = logged(store, log=log)
    for stream in ("account-1", "account-2"):
        await handler.handle(stream, Deposit(5))

    async def transfer() -> list[str]:
        with bind_context(user="ada"):
            async with store.session() as session:
                taken = await handler.handle("account-1", Withdraw(3), id=id_, session=session)
                given = await handler.handle("account-2", Deposit(3), id=id_, session=session)
                return [taken.status, given.status]

    assert await transfer() == ["executed", "executed"]
    assert await transfer() == ["already applied", "already applied"]
    records: list[Recorded] = await log.records(id_)
    assert [(record.data.stream, record.data.type) for record in records] == [
        ("account-1", "Withdraw"),
        ("account-2", "Deposit"),
    ]
    caused = await log.events_of(id_)
    assert [event.stream for event in caused] == ["account-1", "account-2"]
    found = [await log.command_of(event) for event in caused]
    assert found == records
    assert [record async for record in log.by_user("ada")] == records


@with_sessions
@pytest.mark.parametrize("options", [{"hashed": True}, {"secret": b"pepper"}])
async def test_users_are_hashed_on_request(store: EventStore, options: dict[str, Any]) -> None:
    log = CommandLog(store, **options)
    with bind_context(user="ada@example.org"):
        await logged(store, log=log).handle("account-1", Deposit(5))
    assert await by_user(log, "ada@example.org") == [{"amount": 5}]
    assert await by_user(CommandLog(store), "ada@example.org") == []
    assert await by_user(CommandLog(store, secret=b"salt"), "ada@example.org") == []
    for event in (await store.read_all()).events:
        assert "ada@" not in f"{event.stream} {event.data} {event.metadata}"


@with_sessions
async def test_a_name_of_any_kind_has_a_list(store: EventStore) -> None:
    log = CommandLog(store)
    users = ["a/b", "a%2Fb", "ä" * 400, "a\nb", "$ada"]
    for number, user in enumerate(users, 1):
        with bind_context(user=user):
            await logged(store, log=log).handle("account-1", Deposit(number))
    for number, user in enumerate(users, 1):
        assert await by_user(log, user) == [{"amount": number}]


@with_sessions
async def test_a_command_that_is_no_json_is_refused_and_nothing_is_written(
    store: EventStore,
) -> None:
    class Strange:
        pass

    async with store.session() as session:
        with pytest.raises(
            InvalidEventError, match=r"command .*Strange.*: Strange: cannot be encoded"
        ):
            await CommandLog(store).record(
                session, Strange(), uuid4(), "account-1", 1, [NewEvent("T", 1)]
            )
    assert (await store.read_all()).events == []


@with_sessions
async def test_a_command_that_would_not_come_back_is_refused_with_its_path(
    store: EventStore,
) -> None:
    wrong = Deposit(cast("int", "secret"))
    async with store.session() as session:
        with pytest.raises(InvalidEventError, match=r": Deposit\.amount: ") as caught:
            await CommandLog(store).record(
                session, wrong, uuid4(), "account-1", 1, [NewEvent("T", 1)]
            )
    assert "secret" not in str(caught.value)
    assert (await store.read_all()).events == []


@without_sessions
async def test_without_sessions_it_refuses_before_anything_is_written(store: EventStore) -> None:
    with pytest.raises(NotSupportedError, match="leave out the command log, or use a backend"):
        logged(store)
    assert not [event async for event in store.iterate_all() if is_toolkit_stream(event.stream)]


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="secret is empty"):
        CommandLog(cast("EventStore", None), secret=b"")


@with_sessions
async def test_another_command_under_the_same_id_is_refused(store: EventStore) -> None:
    handler, id_ = logged(store), uuid4()
    await handler.handle("account-1", Deposit(5), id=id_)
    with pytest.raises(CommandIdReusedError, match=str(id_)):
        await handler.handle("account-1", Deposit(6), id=id_)
    assert (await store.read("account-1")).version == 1
