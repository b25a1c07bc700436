"""What an action is due to follows calls and tasks, and nothing else, on asyncio and trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import cast
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest

from tests.toolkit.accounts import ACCOUNT, TYPES, Deposit, Deposited

from eventport import InvalidArgumentTypeError
from eventport.commands import CommandHandler
from eventport.context import Context, bind_context, current_context, reacting_to

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


def test_outside_of_all_blocks_there_is_nothing() -> None:
    assert current_context() == Context(None, None, None)
    assert current_context().metadata == {}


def test_a_block_changes_only_what_it_says_and_gives_it_back() -> None:
    with bind_context(user="ada", correlation_id="request-1"):
        with bind_context(causation_id="message-1") as inner:
            assert inner == current_context() == Context("request-1", "message-1", "ada")
        assert current_context() == Context("request-1", None, "ada")
        with suppress(ZeroDivisionError), bind_context(user="bob"):
            assert current_context().user == "bob"
            raise ZeroDivisionError
        assert current_context().user == "ada"
    assert current_context() == Context()


def test_each_id_stays_where_only_another_is_given() -> None:
    with bind_context(user="ada", correlation_id="request-1", causation_id="message-1"):
        for changed in (
            bind_context(user="bob"),
            bind_context(correlation_id="request-2"),
            bind_context(causation_id="message-2"),
        ):
            with changed as context:
                around = Context("request-1", "message-1", "ada")
                names = ("correlation_id", "causation_id", "user")
                assert sum(getattr(context, n) != getattr(around, n) for n in names) == 1


def test_ids_may_be_uuids() -> None:
    correlation, causation, user = uuid4(), uuid4(), uuid4()
    with bind_context(correlation_id=correlation, causation_id=causation, user=user) as context:
        assert context == Context(str(correlation), str(causation), str(user))


@pytest.mark.parametrize("name", ["user", "correlation_id", "causation_id"])
@pytest.mark.parametrize("value", ["", 7, b"ada"])
def test_what_cannot_be_an_id_is_refused(name: str, value: object) -> None:
    with (
        pytest.raises(InvalidArgumentTypeError, match=f"{name} must be"),
        bind_context(**{name: cast("str", value)}),
    ):
        pass


async def test_tasks_take_it_with_them_and_keep_theirs_apart() -> None:
    seen: dict[str, Context] = {}

    async def work(name: str) -> None:
        with bind_context(correlation_id=name):
            await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as group:
                group.start_soon(look, name)
            assert current_context().correlation_id == name

    async def look(name: str) -> None:
        await anyio.lowlevel.checkpoint()
        seen[name] = current_context()

    with no_hang(), bind_context(user="ada"):
        async with anyio.create_task_group() as group:
            for name in ("a", "b", "c"):
                group.start_soon(work, name)
    assert seen == {name: Context(name, None, "ada") for name in ("a", "b", "c")}


async def test_a_block_may_be_left_in_another_task_than_it_was_entered_in() -> None:
    """Frameworks end generators where they like: the error of a token must not hide others."""

    async def stream() -> AsyncGenerator[int, None]:
        with bind_context(tenant="t"):
            yield 1

    entered = stream()

    async def enter() -> None:
        assert await anext(entered) == 1

    async with anyio.create_task_group() as group:
        group.start_soon(enter)
    with bind_context(tenant="own"):
        await entered.aclose()
        assert current_context().metadata == {"tenant": "own"}
    assert current_context() == Context()


async def test_commands_are_handled_and_distinguished_on_every_event_loop() -> None:
    async with MemoryEventStore() as store:
        handler = CommandHandler(store, ACCOUNT)
        await store.append("account-0", [TYPES.new(Deposited(1))])
        (event,) = (await store.read("account-0")).events
        with no_hang(), reacting_to(event):
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(handler.handle, "account-1", Deposit(5))
        found = (await store.read("account-1")).events
        assert [event.metadata["causation_id"] for event in found] == [str(event.id)] * 20
