"""Events are instances of the program's classes, on every backend, also those stored long ago."""

from __future__ import annotations

import pickle
import re

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from tests.toolkit.order_events import (
    EVENTS,
    Checked,
    OrderEvent,
    Packed,
    Paid,
    Placed,
    Renamed,
    Shipped,
    add_title,
    order_types,
    split_name,
    stored,
)

from eventport import EventportError, EventStore, InvalidArgumentError, NewEvent
from eventport.folding import Fold, replay
from eventport.typed import (
    EventDataError,
    EventTypes,
    EventVersionError,
    UnknownEventTypeError,
    Upcaster,
)


async def test_what_goes_in_comes_out_equal(store: EventStore) -> None:
    types = order_types()
    await store.append("order-1", [types.new(event) for event in EVENTS])
    found = [types.typed(event) async for event in store.iterate("order-1")]
    assert [event.data for event in found] == EVENTS
    assert [event.type for event in found] == ["Placed", "Paid", "Packed", "Shipped"]
    assert [event.version for event in found] == [1, 2, 3, 4]


async def test_a_typed_event_is_otherwise_the_stored_one(store: EventStore) -> None:
    types, id_ = order_types(), uuid4()
    await store.append("order-1", [types.new(EVENTS[0], metadata={"user": "ada"}, id=id_)])
    stored = (await store.read("order-1")).events[0]
    found = types.typed(stored)
    assert (found.id, found.metadata) == (id_, {"user": "ada"})
    assert found == msgspec.structs.replace(stored, data=EVENTS[0])


async def test_a_stream_folds_into_a_state(store: EventStore) -> None:
    types = order_types()
    fold = Fold[list[OrderEvent], OrderEvent](types, list, lambda state, event: [*state, event])
    missing = await replay.load(store, "order-1", fold)
    assert (missing.state, missing.version, missing.exists) == ([], 0, False)
    await store.append("order-1", [types.new(event) for event in EVENTS])
    whole = await replay.load(store, "order-1", fold)
    assert (whole.state, whole.version, whole.exists) == (EVENTS, 4, True)
    part = await replay.load(store, "order-1", fold, to_version=2)
    assert (part.state, part.version) == (EVENTS[:2], 2)
    async with store.session() as session:
        await session.append("order-1", [types.new(EVENTS[0])])
        assert (await replay.load(session, "order-1", fold)).state == [*EVENTS, EVENTS[0]]


# Versions.


def versioned(
    version: int = 3, upcasters: Mapping[int, Upcaster] | None = None
) -> EventTypes[Renamed]:
    types = EventTypes[Renamed]()
    steps = {1: split_name, 2: add_title} if upcasters is None else upcasters
    types.register(Renamed, name="CustomerRenamed", version=version, upcasters=steps)
    return types


async def test_stored_old_events_come_out_as_new_ones(store: EventStore) -> None:
    types = versioned()
    await store.append(
        "customer-1",
        [
            NewEvent("CustomerRenamed", {"name": "Ada King"}),
            NewEvent("CustomerRenamed", {"name": "Ada Byron"}, {"schema_version": 1, "by": "x"}),
            NewEvent("CustomerRenamed", {"first": "Ada", "last": "B."}, {"schema_version": 2}),
            types.new(Renamed("Ada", "Lovelace", "Countess")),
        ],
    )
    stored = (await store.read("customer-1")).events
    for _ in range(2):  # a step that works in place has not spoilt what was stored
        assert [types.typed(event).data for event in stored] == [
            Renamed("Ada", "King", None),
            Renamed("Ada", "Byron", None),
            Renamed("Ada", "B.", None),
            Renamed("Ada", "Lovelace", "Countess"),
        ]
    assert stored[3].metadata == {"schema_version": 3}
    fold = Fold[list[str], Renamed](types, list, lambda names, event: [*names, event.last])
    assert (await replay.load(store, "customer-1", fold)).state == [
        "King",
        "Byron",
        "B.",
        "Lovelace",
    ]


async def test_an_event_of_a_newer_program_is_refused(store: EventStore) -> None:
    newer = NewEvent("CustomerRenamed", {"names": []}, {"schema_version": 4})
    await store.append("customer-1", [newer])
    (event,) = (await store.read("customer-1")).events
    with pytest.raises(EventVersionError) as caught:
        versioned().typed(event)
    assert str(caught.value) == (
        "event 1 of stream 'customer-1' is a 'CustomerRenamed' of version 4, but this program "
        "knows versions 1 to 3: run the program that wrote it, or register the newer version"
    )
    assert (caught.value.event, caught.value.version, caught.value.known) == (event, 4, 3)


@pytest.mark.parametrize("version", [0, -1, "2", 2.0, True, None])
async def test_a_version_that_is_none_is_refused(version: object) -> None:
    shown = repr(version) if type(version) is int else f"<{type(version).__name__}>"
    with pytest.raises(EventVersionError, match=re.escape(f"of version {shown}, but")):
        versioned().typed(stored("CustomerRenamed", {}, {"schema_version": version}))


async def test_a_step_that_fails_is_named() -> None:
    with pytest.raises(EventDataError, match="from version 1 to 2 raised KeyError"):
        versioned().typed(stored("CustomerRenamed", {"first": "Ada"}, {}))


def test_a_missing_step_is_an_error_at_registration() -> None:
    with pytest.raises(InvalidArgumentError, match="no upcaster from version 2 to 3"):
        versioned(upcasters={1: split_name})
    with pytest.raises(InvalidArgumentError, match="no upcaster from version 1 to 2"):
        versioned(upcasters={})
    with pytest.raises(InvalidArgumentError, match="version 2 needs no upcaster from 2"):
        versioned(2, {1: split_name, 2: add_title})
    with pytest.raises(InvalidArgumentError, match="version must be from 1"):
        versioned(0, {})


def test_the_first_version_leaves_metadata_alone() -> None:
    assert order_types().new(EVENTS[1]).metadata == {}


# Unknown types, and data that does not fit.


async def test_an_unknown_type_is_an_error_that_names_it_and_those_known(
    store: EventStore,
) -> None:
    await store.append("order-1", [NewEvent("Lost", {"by": "post"})])
    (event,) = (await store.read("order-1")).events
    with pytest.raises(UnknownEventTypeError) as caught:
        order_types().typed(event)
    assert str(caught.value) == (
        "no class is registered for events of type 'Lost'; "
        "registered: 'Packed', 'Paid', 'Placed', 'Shipped'"
    )
    assert (caught.value.type, caught.value.known[0]) == ("Lost", "Packed")
    with pytest.raises(UnknownEventTypeError, match="registered: none"):
        EventTypes[Any]().typed(event)


async def test_an_unknown_type_is_left_as_it_is_on_request(store: EventStore) -> None:
    types = EventTypes[Placed | Any](Placed, unknown="raw")
    lost = NewEvent("Lost", {"by": "post"}, {"schema_version": 9})
    await store.append("order-1", [types.new(EVENTS[0]), lost])
    events = (await store.read("order-1")).events
    assert [types.typed(event).data for event in events] == [EVENTS[0], {"by": "post"}]
    assert types.typed(events[1]) == events[1]


@pytest.mark.parametrize(
    ("type_", "data", "reason"),
    [
        ("Placed", {"customer": "ada"}, "its data is no Placed: .*missing required field `at`"),
        ("Placed", {"customer": 7, "at": "?"}, r"Expected `str`, got `int` at \.customer"),
        ("Paid", b"\x00", "its data is no Paid: Expected `object`"),
        ("Packed", {"boxes": ["x"]}, "its data is no Packed: Expected `int`"),
        (
            "Shipped",
            {"shipTo": {}},
            r"its data is no Shipped: missing, and 1 more at \.shipTo\.lines",
        ),
        ("Checked", {"total": -1}, "its data is no Checked: ArithmeticError was raised"),
    ],
)
def test_data_that_does_not_fit_is_refused(type_: str, data: object, reason: str) -> None:
    types = EventTypes[Any](Placed, Paid, Packed, Shipped, Checked)
    with pytest.raises(EventDataError, match=f"event 7 of stream 's', a '{type_}': .*{reason}"):
        types.typed(stored(type_, data, {}))


def test_errors_survive_pickling() -> None:
    event = stored("Placed", {}, {})
    for error in (
        UnknownEventTypeError("Lost", ["Paid", "Placed"]),
        EventVersionError(event, 4, 3),
        EventDataError(event, "it is empty"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert isinstance(error, EventportError)
        assert (str(again), vars(again)) == (str(error), vars(error))
