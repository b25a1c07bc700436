"""The private parts of aiosqlite that the store uses are there, and do what it relies on."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

from collections.abc import Awaitable, Callable

import aiosqlite
import pytest

from eventport_sqlite.vendor import ThreadedConnection, call_in_thread, plain_of


class RefusedError(Exception):
    """What a check raises."""


def open_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:")


async def test_functions_run_in_the_thread_in_order_and_settle_their_futures() -> None:
    connection = ThreadedConnection(open_memory, lambda: None)
    async with connection:
        loop = asyncio.get_running_loop()
        threads: list[str] = []
        first: asyncio.Future[None] = loop.create_future()
        second: asyncio.Future[float] = loop.create_future()
        third: asyncio.Future[int] = loop.create_future()
        connection.post(first, lambda: threads.append(threading.current_thread().name))
        connection.post(second, lambda: 1 / 0)
        connection.post(third, lambda: len(threads))
        assert await third == 1
        assert threads != [threading.current_thread().name]
        assert first.done()
        with pytest.raises(ZeroDivisionError):
            await second
        assert isinstance(connection.plain, sqlite3.Connection)
    assert connection.plain is None


async def test_the_thread_does_not_keep_a_program_from_ending() -> None:
    connection = ThreadedConnection(open_memory, lambda: None)
    async with connection:
        running: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        connection.post(running, lambda: threading.current_thread().daemon)
        assert await running


async def test_every_method_is_checked() -> None:
    refuses = False

    def check() -> None:
        if refuses:
            raise RefusedError

    async with ThreadedConnection(open_memory, check) as connection:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: connection.execute("SELECT 1"),
            lambda: connection.executemany("SELECT ?", [(1,)]),
            lambda: connection.executescript("SELECT 1"),
            lambda: connection.execute_fetchall("SELECT 1"),
            lambda: connection.execute_insert("SELECT 1"),
            connection.cursor,
            connection.commit,
            connection.rollback,
        ]
        refuses = True
        for call in calls:
            with pytest.raises(RefusedError):
                await call()
        refuses = False


async def test_anybodys_connection_lends_its_thread_and_its_plain_connection() -> None:
    connection = aiosqlite.connect(":memory:")
    assert plain_of(connection) is None
    async with connection:
        plain = plain_of(connection)
        assert isinstance(plain, sqlite3.Connection)
        rows = await call_in_thread(connection, lambda: plain.execute("SELECT 7").fetchall())
        assert rows == [(7,)]
    assert plain_of(connection) is None
