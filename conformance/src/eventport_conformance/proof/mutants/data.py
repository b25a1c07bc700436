"""Mutants that change the data, metadata, ids and times of events."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

import math

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any
from unicodedata import normalize
from uuid import UUID

from eventport import (
    AppendResult,
    ConcurrencyError,
    Expectation,
    InvalidEventError,
    NewEvent,
    PayloadTooLargeError,
    RecordedEvent,
)
from eventport.adapter import encode_events

from eventport_conformance.proof.mutants.base import (
    changed,
    mutant,
)
from eventport_conformance.proof.reference_store import ReferenceStore


def _uuid(value: Any) -> Any:
    return UUID(value) if isinstance(value, str) else value


class _Changing(ReferenceStore):
    """A store that changes data on its way out."""

    def change(self, value: Any) -> Any:
        return value

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        event = super().hand_out(event)
        return changed(event, data=self._walk(event.data), metadata=self._walk(event.metadata))

    def _walk(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        return self.change(value)


@mutant("DAT-04", "DAT-05")
class WholeFloatsBecomeIntegers(_Changing):
    """It returns 1 for 1.0."""

    def change(self, value: Any) -> Any:
        return int(value) if isinstance(value, float) and value.is_integer() else value


@mutant("DAT-04")
class NegativeZeroLost(_Changing):
    """It returns 0.0 for -0.0."""

    def change(self, value: Any) -> Any:
        return 0.0 if isinstance(value, float) and value == 0 else value


@mutant("DAT-02")
class IntegersAsDoubles(_Changing):
    """It keeps integers as doubles, as JavaScript does."""

    def change(self, value: Any) -> Any:
        return int(float(value)) if type(value) is int else value


@mutant("DAT-05")
class BoolsAsNumbers(_Changing):
    """It returns 1 for True."""

    def change(self, value: Any) -> Any:
        return int(value) if isinstance(value, bool) else value


@mutant("DAT-08")
class NumbersInTextRevived(_Changing):
    """It turns text that looks like a number into one."""

    def change(self, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value


@mutant("DAT-07")
class NullsStripped(_Changing):
    """It loses U+0000 in text."""

    def change(self, value: Any) -> Any:
        return value.replace("\0", "") if isinstance(value, str) else value


@mutant("DAT-06")
class TextNormalized(_Changing):
    """It normalizes text."""

    def change(self, value: Any) -> Any:
        return normalize("NFC", value) if isinstance(value, str) else value


@mutant("DAT-14", "GLO-23")
class BytesAsText(_Changing):
    """It returns text for bytes that are UTF-8."""

    def change(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode("utf-8", errors="replace")
        return value


@mutant("DAT-10")
class KeysSorted(ReferenceStore):
    """It sorts the keys of objects, as a binary JSON column does."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        event = super().hand_out(event)
        if isinstance(event.data, dict):
            return changed(event, data=dict(sorted(event.data.items())))
        return event


@mutant("DAT-11")
class OddKeysLost(ReferenceStore):
    """It loses keys that start with a dollar."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        event = super().hand_out(event)
        if isinstance(event.data, dict):
            kept = {key: item for key, item in event.data.items() if not key.startswith("$")}
            return changed(event, data=kept)
        return event


@mutant("DAT-15", "GLO-23")
class MetadataLost(ReferenceStore):
    """It does not keep metadata."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        return changed(super().hand_out(event), metadata={})


@mutant("DAT-16")
class MetadataOverrides(ReferenceStore):
    """It mixes metadata with its own fields."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        event = super().hand_out(event)
        return changed(event, position=event.metadata.get("position", event.position))


@mutant("DAT-20", "SES-19")
class Aliased(ReferenceStore):
    """It keeps the caller's objects."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        listed = list(events) if isinstance(events, Iterator) else events
        encode_events(listed)
        return list(listed)


@mutant("DAT-21")
class HandsOutItsOwn(ReferenceStore):
    """It returns its own objects to readers."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        return event


@mutant("DAT-17")
class IdsMadeAnew(ReferenceStore):
    """It returns events ids of its own."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        return changed(super().hand_out(event), id=UUID(int=event.position))


@mutant("DAT-18")
class NaiveTimes(ReferenceStore):
    """Its times do not know their zone."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        return changed(super().hand_out(event), recorded_at=event.recorded_at.replace(tzinfo=None))


@mutant("DAT-19")
class Milliseconds(ReferenceStore):
    """It truncates its times to milliseconds."""

    def hand_out(self, event: RecordedEvent) -> RecordedEvent:
        time: datetime = event.recorded_at
        cut = time.replace(microsecond=time.microsecond // 1000 * 1000)
        return changed(super().hand_out(event), recorded_at=cut)


class _Lenient(ReferenceStore):
    """A store that takes in what JSON libraries take in."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        if not isinstance(events, list) or any(type(event) is not NewEvent for event in events):
            return super().take_in(events)
        taken = [NewEvent(e.type, self.mend(e.data), self.mend(e.metadata), e.id) for e in events]
        return super().take_in(taken)

    def mend(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.mend(item) for key, item in value.items()}
        return [self.mend(item) for item in value] if isinstance(value, list) else value


@mutant("DAT-27")
class TuplesBecomeLists(_Lenient):
    """It takes tuples, and returns lists."""

    def mend(self, value: Any) -> Any:
        return super().mend(list(value) if isinstance(value, tuple) else value)


@mutant("DAT-23", "APP-09", "ARG-11")
class NanBecomesNull(_Lenient):
    """It takes NaN, and returns None."""

    def mend(self, value: Any) -> Any:
        return None if isinstance(value, float) and math.isnan(value) else super().mend(value)


@mutant("DAT-25")
class KeysBecomeText(_Lenient):
    """It takes keys that are no text, and returns text."""

    def mend(self, value: Any) -> Any:
        if isinstance(value, dict):
            value = {str(key): item for key, item in value.items()}
        return super().mend(value)


@mutant("DAT-22")
class LargeIntegersWrap(_Lenient):
    """It takes integers of any size, and returns what is left of them."""

    def mend(self, value: Any) -> Any:
        return value % 2**63 if type(value) is int and value >= 2**63 else super().mend(value)


@mutant("DAT-24")
class SurrogatesReplaced(_Lenient):
    """It takes lone surrogates, and returns question marks."""

    def mend(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.encode(errors="replace").decode()
        return super().mend(value)


@mutant("DAT-32")
class IdsFromText(ReferenceStore):
    """It takes the text of a UUID for an id."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        if isinstance(events, list) and all(isinstance(event, NewEvent) for event in events):
            events = [NewEvent(e.type, e.data, e.metadata, _uuid(e.id)) for e in events]
        return super().take_in(events)


@mutant("DAT-33")
class RefusalsQuoteData(ReferenceStore):
    """It quotes the event that it refuses."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        try:
            return super().take_in(events)
        except InvalidEventError as exc:
            message = f"{exc}: {events}"
            raise InvalidEventError(message) from exc


@mutant("DAT-33")
class ConflictsQuoteData(ReferenceStore):
    """It notes the event that it had to leave out on the error of a conflict."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        try:
            return await super().append_now(stream, events, expected)
        except ConcurrencyError as exc:
            exc.add_note(f"not written: {events}")
            raise


@mutant("DAT-34")
class RefusedSizesQuoteData(ReferenceStore):
    """It quotes what a too large append begins with, as some drivers do."""

    def take_in(self, events: Iterable[NewEvent]) -> list[NewEvent]:
        try:
            return super().take_in(events)
        except PayloadTooLargeError as exc:
            message = f"{exc}: {[*events]!r:.500}"
            raise PayloadTooLargeError(message) from exc
