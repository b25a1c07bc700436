"""Specifications hold of deciders and of classes, and what is wrong can be read off."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

import pytest

from msgspec.structs import replace
from tests.toolkit.orders import (
    ORDER,
    Add,
    ItemAdded,
    Order,
    OrderEvent,
    Placed,
    RefusedError,
    Ship,
    Shipped,
    State,
)

from eventport.testing import Outcome, specify
from eventport.typed import UnknownEventTypeError


def test_a_decider_holds_what_is_specified() -> None:
    order = specify(ORDER)
    order.given(Placed("ada")).when(Add("tea", 2)).then(ItemAdded("tea", 2))
    order.given(Placed("ada")).when(Ship()).then(Shipped())
    order.given(Placed("ada"), Shipped()).when(Ship()).then_nothing()
    order.given(Placed("ada"), Shipped()).when(Add("tea")).then_raises(RefusedError)
    order.given(Shipped()).when(Add("tea")).then_raises(RefusedError, "has been shipped")
    order.given().when(Ship()).then(Shipped())


def test_a_class_holds_what_is_specified() -> None:
    order = specify(Order)
    order.given(Placed("ada")).when(lambda order: order.add("tea", 2)).then(ItemAdded("tea", 2))
    order.given(Placed("ada")).when(Order.ship).then(Shipped())
    order.given(Shipped()).when(Order.ship).then_nothing()
    order.given(Shipped()).when(lambda order: order.add("tea")).then_raises(RefusedError)
    order.given().when(lambda _: Order.place("ada")).then(Placed("ada"))


def failure(check: object, *arguments: object) -> str:
    assert callable(check)
    with pytest.raises(AssertionError) as caught:
        check(*arguments)
    return str(caught.value)


def add(*past: OrderEvent) -> Outcome[OrderEvent]:
    return specify(ORDER).given(*past).when(Add("tea", 2))


def test_other_events_fail_with_a_difference_to_read() -> None:
    assert failure(add(Placed("ada")).then, ItemAdded("tea", 3), Shipped()) == dedent("""\
        given
            Placed(customer='ada')
        when
            Add(sku='tea', quantity=2)
        then (- expected, + happened)
          - ItemAdded(sku='tea', quantity=3)
          + ItemAdded(sku='tea', quantity=2)
          - Shipped()""")


def test_events_where_there_should_be_none_fail() -> None:
    assert failure(add().then_nothing).endswith(
        dedent("""\
        given
            nothing
        when
            Add(sku='tea', quantity=2)
        then (- expected, + happened)
          + ItemAdded(sku='tea', quantity=2)""")
    )
    assert "- ItemAdded(sku='tea', quantity=2)" in failure(
        specify(ORDER).given(Shipped()).when(Ship()).then, ItemAdded("tea", 2)
    )


def test_an_error_where_there_should_be_events_fails_and_is_the_cause() -> None:
    outcome = add(Shipped())
    for check in (outcome.then_nothing, lambda: outcome.then(Shipped())):
        with pytest.raises(AssertionError, match="it raised RefusedError") as caught:
            check()
        assert caught.value.__cause__ is outcome.error


def test_no_error_or_another_one_fails() -> None:
    text = failure(add().then_raises, RefusedError)
    assert "RefusedError was expected, but this happened\n    ItemAdded(sku='tea'" in text
    refused = add(Shipped())
    assert "ValueError was expected, but it raised" in failure(refused.then_raises, ValueError)
    assert "matching 'lost'" in failure(refused.then_raises, RefusedError, "lost")


def test_the_order_of_events_counts() -> None:
    def finish(order: Order) -> None:
        order.add("tea")
        order.ship()

    outcome = specify(Order).given().when(finish)
    outcome.then(ItemAdded("tea"), Shipped())
    text = failure(outcome.then, Shipped(), ItemAdded("tea"))
    assert "finish\nthen" in text
    assert "- ItemAdded" in text


def test_what_cannot_be_stored_or_evolved_fails() -> None:
    @dataclass(frozen=True)
    class Unregistered:
        pass

    def unstorable(command: object, state: State) -> list[OrderEvent]:
        return [Unregistered()]  # type: ignore[list-item]

    def broken(state: State, event: OrderEvent) -> State:
        raise RefusedError(event)

    outcome = specify(replace(ORDER, decide=unstorable)).given().when(Ship())
    outcome.then_raises(UnknownEventTypeError, "Unregistered")
    outcome = specify(replace(ORDER, evolve=broken)).given().when(Ship())
    assert "RefusedError(Shipped())" in failure(outcome.then, Shipped())


def test_an_action_that_is_asynchronous_is_refused() -> None:
    async def ship(order: Order) -> None:
        order.ship()

    specify(Order).given().when(ship).then_raises(TypeError, "is asynchronous")
