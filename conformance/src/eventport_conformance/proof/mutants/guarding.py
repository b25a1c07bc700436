"""Mutants whose queries find the wrong events, and whose conditions hold when they should not."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from typing import Any

from anyio.lowlevel import checkpoint

from eventport import (
    AppendResult,
    BoundaryError,
    Expectation,
    Match,
    NewEvent,
    Query,
    QueryResult,
    RecordedEvent,
)

from eventport_conformance.proof.mutants.base import mutant
from eventport_conformance.proof.reference_data import STEP
from eventport_conformance.proof.reference_session import ReferenceSession
from eventport_conformance.proof.reference_store import ReferenceStore


@mutant("QRY-01", "QRY-06", "QRY-10", "GRD-04")
class TagsAreAlternatives(ReferenceStore):
    """It takes the tags of a match for alternatives."""

    def meets(self, match: Match, event: RecordedEvent) -> bool:
        typed = not match.types or event.type in match.types
        return typed and (not match.tags or bool(match.tags & event.tags))


@mutant("QRY-01", "QRY-02", "GRD-04")
class MatchesMustAllHold(ReferenceStore):
    """It wants an event to meet all matches of a query."""

    def covers(self, query: Query, event: RecordedEvent) -> bool:
        return query.matches is None or all(self.meets(one, event) for one in query.matches)


@mutant("QRY-01", "GRD-04", "GRD-12")
class TypesOfAMatchIgnored(ReferenceStore):
    """It looks for tags alone, and finds nothing without any."""

    def meets(self, match: Match, event: RecordedEvent) -> bool:
        return bool(match.tags) and match.tags <= event.tags


@mutant("QRY-03", "QRY-04")
class QueriesBeginTooEarly(ReferenceStore):
    """Its queries begin with the event at `after`."""

    def find(self, query: Query, after: int, most: int | None, **order: bool) -> QueryResult:
        return super().find(query, max(after - STEP, 0), most, **order)


@mutant("QRY-08")
class QueriesOfSubscriptionsIgnored(ReferenceStore):
    """Its subscriptions give all events, whatever is asked for."""

    def new_subscription(self, after: int, wanted: Any) -> Any:
        return super().new_subscription(after, type(wanted)(wanted.types, wanted.prefix))


@mutant("GRD-06")
class TheHeadIsTheToken(ReferenceStore):
    """Its token is the head of the store, however little was given."""

    def find(self, query: Query, after: int, most: int | None, **order: bool) -> QueryResult:
        found = super().find(query, after, most, **order)
        return QueryResult(found.events, found.position, f"seen-{self.last_position()}")


@mutant("GRD-05")
class TheLastEventIsTheToken(ReferenceStore):
    """Its token is the lowest position that was given, even backwards."""

    def find(self, query: Query, after: int, most: int | None, **order: bool) -> QueryResult:
        found = super().find(query, after, most, **order)
        seen = found.events[-1].position if found.events else after
        return QueryResult(found.events, found.position, f"seen-{seen}")


@mutant("GRD-12", "GRD-14", "GRD-15")
class CheckedBeforeTheLock(ReferenceStore):
    """It checks a condition, and writes later: others may write in between."""

    async def append_if(
        self,
        stream: str,
        events: list[NewEvent],
        expected: Expectation,
        unless: Query,
        since: str | None,
    ) -> AppendResult:
        self.check_condition(unless, since)
        await checkpoint()
        return await self.append_now(stream, events, expected)


@mutant("GRD-04", "GRD-12", "GRD-14")
class TypesAloneUnlocked(ReferenceStore):
    """It does not check what names no tag."""

    def check_condition(self, unless: Query, since: str | None) -> None:
        if unless.matches and all(match.tags for match in unless.matches):
            super().check_condition(unless, since)


@mutant("GRD-02", "GRD-13")
class AnyCommitIsAConflict(ReferenceStore):
    """It takes every event that came after the token for a conflict."""

    def check_condition(self, unless: Query, since: str | None) -> None:
        for event in self.after(self.seen_since(since)):
            if since is not None or self.covers(unless, event):
                raise BoundaryError(unless, event)


@mutant("GRD-08")
class RetryConflictsWithItself(ReferenceStore):
    """It takes the events of an earlier try for those of somebody else."""

    async def append_if(
        self,
        stream: str,
        events: list[NewEvent],
        expected: Expectation,
        unless: Query,
        since: str | None,
    ) -> AppendResult:
        self.check_condition(unless, since)
        return await self.append_now(stream, events, expected)


@mutant("GRD-09")
class HalfIsEnough(ReferenceStore):
    """It takes an append for written if the first event that it missed is one of its own."""

    def earlier(self, stream: str, expected: Expectation, events: Any) -> AppendResult | None:
        found = super().earlier(stream, expected, events)
        if found is None and expected not in {"any", "no_stream"} and len(events) > 1:
            return AppendResult(self.head(stream), None, created=False, deduplicated=True)
        return found


@mutant("GRD-03")
class TheLastIsNamed(ReferenceStore):
    """Its error has the last event that was missed."""

    def check_condition(self, unless: Query, since: str | None) -> None:
        missed = [
            event for event in self.after(self.seen_since(since)) if self.covers(unless, event)
        ]
        if missed:
            raise BoundaryError(unless, missed[-1])


class _WithSession(ReferenceStore):
    """A store with a session of its own."""

    unit: type[ReferenceSession]

    def new_session(self) -> ReferenceSession:
        return self.unit(self)


class _Trusting(ReferenceSession):
    def check_guards(self) -> None:
        """Check nothing."""


@mutant("SES-34", "SES-36", "SES-38", "SES-41", "SES-43", "SES-10")
class GuardsForgotten(_WithSession):
    """Its sessions check what they expect when they are asked, and never again."""

    unit = _Trusting


@mutant("GRD-21")
class ConditionsFirst(ReferenceStore):
    """It checks a condition before what is expected of the stream."""

    async def append_if(
        self,
        stream: str,
        events: list[NewEvent],
        expected: Expectation,
        unless: Query,
        since: str | None,
    ) -> AppendResult:
        earlier = self.meet_condition(stream, events, unless, since)
        return earlier or await self.append_now(stream, events, expected)


class _QueriesFirst(ReferenceSession):
    def check_pins(self) -> None:
        self.check_guards()
        super().check_pins()


@mutant("GRD-21", "GRD-22")
class QueriesOfSessionsFirst(_WithSession):
    """Its sessions check what they queried before the streams that they write."""

    unit = _QueriesFirst


class _Hasty(ReferenceSession):
    async def commit(self) -> None:
        if self.writes:
            self.check_guards()
            self.expected, self.queried = [], []
            await checkpoint()
        await super().commit()


@mutant("SES-39")
class GuardsBeforeTheLock(_WithSession):
    """Its sessions check what they expect, and write later."""

    unit = _Hasty


class _Pinning(ReferenceSession):
    def expect(self, stream: str, expected: Expectation) -> None:
        super().expect(stream, self.head(stream) if stream not in self.own else expected)


@mutant("SES-35")
class ExistingIsExact(_WithSession):
    """Its sessions want a stream to stay at its version, of which they expect that it exists."""

    unit = _Pinning


class _Idle(ReferenceSession):
    async def commit(self) -> None:
        if self.writes:
            await super().commit()


@mutant("SES-38", "SES-41")
class ReadersLookAtNothing(_WithSession):
    """Its sessions that append nothing end without a look."""

    unit = _Idle


class _BlindQuery(ReferenceSession):
    async def query(self, query: Query, /, **asked: Any) -> QueryResult:
        found = await super().query(query, **asked)
        events = [event for event in found.events if event.position]
        return QueryResult(events, found.position, found.token)


@mutant("SES-42")
class OwnEventsNotQueried(_WithSession):
    """Queries in its sessions do not give the session's own events."""

    unit = _BlindQuery
