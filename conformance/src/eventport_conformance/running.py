"""Running one clause against one store, and putting into words what came of it."""

from __future__ import annotations

import math
import textwrap
import time
import traceback

from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import anyio

from eventport import Capability

from eventport_conformance.capabilities import Unsupported
from eventport_conformance.clause import Clause, MustFail
from eventport_conformance.trial import Deviation, Trial


if TYPE_CHECKING:
    from eventport import EventStore

    from eventport_conformance.harness import Backend, Harness


Result: TypeAlias = Literal["held", "failed", "planned", "not-run"]

OPENING_SECONDS: Final = 180.0
"""How long a harness may take to open a store."""


@dataclass(frozen=True)
class Outcome:
    """What came of one clause on one event loop."""

    clause: Clause
    backend: Backend
    result: Result
    seconds: float
    reason: str = ""
    """Why it did not hold, in one line."""
    details: str = ""
    """All that there is to say about it."""
    adapter: str = ""
    """The distribution that the store is from, and its version."""
    server: str = ""
    """The server of the store."""
    limitations: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why the store cannot do the rest, in its own words, by the name of the capability."""


class _NotOpenedError(Exception):
    """The harness could not open a store; the cause says why."""


def run_clause(
    harness: type[Harness],
    clause: Clause,
    backend: Backend,
    *,
    seed: int = 0,
    must_fail: MustFail | None = None,
) -> Outcome:
    """Run one clause on a new, empty store."""
    run = _Run(harness, clause, backend, seed)
    started = time.perf_counter()
    failure: BaseException | None = None
    if find_spec(backend) is None:
        reason = f"{backend} is not installed: install it, or take it out of the harness's backends"
        return not_run(clause, backend, reason)
    try:
        anyio.run(run.main, backend=backend)
    except (Exception, BaseExceptionGroup) as exc:  # noqa: BLE001  # this is where failures end
        failure = exc
    seconds = time.perf_counter() - started
    result, reason, details = run.judge(failure, must_fail)
    return Outcome(
        clause,
        backend,
        result,
        seconds,
        reason,
        details,
        run.adapter,
        run.harness.server,
        run.limitations,
    )


def not_run(clause: Clause, backend: Backend, reason: str) -> Outcome:
    """Return the outcome of a clause that could not be tried."""
    head = f"{clause.id} was not run: {reason}"
    return Outcome(clause, backend, "not-run", 0.0, reason, head)


class _Run:
    def __init__(self, harness: type[Harness], clause: Clause, backend: Backend, seed: int) -> None:
        self.harness = harness()
        self.clause = clause
        self.backend: Final = backend
        self.seed = seed
        self.adapter = ""
        self.limitations: Mapping[str, str] = {}
        self.trial: Trial | None = None

    async def main(self) -> None:
        # The limit is around everything, so that a harness may leave a task group open.
        limit = anyio.current_time() + OPENING_SECONDS
        with anyio.CancelScope(deadline=limit) as opening:
            async with AsyncExitStack() as stack:
                try:
                    store = await stack.enter_async_context(self.harness.open())
                except Exception as exc:
                    raise _NotOpenedError from exc
                opening.deadline = math.inf
                await self._test(store)
        if opening.cancelled_caught:
            message = f"it took longer than {OPENING_SECONDS:g} seconds"
            raise _NotOpenedError from TimeoutError(message)

    async def _test(self, store: EventStore) -> None:
        self.adapter = _distribution(type(store).__module__.partition(".")[0])
        self.limitations = limitations_of(store)
        self._check_reasons(store)
        self.trial = Trial(self.harness, store, self.backend, self.seed)
        with anyio.move_on_after(self.clause.seconds) as scope:
            await self.clause.body(self.trial)
        if scope.cancelled_caught:
            limit = f"{self.clause.seconds:g} seconds"
            raise Deviation("the test came to an end", f"within {limit}", "it hangs")

    def _check_reasons(self, store: EventStore) -> None:
        """Raise unless there is a reason for all that the store cannot do."""
        claimed = {capability.value for capability in getattr(store, "capabilities", ())}
        for feature, answer in self.harness.capabilities.answers().items():
            if answer == Unsupported() and not self.limitations.get(feature):
                where = type(self.harness).__qualname__
                message = (
                    f"{where} says {feature}=Unsupported() without a reason, and the store's "
                    f"`limitations` have none either: add one there"
                )
                if feature in claimed:
                    message = f"the store claims {feature}: name it in {where}.capabilities"
                raise _NotOpenedError from ValueError(message)

    def judge(
        self, failure: BaseException | None, must_fail: MustFail | None
    ) -> tuple[Result, str, str]:
        if isinstance(failure, _NotOpenedError):
            cause = failure.__cause__ or failure
            reason = f"no store could be opened: {type(cause).__name__}: {cause}"
            return "not-run", reason, self._report(reason, None, cause, "was not run")
        if must_fail is not None:
            if failure is not None:
                return "planned", must_fail.issue, ""
            reason = f"it is Planned({must_fail.issue!r}), but it holds: say Supported()"
            return "failed", reason, self._report(reason, None, None)
        if failure is None:
            return "held", "", ""
        deviation = next(_deviations(failure), None)
        if deviation is not None:
            return "failed", str(deviation), self._report("", deviation, None)
        cause = _first(failure)
        reason = f"{type(cause).__name__}: {cause}"
        return "failed", reason, self._report(reason, None, failure)

    def _report(
        self,
        reason: str,
        deviation: Deviation | None,
        error: BaseException | None,
        what: str = "does not hold",
    ) -> str:
        clause = self.clause
        rows = [("Clause", f"{clause.id}: {clause.sentence}")]
        if self.trial is not None:
            rows.append(("Done", "\n".join(self.trial.steps.lines()) or "nothing"))
        found = getattr(deviation or error, "__notes__", None)  # Hypothesis puts the example there
        if found:
            rows.append(("Example", "\n".join(found)))
        if deviation is not None:
            rows += [
                ("Looked at", deviation.what),
                ("Expected", deviation.expected),
                ("Seen", deviation.seen),
            ]
        else:
            rows.append(("Seen", reason))
        place = deviation or error
        if place is not None and (line := _line_of(clause, place)):
            rows.append(("Test", line))
        rows.append(("Read", f"all of {clause.group} in `eventport-conformance spec`"))
        head = f"{clause.id} {what} on {self.harness.name} ({self.backend})"
        text = "\n".join([head, *(_row(name, value) for name, value in rows)])
        if error is not None:
            text += "\n\n" + "".join(traceback.format_exception(error))
        return text


def limitations_of(store: EventStore) -> Mapping[str, str]:
    """Return why a store cannot do the rest, in its own words, if it has any."""
    given: Mapping[Capability, str] = getattr(store, "limitations", {})
    return {capability.value: reason for capability, reason in given.items()}


def _row(name: str, value: str) -> str:
    return textwrap.indent(value, " " * 13).replace(" " * 13, f"  {name + ':':<11}", 1)


def _deviations(error: BaseException) -> Iterator[Deviation]:
    if isinstance(error, Deviation):
        yield error
    elif isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _deviations(inner)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _line_of(clause: Clause, error: BaseException) -> str:
    """Find the line of the test that did not get its way."""
    code = getattr(clause.body, "__code__", None)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if code is not None and frame.filename == code.co_filename:
            return f"{frame.filename}:{frame.lineno}"
    return ""


@cache  # it reads the metadata of all that is installed, which takes longer than most clauses
def _distribution(package: str) -> str:
    """Name the distribution that a package is from, and its version."""
    # An editable installation lists no files; there the names usually differ in a dash only.
    names = metadata.packages_distributions().get(package) or [package.replace("_", "-")]
    try:
        return f"{names[0]} {metadata.version(names[0])}"
    except metadata.PackageNotFoundError:
        return ""
