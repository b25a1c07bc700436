"""What a run says about a store: a result for each clause, and one verdict."""

from __future__ import annotations

import json
import platform

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from eventport_conformance.capabilities import Answer, Feature, Planned, Supported, Unsupported
from eventport_conformance.clause import Answered, Applies, all_clauses, applies
from eventport_conformance.harness import Backend, Harness, Hook, absent_hooks


if TYPE_CHECKING:
    from eventport_conformance.running import Outcome, Result


FORMAT: Final = 1
"""The version of the form of ``conformance.json``."""

Verdict: TypeAlias = Literal["conformant", "failed", "partial", "not-run"]


@dataclass(frozen=True)
class Subject:
    """What a harness says of its store; it travels with each result."""

    name: str
    backends: Sequence[Backend]
    capabilities: Mapping[Feature, tuple[str, str]]
    """For each feature the kind of the answer, and the reason or issue."""
    absent: Mapping[Hook, str]

    @classmethod
    def of(cls, harness: type[Harness]) -> Subject:
        """Take down what a harness says."""
        answers = harness.capabilities.answers().items()
        capabilities: dict[Feature, tuple[str, str]] = {
            feature: _written(answer) for feature, answer in answers
        }
        return cls(harness.name, harness.backends, capabilities, absent_hooks(harness))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Subject:
        """Read what `asdict` has written."""
        capabilities: dict[Feature, tuple[str, str]] = {
            feature: (kind, why) for feature, (kind, why) in value["capabilities"].items()
        }
        return cls(value["name"], value["backends"], capabilities, value["absent"])

    def applying(self) -> dict[str, Applies]:
        """Return what each clause means for the store, by id."""
        answers: dict[Feature, Answer] = {
            feature: _read(kind, why) for feature, (kind, why) in self.capabilities.items()
        }
        meanings = {one.id: applies(one, answers, self.absent) for one in all_clauses()}
        return {id_: meaning for id_, meaning in meanings.items() if meaning is not None}

    def explained(self, limitations: Mapping[str, str]) -> Subject:
        """Return the same with the store's own reasons, where the harness has none."""
        capabilities: dict[Feature, tuple[str, str]] = {
            feature: (kind, why or limitations.get(feature, ""))
            for feature, (kind, why) in self.capabilities.items()
        }
        return replace(self, capabilities=capabilities)


@dataclass(frozen=True)
class ClauseResult:
    """The result of one clause on one event loop."""

    id: str
    backend: Backend
    result: Result
    reason: str
    seconds: float


@dataclass(frozen=True)
class StoreReport:
    """All results about one store."""

    subject: Subject
    adapter: str
    """The distribution that the store is from, and its version."""
    server: str
    verdict: Verdict
    held: int
    """How many of the clauses held, each on each event loop."""
    of: int
    """How many had to."""
    missing: Sequence[str]
    """Which of them have not been shown to hold."""
    clauses: Sequence[ClauseResult]

    def summary(self) -> str:
        """Say it in a few words."""
        return f"{self.verdict} {self.held}/{self.of}"


@dataclass(frozen=True)
class Run:
    """The contents of one ``conformance.json``."""

    suite: str
    """The version of the suite; `core` is that of the toolkit."""
    core: str
    python: str
    seed: int
    seconds: float
    stores: Sequence[StoreReport]


class Results:
    """Gathers the results about one store, in whatever order they come."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.adapter = ""
        self.server = ""
        self._results: dict[tuple[str, Backend], ClauseResult] = {}

    def add(
        self, result: ClauseResult, adapter: str, server: str, limitations: Mapping[str, str]
    ) -> None:
        """Take in a result; a clause that failed once has failed."""
        self.subject = self.subject.explained(limitations)
        self.adapter = adapter or self.adapter
        self.server = server or self.server
        key = (result.id, result.backend)
        before = self._results.get(key)
        if before is None or before.result == "held":
            self._results[key] = result

    def report(self) -> StoreReport:
        """Compute the verdict: from what the harness says must hold, not from what was run."""
        due = {
            (id_, backend)
            for id_, meaning in self.subject.applying().items()
            if not isinstance(meaning, Answered)
            for backend in self.subject.backends
        }
        results = [result for key, result in sorted(self._results.items()) if key in due]
        held = {(one.id, one.backend) for one in results if one.result == "held"}
        kinds = {one.result for one in results}
        verdict: Verdict = "conformant" if held == due else "partial"
        if "failed" in kinds:
            verdict = "failed"
        elif "not-run" in kinds:
            verdict = "not-run"
        missing = [f"{id_}[{backend}]" for id_, backend in sorted(due - held)]
        return StoreReport(
            self.subject,
            self.adapter,
            self.server,
            verdict,
            len(held),
            len(due),
            missing,
            results,
        )


def outcome_property(harness: type[Harness], outcome: Outcome) -> dict[str, Any]:
    """Put an outcome into a form that can travel between processes."""
    result = ClauseResult(
        outcome.clause.id, outcome.backend, outcome.result, outcome.reason, outcome.seconds
    )
    return {
        "subject": asdict(Subject.of(harness)),
        "result": asdict(result),
        "adapter": outcome.adapter,
        "server": outcome.server,
        "limitations": outcome.limitations,
    }


def to_json(reports: Iterable[StoreReport], seed: int, seconds: float) -> str:
    """Write reports as the text of ``conformance.json``."""
    value = {
        "format": FORMAT,
        "suite": metadata.version("eventport-conformance"),
        "core": metadata.version("eventport"),
        "python": platform.python_version(),
        "seed": seed,
        "seconds": round(seconds, 1),
        "stores": [asdict(report) for report in reports],
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def from_json(path: Path) -> Run:
    """Read a ``conformance.json``."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if value.pop("format", None) != FORMAT:
        message = f"{path} is no conformance.json of format {FORMAT}"
        raise ValueError(message)
    value["stores"] = [_store_report(store) for store in value["stores"]]
    return Run(**value)


def _store_report(value: dict[str, Any]) -> StoreReport:
    fields: dict[str, Any] = {
        **value,
        "subject": Subject.from_json(value["subject"]),
        "clauses": [ClauseResult(**one) for one in value["clauses"]],
    }
    return StoreReport(**fields)


def _written(answer: Answer) -> tuple[str, str]:
    match answer:
        case Supported():
            return "supported", ""
        case Unsupported(reason):
            return "unsupported", reason
        case Planned(issue):
            return "planned", issue


def _read(kind: str, why: str) -> Answer:
    match kind:
        case "supported":
            return Supported()
        case "unsupported":
            return Unsupported(why)
        case _:
            return Planned(why)
