"""What the doctor says of a real server: one that stands alone, and a small replica set."""

from __future__ import annotations

from adapters.mongodb.tests.conftest import needs_mongod
from adapters.mongodb.tests.servers import new_database

from eventport.diagnosis import diagnose, ready

from eventport_mongodb import MongoDBEventStore


pytestmark = needs_mongod


async def test_a_server_that_stands_alone(standalone: str) -> None:
    async with new_database(standalone) as url, await MongoDBEventStore.connect(url) as store:
        await ready(store)
        found = await diagnose(store)
    (wrong,) = (one for one in found.remarks if one.level != "info")
    assert wrong.topic == "durability"
    assert "stands alone" in wrong.text
    assert "--replSet" in wrong.remedy
    lacking = [one.text for one in found.remarks if one.text.startswith("no ")]
    assert [text.partition(":")[0] for text in lacking] == ["no push", "no sessions"]


async def test_a_replica_set_of_one(store: MongoDBEventStore) -> None:
    await ready(store)
    found = await diagnose(store)
    (wrong,) = (one for one in found.remarks if one.level != "info")
    assert (wrong.level, wrong.topic) == ("warning", "durability")
    assert "has 1 members with data" in wrong.text
    topics = {one.topic for one in found.remarks}
    assert topics == {"versions", "capabilities", "server", "schema", "durability", "limits",
                      "clock"}  # fmt: skip
