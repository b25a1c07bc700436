"""An outbox: what is in the store goes to a broker by FastStream, at least once and in order.

The store is the outbox already: an event is committed or not, and nothing is written twice. A
projection publishes it and keeps its place; if the process ends between the two, the event is sent
again. Consumers recognise it by the id of the message, which is that of the event.
"""

from __future__ import annotations

from typing import Any

import msgspec

from faststream.nats import NatsBroker

from eventport import RecordedEvent
from eventport.projections import Projection


def outbox(broker: NatsBroker, *types: str, name: str = "outbox") -> Projection[Any]:
    """Return a projection that publishes events of some types; a `Runner` runs it.

    The subject is the event's type, such as ``OrderPlaced``.
    """
    projection = Projection[Any](name, on_poison="stop")

    async def publish(event: RecordedEvent, _: object) -> None:
        await broker.publish(
            msgspec.to_builtins(event),
            subject=event.type,
            headers={"Nats-Msg-Id": str(event.id)},
        )

    for type_ in types:
        projection.on(type_)(publish)
    return projection
