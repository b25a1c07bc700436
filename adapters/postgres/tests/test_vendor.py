"""The private parts of asyncpg that the store uses are there, and do what it relies on."""

from __future__ import annotations

import socket

import asyncpg

from eventport_postgres.keepalive import keep_alive
from eventport_postgres.vendor import behind_proxy, execute_plainly, socket_of


async def test_a_question_ignores_the_codecs_and_records_of_its_owner(url: str) -> None:
    class Own(asyncpg.Record):
        """Records of a program."""

    connection = await asyncpg.connect(url, record_class=Own)
    try:
        await connection.set_type_codec(
            "json", schema="pg_catalog", encoder=repr, decoder=lambda _: "decoded by its owner"
        )
        (row,) = await execute_plainly(connection, "SELECT $1::json", ['{"a": 1}'], 30)
        assert (type(row), row[0]) == (asyncpg.Record, '{"a": 1}')
    finally:
        await connection.close()


async def test_a_connection_of_a_pool_is_known_again(url: str) -> None:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        async with pool.acquire() as first:
            behind = behind_proxy(first)
        async with pool.acquire() as second:
            assert second is not first
            assert behind_proxy(second) is behind
    assert isinstance(behind, asyncpg.Connection)
    assert behind_proxy(behind) is behind


async def test_the_operating_system_watches_over_a_connection(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        found = socket_of(connection)
        assert found is not None
        keep_alive(connection)
        if found.family in {socket.AF_INET, socket.AF_INET6}:
            assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    finally:
        await connection.close()
