"""Nobody writes to the toolkit's streams by mistake, and what is forged there is not believed."""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

import pytest

from tests.toolkit.backends import OpenStore

from eventport import CorruptEventError, EventStore, InvalidStreamNameError, NewEvent
from eventport.command_log import CommandLog
from eventport.keys import UniqueKeys
from eventport.projections import ProjectionId, StreamCheckpoints
from eventport.snapshot_stores import StreamSnapshotStore


ID: Final = ProjectionId("orders", 1)
COMMAND: Final = uuid4()
SNAPSHOT: Final[dict[str, Any]] = {
    "stream": "order-2",
    "version": 1,
    "event_id": str(uuid4()),
    "schema": "1",
}


async def test_an_append_to_a_stream_of_the_toolkit_is_refused(store: EventStore) -> None:
    for stream in ("eventport/key/email/ada", "eventport/projection/orders/1"):
        with pytest.raises(InvalidStreamNameError, match="does not begin with 'eventport/'"):
            await store.append(stream, [NewEvent("OrderPlaced", {})])
        async with store.session() as session:
            with pytest.raises(InvalidStreamNameError, match="'OrderPlaced'"):
                await session.append(stream, [NewEvent("OrderPlaced", {})])
        assert not (await store.read(stream)).exists


@pytest.mark.parametrize(
    "event",
    [
        NewEvent("eventport.Other", {"name": "email", "key": "ada", "owner": "eve"}),
        NewEvent("eventport.KeyClaimed", {"owner": "eve"}),
        NewEvent("eventport.KeyClaimed", {"name": "email", "key": "ada", "owner": 7}),
        NewEvent("eventport.KeyClaimed", {"name": "email", "key": "bob", "owner": "eve"}),
        NewEvent("eventport.KeyReleased", b""),
    ],
    ids=["type", "fields", "kind", "key", "bytes"],
)
async def test_a_forged_key_is_not_believed(store: EventStore, event: NewEvent) -> None:
    keys = UniqueKeys("email")
    await store.append(keys.stream("ada"), [event])
    with pytest.raises(CorruptEventError, match="'eventport/key/email/ada' belongs to eventport"):
        await keys.find_by(store, "ada")


@pytest.mark.parametrize(
    "event",
    [
        NewEvent("eventport.Other", {"position": 7}),
        NewEvent("eventport.ProjectionCheckpoint", {"position": "7"}),
        NewEvent("eventport.ProjectionCheckpoint", [7]),
    ],
    ids=["type", "position", "list"],
)
async def test_a_forged_checkpoint_is_not_believed(store: EventStore, event: NewEvent) -> None:
    checkpoints = StreamCheckpoints(store)
    await store.append("eventport/projection/orders/1", [event])
    with pytest.raises(CorruptEventError):
        await checkpoints.load(ID)
    with pytest.raises(CorruptEventError):
        await checkpoints.acquire(ID, "one", 15)


async def test_forged_records_of_other_kinds_are_not_believed(store: EventStore) -> None:
    checkpoints = StreamCheckpoints(store)
    other = NewEvent("eventport.Other", {"generation": 9})
    await store.append("eventport/projection/orders", [other])
    with pytest.raises(CorruptEventError, match="ProjectionActivated"):
        await checkpoints.active("orders")
    await store.append("eventport/dead-letters/orders/1", [other])
    with pytest.raises(CorruptEventError, match="DeadLetterAdded"):
        await checkpoints.dead_letters(ID)
    snapshots = StreamSnapshotStore(store)
    await store.append(
        snapshots.stream("order-1"), [NewEvent("eventport.SnapshotTaken", b"{}", SNAPSHOT)]
    )
    with pytest.raises(CorruptEventError, match="it is of another stream"):
        await snapshots.latest("order-1")


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_forged_commands_are_not_believed(open_store: OpenStore) -> None:
    async with open_store() as store:
        log = CommandLog(store)
        forged = {"id": str(uuid4()), "record": 1}
        await store.append("eventport/user/eve", [NewEvent("eventport.UserActed", forged)])
        with pytest.raises(CorruptEventError, match="names a record that does not exist"):
            [record async for record in log.by_user("eve")]
        stream = f"eventport/command/{COMMAND}"
        await store.append(stream, [NewEvent("eventport.CommandRecorded", forged)])
        with pytest.raises(CorruptEventError, match="missing required field"):
            await log.records(COMMAND)
