"""Event classes with an encoding of the program's own, such as Protobuf or MessagePack."""

from __future__ import annotations

import json

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from anyio import create_task_group
from google.protobuf.struct_pb2 import Struct  # type: ignore[import-untyped]  # it has no types
from google.protobuf.wrappers_pb2 import (  # type: ignore[import-untyped]  # as above
    Int64Value,
    StringValue,
)

from eventport import (
    EventStore,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidEventError,
    NewEvent,
    RecordedEvent,
)
from eventport.aggregates import Aggregate, Repository
from eventport.commands import CommandHandler, Decider
from eventport.projections import MemoryCheckpoints, Projection, ProjectionContext, Runner
from eventport.typed import EventDataError, EventTypes

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


class Placed(msgspec.Struct):
    sku: str
    count: int


class Opaque:
    """A class of no kind that is known, and without a comparison."""

    def __init__(self, text: str) -> None:
        self.text = text


def proto_types() -> EventTypes[Any]:
    types = EventTypes[Any]()
    types.register(
        StringValue,
        name="Named",
        encode=StringValue.SerializeToString,
        decode=StringValue.FromString,
    )
    types.register(
        Int64Value,
        name="Counted",
        encode=Int64Value.SerializeToString,
        decode=Int64Value.FromString,
    )
    return types


def packed_types() -> EventTypes[Placed]:
    types = EventTypes[Placed]()
    types.register(
        Placed, encode=msgspec.msgpack.encode, decode=msgspec.msgpack.Decoder(Placed).decode
    )
    return types


async def test_bytes_of_a_codec_are_stored_and_read(store: EventStore) -> None:
    types = proto_types()
    events = [StringValue(value="tea"), Int64Value(value=7), Int64Value()]
    await types.on(store).append("order-1", events)
    assert [event.data async for event in types.on(store).iterate("order-1")] == events
    stored = (await store.read("order-1")).events
    assert [event.data for event in stored] == [event.SerializeToString() for event in events]
    assert stored[2].data == b""


async def test_commands_decide_on_them(store: EventStore) -> None:
    def evolve(total: int, event: Placed) -> int:
        return total + event.count

    def decide(command: int, total: int) -> list[Placed]:
        return [Placed("tea", command - total)]

    decider = Decider(types=packed_types(), initial=int, evolve=evolve, decide=decide)
    handler = CommandHandler(store, decider)
    await handler.handle("order-1", 3)
    result = await handler.handle("order-1", 5)
    assert (result.state, result.version) == (5, 2)
    assert [type(event.data) for event in (await store.read("order-1")).events] == [bytes, bytes]


@dataclass(eq=False)
class Order(Aggregate[Placed]):
    total: int = 0

    def apply(self, event: Placed) -> None:
        self.total += event.count


async def test_aggregates_record_them(store: EventStore) -> None:
    orders = Repository(store, "order", Order, packed_types())
    order = Order()
    order.record(Placed("tea", 3))
    await orders.add("1", order)
    assert (await orders.load("1")).total == 3


async def test_projections_handle_them(store: EventStore) -> None:
    types, seen = packed_types(), list[Placed]()
    projection = Projection("orders", types=types)

    @projection.on(Placed)
    async def placed(event: RecordedEvent[Placed], _: ProjectionContext[None]) -> None:
        seen.append(event.data)

    events = types.on(store)
    await events.append("order-1", [Placed("tea", 3), Placed("cup", 1)])
    last = (await events.read_all()).events[-1].position
    runner = Runner(store, projection, MemoryCheckpoints())
    with no_hang():
        async with create_task_group() as tasks:
            tasks.start_soon(runner.run)
            await runner.wait_until(last)
            tasks.cancel_scope.cancel()
    assert seen == [Placed("tea", 3), Placed("cup", 1)]


async def test_json_values_of_a_converter_are_stored_as_json() -> None:
    types = EventTypes[Opaque]()
    types.register(
        Opaque, encode=lambda event: {"text": event.text}, decode=lambda data: Opaque(data["text"])
    )
    async with MemoryEventStore() as store:
        await types.on(store).append("s", [Opaque("tea")])
        (stored,) = (await store.read("s")).events
        assert stored.data == {"text": "tea"}
        assert types.decode(stored).text == "tea"


def test_what_a_codec_loses_is_refused() -> None:
    types = EventTypes[Any]()
    types.register(
        Placed,
        encode=lambda event: msgspec.msgpack.encode(event.sku),
        decode=lambda data: Placed(msgspec.msgpack.decode(data), 0),
    )
    types.new(Placed("tea", 0))
    with pytest.raises(InvalidEventError, match=r"Placed\.count"):
        types.new(Placed("tea", 1))

    types.register(Opaque, encode=lambda event: event.text.encode(), decode=lambda _: Opaque("x"))
    types.new(Opaque("x"))
    with pytest.raises(InvalidEventError, match="Opaque: comes back as another value"):
        types.new(Opaque("secret"))
    with pytest.raises(InvalidEventError, match="cannot be encoded") as caught:
        types.new(Opaque("\ud800secret"))
    assert "secret" not in str(caught.value)


def test_a_message_whose_numbers_are_none_is_equal_by_its_encoding() -> None:
    types = EventTypes[Struct]()
    types.register(Struct, encode=Struct.SerializeToString, decode=Struct.FromString)
    event = Struct()
    event.update({"ratio": float("nan")})
    assert types.new(event).data == event.SerializeToString()


async def test_versions_count_for_bytes_too() -> None:
    def add_count(data: bytes) -> bytes:
        return msgspec.msgpack.encode({**msgspec.msgpack.decode(data), "count": 1})

    types = EventTypes[Placed]()
    decode = msgspec.msgpack.Decoder(Placed).decode
    upcasters = {1: add_count}
    types.register(
        Placed, version=2, upcasters=upcasters, encode=msgspec.msgpack.encode, decode=decode
    )
    async with MemoryEventStore() as store:
        await store.append("s", [NewEvent("Placed", msgspec.msgpack.encode({"sku": "tea"}))])
        assert [event.data async for event in types.on(store).iterate("s")] == [Placed("tea", 1)]


async def test_what_cannot_be_decoded_is_an_error_without_values() -> None:
    types = packed_types()
    async with MemoryEventStore() as store:
        await store.append("s", [NewEvent("Placed", b"\xc1secret"), NewEvent("Placed", "secret")])
        for stored in (await store.read("s")).events:
            with pytest.raises(EventDataError, match="'Placed': its data is no Placed") as caught:
                types.decode(stored)
            assert "secret" not in str(caught.value)


async def to_bytes(_: object) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("codec", "error", "message"),
    [
        ({"encode": json.dumps}, InvalidArgumentError, "needs both, encode and decode"),
        ({"decode": json.loads}, InvalidArgumentError, "needs both, encode and decode"),
        ({"encode": 1, "decode": json.loads}, InvalidArgumentTypeError, "encode must be a func"),
        ({"encode": json.dumps, "decode": "x"}, InvalidArgumentTypeError, "decode must be a func"),
        ({"encode": to_bytes, "decode": json.loads}, InvalidArgumentTypeError, "encode must be a"),
    ],
)
def test_half_a_codec_is_refused(codec: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EventTypes[Any]().register(Opaque, **codec)


def test_a_class_without_a_codec_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidArgumentTypeError, match="register it with encode= and decode="):
        EventTypes[Any](Opaque)


def test_a_codec_serves_as_a_decorator() -> None:
    types = EventTypes[Any]()

    @types.register(name="Seen", encode=lambda event: event.text, decode=Opaque)
    class Seen(Opaque):
        pass

    assert types.name_of(Seen) == "Seen"
    with pytest.raises(InvalidEventError, match="comes back as Opaque, not as Seen"):
        types.new(Seen("tea"))
