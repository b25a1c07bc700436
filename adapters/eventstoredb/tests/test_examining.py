"""What the doctor says of EventStoreDB and KurrentDB."""

from __future__ import annotations

import pytest

from adapters.eventstoredb.tests.double.state import Double

from eventport.diagnosis import diagnose, ready

from eventport_eventstoredb import EventStoreDBEventStore
from eventport_eventstoredb.examining import examine
from eventport_eventstoredb.vendor import Connector


async def test_a_server_on_this_host_is_well(double: Double, store: EventStoreDBEventStore) -> None:
    await ready(store)
    found = await diagnose(store)
    assert found.is_well
    topics = {one.topic for one in found.remarks}
    assert topics == {"versions", "capabilities", "server", "durability"}


async def test_reads_of_followers_are_reported(double: Double) -> None:
    url = f"{double.uri}&nodePreference=follower"
    async with await EventStoreDBEventStore.connect(url) as store:
        (wrong,) = (one for one in (await diagnose(store)).remarks if one.level != "info")
    assert (wrong.level, wrong.topic) == ("warning", "reads")


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("esdb://db.example:2113?tls=false", True),
        ("esdb://localhost:2113,db.example:2113?tls=false", True),
        ("esdb://ada:secret@db.example:2113", False),
        ("esdb://127.0.0.1:2113?tls=false", False),
    ],
)
def test_a_connection_that_others_can_read_is_reported(*, url: str, warned: bool) -> None:
    found = examine(Connector.to(url), None)
    assert [one.topic for one in found if one.level == "warning"] == ["encryption"] * warned
