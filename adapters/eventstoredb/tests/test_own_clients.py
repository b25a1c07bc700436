"""A store like a client of the caller's: its settings, and a connection of the store's own."""

from __future__ import annotations

from typing import Any, Final

import pytest

from adapters.eventstoredb.tests.double.state import Double

from eventport import InvalidArgumentTypeError, NewEvent
from eventport.errors import StoreClosedError

from eventport_conformance.waiting import no_hang
from eventport_eventstoredb import EventStoreDBEventStore
from eventport_eventstoredb.vendor import Connector, load_library


LIBRARY: Final = load_library()


def client_of(double: Double, **settings: Any) -> Any:
    uri = (
        double.uri if LIBRARY.name == "kurrentdbclient" else double.uri.replace("kurrentdb", "esdb")
    )
    return LIBRARY.client(uri, **settings)


@pytest.mark.parametrize("connected", [False, True])
async def test_a_store_works_beside_its_client(double: Double, connected: bool) -> None:
    client = client_of(double)
    if connected:
        await client.connect()
    async with no_hang(), await EventStoreDBEventStore.open(client, timeout=20) as store:
        await store.append("a", [NewEvent("Happened", 1)])
        assert (await store.read("a")).version == 1
        assert str(double.uri.rpartition("/")[2].partition("?")[0]) in repr(store)
    await client.connect()
    found = await client.get_stream("a")
    assert [event.type for event in found] == ["Happened"]  # closing the store closed nothing here
    await client.close()


async def test_the_client_may_be_closed_meanwhile(double: Double) -> None:
    client = client_of(double)
    await client.connect()
    async with no_hang(), await EventStoreDBEventStore.open(client, timeout=20) as store:
        await client.close()
        await store.append("a", [NewEvent("Happened", 1)])
        assert (await store.read("a")).version == 1
    with pytest.raises(StoreClosedError):
        await store.read("a")


async def test_the_settings_of_the_client_are_taken(double: Double) -> None:
    client = client_of(double, root_certificates=b"roots")
    client.private_key, client.certificate_chain = b"key", b"chain"
    client.grpc_options += (("grpc.keepalive_time_ms", 4_000),)
    connector = Connector.like(client)
    own: Any = vars(connector)["_client"]
    assert own is not client
    assert own.root_certificates == b"roots"
    assert (own.private_key, own.certificate_chain) == (b"key", b"chain")
    assert ("grpc.keepalive_time_ms", 4_000) in own.grpc_options
    assert not any("subchannel" in name for name, _ in client.grpc_options)


@pytest.mark.parametrize("wrong", ["esdb://localhost:2113?tls=false", None, object()])
async def test_what_is_no_client_is_refused(wrong: Any) -> None:
    with pytest.raises(
        InvalidArgumentTypeError, match=f"client must be an {LIBRARY.client.__name__}"
    ):
        await EventStoreDBEventStore.open(wrong)
