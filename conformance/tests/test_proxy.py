"""The proxy passes bytes on, and drops, refuses and stalls on demand."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest

from anyio.abc import ByteStream, SocketAttribute, SocketStream

from eventport_conformance.proxy import Direction, Loss, Proxy, open_proxy
from eventport_conformance.waiting import no_hang, until


LOST = (anyio.EndOfStream, anyio.BrokenResourceError)


@asynccontextmanager
async def echo() -> AsyncGenerator[tuple[Proxy, list[bytes]], None]:
    """Put a proxy in front of a server that says everything twice, and notes what it hears."""
    heard: list[bytes] = []

    async def serve(stream: SocketStream) -> None:
        async with stream:
            with suppress(*LOST):
                while True:
                    heard.append(await stream.receive())
                    await stream.send(heard[-1] * 2)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    with no_hang():
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            port = listener.extra(SocketAttribute.local_port)
            async with open_proxy(("127.0.0.1", port)) as proxy:
                yield proxy, heard
                tasks.cancel_scope.cancel()


async def dial(proxy: Proxy) -> SocketStream:
    return await anyio.connect_tcp(proxy.host, proxy.port)


async def receive(stream: SocketStream, size: int) -> bytes:
    """Receive so many bytes, or as many as there are before the end."""
    data = b""
    try:
        while len(data) < size:
            data += await stream.receive()
    except LOST:
        pass
    return data


async def test_it_passes_bytes_on_and_counts_them() -> None:
    async with echo() as (proxy, heard), await dial(proxy) as line:
        await line.send(b"abc")
        assert await receive(line, 6) == b"abcabc"
        assert heard == [b"abc"]
        assert proxy.passed == {"to_server": 3, "to_client": 6}
        assert proxy.cuts == 0


@pytest.mark.parametrize("count", [0, 1, 2, 3])
async def test_it_cuts_a_request(count: int) -> None:
    async with echo() as (proxy, heard), await dial(proxy) as line:
        proxy.cut_after(count, "to_server")
        await line.send(b"abc")
        await receive(line, 100)
        await until(lambda: len(b"".join(heard)) >= count, "the server hears what was passed on")
        assert b"".join(heard) == b"abc"[:count]
        assert proxy.cuts == 1


@pytest.mark.parametrize("count", [0, 1, 5, 6])
async def test_it_cuts_an_answer(count: int) -> None:
    async with echo() as (proxy, heard), await dial(proxy) as line:
        proxy.cut_after(count, "to_client")
        await line.send(b"abc")
        assert await receive(line, 100) == b"abcabc"[:count]
        assert heard == [b"abc"]
        assert proxy.cuts == 1


async def test_it_cuts_once_and_all_lines() -> None:
    async with echo() as (proxy, _), await dial(proxy) as one, await dial(proxy) as two:
        await two.send(b"a")
        await receive(two, 2)
        proxy.cut_after(1, "to_server")
        await one.send(b"abc")
        assert await receive(two, 1) == b""
        async with await dial(proxy) as three:
            await three.send(b"abc")
            assert await receive(three, 6) == b"abcabc"


async def test_a_cut_that_was_taken_back_does_not_come() -> None:
    async with echo() as (proxy, _), await dial(proxy) as line:
        proxy.cut_after(2, "to_server")
        await proxy.heal()
        await line.send(b"abc")
        assert await receive(line, 6) == b"abcabc"


async def test_it_drops_all_lines() -> None:
    async with echo() as (proxy, _), await dial(proxy) as one, await dial(proxy) as two:
        for line in (one, two):
            await line.send(b"a")
            assert await receive(line, 2) == b"aa"
        proxy.drop()
        assert await receive(one, 1) == await receive(two, 1) == b""


async def test_it_drops_with_a_reset() -> None:
    async with echo() as (proxy, _), await dial(proxy) as line:
        await line.send(b"a")
        assert await receive(line, 2) == b"aa"
        proxy.drop(reset=True)
        with pytest.raises(anyio.BrokenResourceError):
            await line.receive()


@pytest.mark.parametrize("parts", [(b"abcMARKd",), (b"abcMA", b"RKd")])
@pytest.mark.parametrize("what", ["request", "answer"])
async def test_it_loses_a_request_or_its_answer(what: Loss, parts: tuple[bytes, ...]) -> None:
    async with echo() as (proxy, heard), await dial(proxy) as line, await dial(proxy) as other:
        proxy.lose(b"MARK", what, times=2)
        for part in parts[:-1]:
            await line.send(part)
            assert await receive(line, 2 * len(part)) == part * 2
        await line.send(parts[-1])
        assert await receive(line, 1) == b""
        assert (parts[-1] in heard) is (what == "answer")
        assert (proxy.cuts, proxy.losses_due) == (1, 1)
        await other.send(b"x")
        assert await receive(other, 2) == b"xx"


async def test_it_refuses_everything_after_a_loss() -> None:
    async with echo() as (proxy, _), await dial(proxy) as line, await dial(proxy) as other:
        proxy.lose(b"MARK", "answer", then_refuse=True)
        await line.send(b"MARK")
        assert await receive(line, 1) == await receive(other, 1) == b""
        with pytest.raises(OSError):
            await dial(proxy)
        await proxy.heal()
        async with await dial(proxy) as again:
            await again.send(b"MARK")
            assert await receive(again, 8) == b"MARKMARK"


async def test_it_falls_silent_and_closes_nothing() -> None:
    async with echo() as (proxy, heard), await dial(proxy) as line:
        await line.send(b"a")
        assert await receive(line, 2) == b"aa"
        proxy.silence()
        async with await dial(proxy) as another:
            await line.send(b"b")
            await another.send(b"c")
            for one in (line, another):
                with anyio.move_on_after(0.05) as scope:
                    await one.receive()
                assert scope.cancelled_caught
        await proxy.heal()
        async with await dial(proxy) as again:
            await again.send(b"d")
            assert await receive(again, 2) == b"dd"
        assert heard == [b"a", b"d"]


@pytest.mark.parametrize(("direction", "count"), [("to_server", 2), ("to_client", 3)])
async def test_it_falls_silent_after_some_bytes(direction: Direction, count: int) -> None:
    async with echo() as (proxy, heard), await dial(proxy) as line:
        proxy.silence_after(count, direction)
        await line.send(b"abc")
        expected = b"abab" if direction == "to_server" else b"abc"
        got = b"" if direction == "to_server" else await receive(line, 3)
        with anyio.move_on_after(0.05) as scope:
            await line.receive()
        assert scope.cancelled_caught
        await until(lambda: bool(heard), "the server hears what was passed on")
        assert b"".join(heard) == expected[:2] + (b"" if direction == "to_server" else b"c")
        assert got == (b"" if direction == "to_server" else b"abc")
        assert proxy.cuts == 0


async def test_it_silences_open_lines_alone() -> None:
    async with echo() as (proxy, heard), await dial(proxy) as line:
        await line.send(b"a")
        assert await receive(line, 2) == b"aa"
        proxy.silence(new=False)
        await line.send(b"b")
        async with await dial(proxy) as another:
            await another.send(b"c")
            assert await receive(another, 2) == b"cc"
        assert heard == [b"a", b"c"]


async def test_something_may_happen_before_an_answer_is_lost() -> None:
    async with echo() as (proxy, heard), await dial(proxy) as line, await dial(proxy) as other:
        seen: list[bytes] = []

        async def before() -> None:
            await other.send(b"x")
            seen.append(await receive(other, 2))
            proxy.drop()

        proxy.lose(b"MARK", "answer", before=before)
        await line.send(b"MARK")
        assert await receive(line, 1) == await receive(other, 1) == b""
        assert (seen, heard) == ([b"xx"], [b"MARK", b"x"])


async def test_it_edits_answers_and_counts_connections() -> None:
    async with echo() as (proxy, heard), await dial(proxy) as line, await dial(proxy) as other:
        proxy.edit_answer = bytes.upper
        for one in (line, other):
            await one.send(b"a")
            assert await receive(one, 2) == b"AA"
        assert heard == [b"a", b"a"]
        assert proxy.connections == 2


async def test_new_lines_may_lead_elsewhere() -> None:
    async with echo() as (there, heard), echo() as (proxy, first):
        proxy.target = (there.host, there.port)
        async with await dial(proxy) as line:
            await line.send(b"a")
            assert await receive(line, 2) == b"aa"
        assert (heard, first) == ([b"a"], [])


async def test_it_refuses_new_lines_and_keeps_the_old() -> None:
    async with echo() as (proxy, _), await dial(proxy) as line:
        await line.send(b"a")
        assert await receive(line, 2) == b"aa"
        port = proxy.port
        await proxy.refuse()
        with pytest.raises(OSError):
            await dial(proxy)
        await line.send(b"b")
        assert await receive(line, 2) == b"bb"
        await proxy.accept()
        assert proxy.port == port
        async with await dial(proxy) as again:
            await again.send(b"c")
            assert await receive(again, 2) == b"cc"


async def test_it_stalls_and_goes_on() -> None:
    async with echo() as (proxy, heard), await dial(proxy) as line:
        proxy.stall()
        await line.send(b"abc")
        with anyio.move_on_after(0.05) as scope:
            await receive(line, 1)
        assert scope.cancelled_caught
        assert not heard
        proxy.resume()
        assert await receive(line, 6) == b"abcabc"


async def test_without_a_server_a_line_ends() -> None:
    async with open_proxy(("127.0.0.1", 1)) as proxy, await dial(proxy) as line:
        with no_hang():
            assert await receive(line, 1) == b""


async def test_the_server_may_be_behind_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def serve(stream: ByteStream) -> None:
        async with stream:
            await stream.send(await stream.receive() * 2)

    with no_hang():
        async with (
            await anyio.create_unix_listener(path) as listener,
            open_proxy(path) as proxy,
            anyio.create_task_group() as tasks,
            await dial(proxy) as line,
        ):
            tasks.start_soon(listener.serve, serve)
            await line.send(b"abc")
            assert await receive(line, 6) == b"abcabc"
            tasks.cancel_scope.cancel()
