"""A harness that leaves a question open is refused, with words that help."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import pytest

from eventport import Capability, EventStore
from eventport.adapter import Adapter

from eventport_conformance import (
    Capabilities,
    Harness,
    Planned,
    Supported,
    Unsupported,
    UrlHarness,
    conformance,
)
from eventport_conformance.clause import all_clauses
from eventport_conformance.harness import HOOKS, Hook, absent_hooks, given_hooks
from eventport_conformance.proof.noop_store import NoOpStore
from eventport_conformance.report import ClauseResult, Results, Subject, outcome_property
from eventport_conformance.running import Outcome, run_clause
from eventport_memory import MemoryEventStore


def answers(**changes: Any) -> Capabilities:
    values: dict[str, Any] = {
        "sessions": Supported(),
        "global_order": Supported(),
        "push": Unsupported("alone"),
        "shared": Unsupported("alone"),
        "durable": Unsupported("alone"),
        "guards": Supported(),
        "conditions": Supported(),
        "times": Supported(),
        "catalogue": Supported(),
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
            times=Supported(),
            catalogue=Supported(),
        )


@pytest.mark.parametrize("answer", [True, None, "yes", Supported])
def test_an_answer_is_one_of_three(answer: object) -> None:
    with pytest.raises(TypeError, match="push must be Supported"):
        answers(push=answer)


@pytest.mark.parametrize("reason", ["  ", None])
def test_a_reason_is_given_in_words(reason: Any) -> None:
    with pytest.raises(ValueError, match="needs its reason in words"):
        Unsupported(reason)
    with pytest.raises(ValueError, match="needs its issue in words"):
        Planned(reason)
    with pytest.raises(ValueError, match="needs its issue in words"):
        Planned("")


def test_no_store_gives_a_reason_for_its_hooks() -> None:
    with pytest.raises(ValueError, match=r"hooks=Unsupported\(\) needs a reason"):
        answers(hooks=Unsupported())
    with pytest.raises(ValueError, match=r"hooks=Unsupported\(\) needs a reason"):
        Capabilities.only("sessions")


def test_only_what_is_named_is_supported() -> None:
    named = Capabilities.only("sessions", "global_order", "hooks").answers()
    assert [name for name, answer in named.items() if answer == Supported()] == [
        "sessions",
        "global_order",
        "hooks",
    ]
    assert named["push"] == Unsupported()
    wrong: Any = "pushing"
    with pytest.raises(ValueError, match="there is no pushing among sessions, global_order"):
        Capabilities.only(wrong)


class Short(UrlHarness):
    name, location = "short", "memory://"
    capabilities = Capabilities.only(
        "sessions", "global_order", "guards", "conditions", "times", "catalogue", "hooks"
    )


def run(harness: type[Harness], id_: str) -> Outcome:
    (clause,) = (one for one in all_clauses() if one.id == id_)
    return run_clause(harness, clause, "asyncio")


def test_the_reasons_are_those_of_the_store() -> None:
    outcome = run(Short, "CAP-01")
    assert outcome.result == "held", outcome.details
    value = outcome_property(Short, outcome)
    results = Results(Subject.of(Short))
    assert results.subject.capabilities["push"] == ("unsupported", "")
    results.add(ClauseResult(**value["result"]), "", "", value["limitations"])
    reported = ("unsupported", "there are no commits by other processes")
    assert results.report().subject.capabilities["push"] == reported


def test_a_store_without_a_reason_needs_one_from_its_harness() -> None:
    class Silent(Short):
        @asynccontextmanager
        async def open(self) -> AsyncGenerator[EventStore, None]:
            yield NoOpStore()

    outcome = run(Silent, "CAP-01")
    assert outcome.result == "not-run"
    assert "Silent says push=Unsupported() without a reason" in outcome.reason


def test_what_is_claimed_and_not_named_is_said() -> None:
    class Forgetful(Short):
        capabilities = Capabilities.only(
            "sessions", "global_order", "guards", "conditions", "hooks"
        )

    outcome = run(Forgetful, "VER-01")
    assert outcome.result == "not-run"
    assert "VER-01 was not run on" in outcome.details
    assert outcome.reason.endswith(
        "the store claims times: name it in "
        "test_what_is_claimed_and_not_named_is_said.<locals>.Forgetful.capabilities"
    )


def test_an_event_loop_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventport_conformance.running.find_spec", lambda _: None)
    (clause,) = (one for one in all_clauses() if one.id == "VER-01")
    outcome = run_clause(Short, clause, "trio")
    assert (outcome.result, outcome.seconds) == ("not-run", 0)
    assert "trio is not installed: install it, or take it out of" in outcome.reason


def test_what_is_not_named_must_not_be_claimed() -> None:
    class Modest(Short):
        capabilities = Capabilities.only(
            "global_order", "guards", "conditions", "times", "catalogue", "hooks"
        )

        @asynccontextmanager
        async def open(self) -> AsyncGenerator[EventStore, None]:
            store = await MemoryEventStore.connect()
            limitations = {Capability.SESSIONS: "modesty", **store.limitations}
            with patch.object(MemoryEventStore, "limitations", limitations):
                yield store

    outcome = run(Modest, "CAP-01")
    assert outcome.result == "failed"
    assert outcome.reason.startswith("whether the store claims sessions")


def test_a_url_gives_a_folder_of_its_own_and_an_adapter_that_is_not_installed() -> None:
    opened: list[str] = []

    async def open_(url: str) -> MemoryEventStore:
        opened.append(url)
        return MemoryEventStore()

    class Mine(Short):
        location = "mine:///{folder}/{new}.db"
        adapter = Adapter(open=open_)

    assert run(Mine, "VER-01").result == "held"
    assert run(Mine, "VER-01").result == "held"
    first, second = (Path(url.removeprefix("mine://")) for url in opened)
    assert first.parent != second.parent
    assert first.name.startswith("conformance-")
    assert not first.parent.exists()


def test_what_a_class_calls_absent_takes_the_method_of_its_base_away() -> None:
    class Alone(Short):
        absent: ClassVar[Mapping[Hook, str]] = {"url": "nobody else finds it"}

    class Found(Alone):
        def url(self) -> str:
            return "mine://"

    class Torn(Short):
        absent: ClassVar[Mapping[Hook, str]] = {"url": "nobody else finds it"}

        def url(self) -> str:
            return "mine://"

    assert "url" in given_hooks(Short)
    assert absent_hooks(Alone)["url"] == "nobody else finds it"
    assert "url" in given_hooks(Found)
    with pytest.raises(TypeError, match=r"has url\(\), and calls it absent"):
        conformance(Torn)


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


def test_the_report_says_why_a_method_is_absent() -> None:
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
