"""A harness that leaves a question open is refused, with words that help."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from eventport import EventStore

from eventport_conformance import (
    Capabilities,
    Harness,
    Planned,
    Supported,
    Unsupported,
    conformance,
)
from eventport_conformance.harness import HOOKS, Hook, absent_hooks
from eventport_memory import MemoryEventStore


def answers(**changes: Any) -> Capabilities:
    values: dict[str, Any] = {
        "sessions": Supported(),
        "global_order": Supported(),
        "push": Unsupported("alone"),
        "shared": Unsupported("alone"),
        "durable": Unsupported("alone"),
        "hooks": Supported(),
        **changes,
    }
    return Capabilities(**values)


class Good(Harness):
    name = "good"
    capabilities = answers()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        yield await MemoryEventStore.connect()


def test_no_feature_has_a_default() -> None:
    incomplete: Any = Capabilities
    with pytest.raises(TypeError, match="hooks"):
        incomplete(
            sessions=Supported(),
            global_order=Supported(),
            push=Supported(),
            shared=Supported(),
            durable=Supported(),
        )


@pytest.mark.parametrize("answer", [True, None, "yes", Supported])
def test_an_answer_is_one_of_three(answer: object) -> None:
    with pytest.raises(TypeError, match="push must be Supported"):
        answers(push=answer)


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_a_refusal_needs_a_reason(reason: Any) -> None:
    with pytest.raises(ValueError, match="needs its reason in words"):
        Unsupported(reason)
    with pytest.raises(ValueError, match="needs its issue in words"):
        Planned(reason)


def test_a_clause_is_a_test_of_the_class() -> None:
    tests = [name for name in vars(conformance(Good)) if name.startswith("test_")]
    assert "test_APP_01_events_come_out_in_order" in tests
    assert "test_CAP_03_not_shared_is_not_claimed" in tests
    assert not [name for name in tests if name.startswith(("test_SHA", "test_DUR", "test_SES_31"))]


def test_a_claim_to_be_shared_needs_a_second_client() -> None:
    class Bold(Good):
        capabilities = answers(shared=Supported())

    with pytest.raises(TypeError, match=r"shared=Supported\(\), which needs second_client"):
        conformance(Bold)


def test_a_name_capabilities_and_open_are_needed() -> None:
    class Nameless(Harness):
        pass

    class Silent(Harness):
        name = "silent"

    class Closed(Harness):
        name = "closed"
        capabilities = answers()

    for harness, wanted in ((Nameless, "a name"), (Silent, "capabilities"), (Closed, "open")):
        with pytest.raises(TypeError, match=f"needs {wanted}"):
            conformance(harness)


def test_an_unknown_event_loop_is_refused() -> None:
    class Odd(Good):
        backends = ("curio",)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

    with pytest.raises(ValueError, match="curio"):
        conformance(Odd)


def test_only_a_harness_will_do() -> None:
    wrong: Any = object
    with pytest.raises(TypeError, match="a subclass of Harness"):
        conformance(wrong)


def test_why_a_method_is_absent_is_told() -> None:
    class Explained(Good):
        absent: ClassVar[Mapping[Hook, str]] = {"url": "it is in memory"}

    reasons = absent_hooks(Explained)
    assert set(reasons) == set(HOOKS)
    assert reasons["url"] == "it is in memory"
    assert reasons["second_client"] == "the harness has no second_client()"


def test_an_address_needs_a_way_to_open_a_store_there() -> None:
    class Halved(Good):
        def address(self) -> tuple[str, int]:
            return "127.0.0.1", 5432

    with pytest.raises(TypeError, match="one of address\\(\\) and open_at\\(\\)"):
        conformance(Halved)
