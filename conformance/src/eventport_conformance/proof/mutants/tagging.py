"""Mutants that change, lose or leak tags."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from collections.abc import Iterable
from unicodedata import normalize

from eventport import InvalidEventError, NewEvent, RecordedEvent

from eventport_conformance.proof.mutants.base import Subscribing, changed, mutant
from eventport_conformance.proof.reference_session import ReferenceSubscription
from eventport_conformance.proof.reference_store import ReferenceStore


class _Retagging(ReferenceStore):
    """A store that changes tags on their way out."""

    def retag(self, tags: frozenset[str]) -> Iterable[str]:
        return tags

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        event = super().hand_out(event)
        return changed(event, tags=frozenset(self.retag(event.tags)))


@mutant("TAG-01", "TAG-05", "TAG-08", "TAG-09")
class TagsLost(_Retagging):
    """It stores no tags."""

    def retag(self, tags: frozenset[str]) -> Iterable[str]:
        return tags - tags


class _Forgetful(ReferenceSubscription):
    """Once it has waited, it loses tags."""

    def find(self) -> RecordedEvent | None:
        event = super().find()
        return changed(event, tags=frozenset()) if event and self.caught_up.is_set() else event


@mutant("TAG-05")
class LiveTagsLost(Subscribing):
    """A subscription that has waited hands out no tags."""

    subscription = _Forgetful


@mutant("TAG-01")
class TagsNormalised(_Retagging):
    """It takes tags for equal that only look alike."""

    def retag(self, tags: frozenset[str]) -> Iterable[str]:
        return (normalize("NFC", tag).strip() for tag in tags)


@mutant("TAG-01")
class TagsSplit(_Retagging):
    """It keeps tags in one text, separated by commas."""

    def retag(self, tags: frozenset[str]) -> Iterable[str]:
        return [tag for tag in ",".join(sorted(tags)).split(",") if tag]


class _Untagging(ReferenceSubscription):
    """A subscription that loses the tags of what it has waited for."""

    has_waited = False

    async def wait(self, seen: int) -> None:
        await super().wait(seen)
        self.has_waited = True

    def find(self) -> RecordedEvent | None:
        event = super().find()
        if event is None or not self.has_waited:
            return event
        return changed(event, tags=frozenset[str]())


@mutant("TAG-05")
class TagsLostLive(Subscribing):
    """It hands out live events without their tags."""

    subscription = _Untagging


@mutant("TAG-03")
class TagsCut(_Retagging):
    """It keeps 64 characters of a tag."""

    def retag(self, tags: frozenset[str]) -> Iterable[str]:
        return (tag[:64] for tag in tags)


@mutant("TAG-04")
class TagsShownInErrors(ReferenceStore):
    """It quotes a bad tag in its error."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        try:
            return super().take_in(events)
        except InvalidEventError as exc:
            message = f"{exc}: {[event.tags for event in events]!a}"
            raise InvalidEventError(message) from exc
