"""What others reported of these servers and their clients does not happen here.

The reports are of kurrent-io/KurrentDB, its clients for other languages, and the Python clients.
"""

from __future__ import annotations

import asyncio

import pytest

from adapters.eventstoredb.tests.at_servers import numbered, set_metadata
from adapters.eventstoredb.tests.double.database import Proposed
from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double
from adapters.eventstoredb.tests.test_cut_lines import proxy_to

from eventport import (
    ConcurrencyError,
    ConfigurationError,
    CorruptEventError,
    NewEvent,
    StoreUnavailableError,
)

from eventport_conformance.dropping import in_the_end
from eventport_conformance.proxy import Proxy
from eventport_conformance.waiting import no_hang
from eventport_eventstoredb import EventStoreDBEventStore


SECRET = "ada.lovelace@example.org"


async def test_a_thousand_appends_at_once_on_a_fresh_connection_end(
    double: Double, store: EventStoreDBEventStore
) -> None:
    """KurrentDB-Client-NodeJS issue 304: beyond 100 they hung for ever."""
    async with no_hang():
        await asyncio.gather(*(store.append(f"s{n}", [NewEvent("A", n)]) for n in range(1000)))
    assert len([event async for event in store.iterate_all()]) == 1000


async def test_the_deadline_holds_for_appends(double: Double) -> None:
    """bwatts/Totem pull 101: the clients' deadline is not applied to batch appends."""
    async with await EventStoreDBEventStore.connect(double.uri, timeout=1) as store:
        double.frozen.add("BatchAppend")
        async with no_hang():
            with pytest.raises(StoreUnavailableError, match="not known"):
                await store.append("a", numbered(1))
            read = await in_the_end("read", lambda: store.read("a"))  # a second may be too short
            assert read.events == []


async def test_a_truncated_stream_is_read_from_where_it_begins(
    double: Double, store: EventStoreDBEventStore
) -> None:
    """KurrentDB issue 2622: no events were returned."""
    await store.append("a", numbered(100))
    set_metadata(double, "a", '{"$tb": 80}')
    assert [event.version for event in (await store.read("a")).events] == list(range(81, 101))
    read = await store.read("a", from_version=10, max_count=5)
    assert [event.version for event in read.events] == [81, 82, 83, 84, 85][: len(read.events)]
    assert [event.version async for event in store.iterate("a")] == list(range(81, 101))


async def test_expected_versions_hold_on_a_truncated_stream(
    double: Double, store: EventStoreDBEventStore
) -> None:
    """Eventuous issue 469: the version was counted from the events that were left."""
    await store.append("a", numbered(4))
    set_metadata(double, "a", '{"$tb": 2}')
    version = (await store.read("a")).version
    assert (await store.append("a", numbered(1), expected=version)).version == 5
    with pytest.raises(ConcurrencyError):
        await store.append("a", numbered(1), expected=2)


async def test_several_events_bring_a_deleted_stream_back(
    double: Double, store: EventStoreDBEventStore
) -> None:
    """KurrentDB-Client-Dotnet issue 159 and KurrentDB issues 1744 and 4058."""
    await store.append("a", numbered(2))
    double.database.delete("a", -2)
    events = numbered(3)
    result = await store.append("a", events, expected=0)
    assert [event.version for event in (await store.read("a")).events] == [3, 4, 5]
    assert result.version == 5


async def test_a_subscription_outlives_the_server() -> None:
    """KurrentDB-Client-Java pull 311: the end of the server went unnoticed."""
    double = Double(version="23.10")
    async with no_hang():
        async with serve(double):
            store = await EventStoreDBEventStore.connect(double.uri)
            await store.append("a", numbered(1))
        async with store, store.subscribe() as subscription:
            waiting = asyncio.ensure_future(anext(subscription))
            await asyncio.sleep(0.2)
            async with serve(double):
                assert (await waiting).version == 1
                await store.append("a", numbered(1))
                assert (await anext(subscription)).version == 2
                await store.aclose()


async def fall_silent(proxy: Proxy) -> None:
    """Pass nothing more on over the connections of this moment, and close none of them."""
    proxy.silence()
    await proxy.heal()


async def test_a_silent_connection_is_a_lost_one(double: Double) -> None:
    """MemMachine pull 1552: a firewall forgets an idle connection, and neither side notices."""
    async with (
        no_hang(),
        proxy_to(double) as (proxy, url),
        await EventStoreDBEventStore.connect(url, timeout=4) as store,
    ):
        await store.append("a", numbered(2))
        await fall_silent(proxy)
        assert (await store.read("a")).version == 2
        await fall_silent(proxy)
        assert (await store.append("a", numbered(1), expected=2)).version == 3
        await fall_silent(proxy)
        assert (await store.append("b", numbered(1))).version == 1
        await fall_silent(proxy)
        await store.aclose()
    assert double.database.stream("b").head == 0


async def test_event_data_is_in_no_error_text(
    double: Double, store: EventStoreDBEventStore
) -> None:
    """pydantic issue 9139: errors quote the values that they are about."""
    event_id = "00000000-0000-0000-0000-000000000001"
    for stream, data, metadata in (
        ("a", f'{{"email": "{SECRET}"', b""),
        ("b", "{}", f'{{"email": "{SECRET}"'.encode()),
    ):
        event = Proposed(event_id, "T", "application/json", data.encode(), metadata)
        double.database.append(stream, -2, [event])
        with pytest.raises(CorruptEventError) as caught:
            await store.read(stream)
        assert SECRET not in f"{caught.value} {caught.value!r}"
    event = Proposed(event_id, "T", "application/json", SECRET.encode() + b"\xff", b"")
    double.database.append("c", -2, [event])
    with pytest.raises(CorruptEventError, match="event 1 of stream 'c'") as caught:
        await store.read("c")
    assert SECRET not in f"{caught.value} {caught.value!r}"
    assert "0xff" not in str(caught.value)


@pytest.mark.parametrize("password", ["Hunter2/x", "Hun?ter2", "Hunter#2", "Hun@ter2", "Hunter2:x"])
@pytest.mark.parametrize("scheme", ["esdb", "kurrentdb+discover", "kdb"])
async def test_no_part_of_a_password_is_shown(scheme: str, password: str) -> None:
    url = f"{scheme}://admin:{password}@127.0.0.1:1?tls=maybe&nonsense=1"
    with pytest.raises(ConfigurationError) as caught:
        await EventStoreDBEventStore.connect(url)
    text = f"{caught.value} {caught.value!r}"
    assert "Hun" not in text
    assert "ter2" not in text
