"""Events go out and come in as the SDK of CloudEvents writes and reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents_on_eventport import from_cloudevent, receive, to_cloudevent

from eventport import NewEvent, connect


SOURCE = "https://example.com/orders"


async def test_events_come_back_as_they_went_out() -> None:
    format_ = JSONFormat()
    async with connect("memory://") as store, connect("memory://") as copy:
        placed = NewEvent(
            "OrderPlaced", {"total": 99.5}, {"by": "web"}, tags=frozenset({"customer:ada"})
        )
        await store.append("order-1", [placed, NewEvent("LabelPrinted", b"\x89PNG")])
        async for event in store.iterate_all():
            sent = format_.write(to_cloudevent(event, SOURCE))
            received = format_.read(CloudEvent, sent)
            before = int(received.get_extension("streamversion")) - 1
            for _ in range(2):  # a repetition is recognised
                await copy.append(
                    str(received.get_subject()), [from_cloudevent(received)], expected=before
                )
        written = (await store.read("order-1")).events
        copied = (await copy.read("order-1")).events
    assert [(e.type, e.data, e.metadata, e.id, e.tags) for e in written] == [
        (e.type, e.data, e.metadata, e.id, e.tags) for e in copied
    ]


async def test_an_event_of_others_is_stored_once() -> None:
    attributes = {
        "id": "A234-1234-1234",
        "source": "/mycontext",
        "type": "com.example.someevent",
        "specversion": "1.0",
        "time": datetime(2026, 1, 1, tzinfo=UTC),
    }
    async with connect("memory://") as store:
        for _ in range(2):
            await receive(store, CloudEvent(attributes, {"a": 1}))
        await receive(store, CloudEvent({**attributes, "source": "/other"}, {"a": 1}))
        assert len((await store.read_all(prefix="inbox-")).events) == 2
