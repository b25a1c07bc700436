"""CloudEvents in and out: each event of a store as a CloudEvent 1.0, and back.

The subject is the stream, and ``source`` names the store. Version, position, tags and metadata are
extension attributes, so that nothing is lost on the way back. An event of others gets an id made of
its source and its id, which together are unique by the standard, and a stream of its own in the
inbox: delivered twice, it is stored once. Follow the inbox by ``subscribe(prefix="inbox-")``.
"""

from __future__ import annotations

import json

from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

from cloudevents.core.v1.event import CloudEvent

from eventport import NO_STREAM, AppendResult, EventStore, NewEvent, RecordedEvent


ORIGIN: Final = "eventportid"
"""The extension that holds the id of an event that came from a store of eventport."""


def to_cloudevent(event: RecordedEvent, source: str) -> CloudEvent:
    """Return an event of a store as a CloudEvent.

    Args:
        event: What was read.
        source: The URI of the store or the service, such as ``"https://example.com/orders"``.
    """
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(event.id),
        "source": source,
        "type": event.type,
        "subject": event.stream,
        "time": event.recorded_at,
        "datacontenttype": (
            "application/octet-stream" if isinstance(event.data, bytes) else "application/json"
        ),
        ORIGIN: str(event.id),
        "streamversion": event.version,
        "position": str(event.position),  # an integer has 32 bits there
    }
    if event.metadata:
        attributes["eventportmetadata"] = json.dumps(event.metadata)
    if event.tags:
        attributes["eventporttags"] = json.dumps(sorted(event.tags))
    return CloudEvent(attributes, event.data)


def from_cloudevent(event: CloudEvent) -> NewEvent:
    """Return a CloudEvent as an event to append."""
    attributes = event.get_attributes()
    origin = attributes.get(ORIGIN)
    source, id_ = attributes["source"], attributes["id"]
    return NewEvent(
        attributes["type"],
        event.get_data(),
        json.loads(attributes.get("eventportmetadata", "{}")),
        UUID(origin) if origin else uuid5(NAMESPACE_URL, f"{source}\n{id_}"),
        frozenset(json.loads(attributes.get("eventporttags", "[]"))),
    )


async def receive(store: EventStore, event: CloudEvent) -> AppendResult:
    """Put a CloudEvent into the inbox, once however often it is delivered."""
    new = from_cloudevent(event)
    return await store.append(f"inbox-{new.id}", [new], expected=NO_STREAM)
