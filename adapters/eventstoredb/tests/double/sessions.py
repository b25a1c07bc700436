"""Protocol v2 in front of a double: commits over several streams."""

from __future__ import annotations

import json

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from adapters.eventstoredb.tests.double.database import (
    ANY,
    EXISTS,
    NO_STREAM,
    Appended,
    Database,
    Proposed,
    StreamDeleted,
    WrongExpectedVersion,
)
from adapters.eventstoredb.tests.double.stubs import v2


if TYPE_CHECKING:
    from adapters.eventstoredb.tests.double.state import Double


DELETED: Final = -5
TOMBSTONED: Final = -6
_RECORD_LIMIT: Final = 16 * 1024 * 1024
_LARGEST_RECORD: Final = _RECORD_LIMIT - 10_240
"""What really fits: the log wants a little for itself, and fails in another way."""
_REQUEST_LIMIT: Final = 30_000_000
_INVALID: Final = "INVALID_ARGUMENT"
_HANDLER: Final = "Exception was thrown by handler."


class Refusal(Exception):  # noqa: N818  # it is what the server answers
    """An answer that is an error."""

    def __init__(self, code: str, message: str, *details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.details = details

    @classmethod
    def invalid(cls, message: str, what: str = "AppendRequest") -> Refusal:
        """Make the one for a request that is none."""
        return cls(_INVALID, f"The '{what}' is invalid: {message}", v2.bad_request())


class Sessions:
    """Protocol v2."""

    def __init__(self, double: Double) -> None:
        self._double = double

    async def AppendSession(self, requests: AsyncIterator[Any], context: Any) -> Any:  # noqa: N802  # its name on the wire
        double = self._double
        fault = await double.meet("AppendSession", context)
        asked = [request async for request in requests]
        try:
            self._check_session(asked)
            return await double.do(fault, context, lambda: self._append_session(asked))
        except Refusal as exc:
            await context.abort(*v2.rich(exc.code, str(exc), *exc.details))

    def _check_session(self, asked: Sequence[Any]) -> None:
        if not asked:
            text = "Append session started, but no append requests were sent before ending it."
            raise Refusal("FAILED_PRECONDITION", text)
        seen: set[str] = set()
        for one in asked:
            if not one.records:
                raise Refusal.invalid("Stream append request must contain at least one record")
            if one.stream.lower() in seen:
                detail = v2.errors.StreamAlreadyInAppendSessionErrorDetails(stream=one.stream)
                text = f"Stream '{one.stream}' is already part of this append session."
                raise Refusal("ABORTED", text, detail)
            seen.add(one.stream.lower())
            self._check_records(one.records, one.stream)

    def _append_session(self, asked: Sequence[Any]) -> Any:
        database = self._double.database
        writes = [(one.stream, list(map(_to_proposed, one.records))) for one in asked]
        expected = [
            one.expected_revision if one.HasField("expected_revision") else ANY for one in asked
        ]
        try:
            earlier = _earlier(
                database, dict(writes), dict(zip(dict(writes), expected, strict=True))
            )
            if earlier is None:
                for (stream, _), revision in zip(writes, expected, strict=True):
                    database.check(stream, revision)
        except WrongExpectedVersion as exc:
            detail = v2.errors.StreamRevisionConflictErrorDetails(
                stream=exc.stream, expected_revision=exc.expected, actual_revision=exc.current
            )
            text = f"Append failed due to a revision conflict on stream '{exc.stream}'."
            raise Refusal("FAILED_PRECONDITION", text, detail) from exc
        except StreamDeleted as exc:
            detail = v2.errors.StreamTombstonedErrorDetails(stream=exc.stream)
            text = f"Stream '{exc.stream}' has been tombstoned."
            raise Refusal("FAILED_PRECONDITION", text, detail) from exc
        revisions, position = earlier or _write(database, writes)
        output = [
            v2.streams.AppendResponse(stream=stream, stream_revision=revision)
            for stream, revision in revisions.items()
        ]
        return v2.streams.AppendSessionResponse(output=output, position=position)

    async def AppendRecords(self, request: Any, context: Any) -> Any:  # noqa: N802  # its name on the wire
        double = self._double
        if not double.rules.records:
            await context.abort(*v2.rich("UNIMPLEMENTED", "Method is unimplemented."))
        fault = await double.meet("AppendRecords", context)
        try:
            self._check_request(request)
            return await double.do(fault, context, lambda: self._append_records(request))
        except Refusal as exc:
            await context.abort(*v2.rich(exc.code, str(exc), *exc.details))

    def _check_request(self, request: Any) -> None:
        what = "AppendRecordsRequest"
        if request.ByteSize() > _REQUEST_LIMIT:
            raise Refusal("UNKNOWN", _HANDLER)
        if not request.records:
            raise Refusal.invalid("Append records request must contain at least one record.", what)
        seen: set[str] = set()
        for check in request.checks:
            stream, state = check.stream_state.stream, check.stream_state.expected_state
            if stream.lower() in seen:
                text = "Each stream can only appear once in consistency checks."
                raise Refusal.invalid(text, what)
            seen.add(stream.lower())
            if state < 0 and state not in {NO_STREAM, EXISTS, DELETED, TOMBSTONED}:
                text = "Expected state must be positive or one of the allowed constants: NoStream"
                raise Refusal.invalid(text, what)
        for record in request.records:
            self._check_records([record], record.stream)

    def _check_records(self, records: Sequence[Any], stream: str) -> None:
        if not stream:
            raise Refusal("UNKNOWN", _HANDLER)
        if stream == "$$":
            raise Refusal.invalid("Stream must not be '$$'.")
        for record in records:
            if problem := self._double.rules.type_problem(record.schema.name):
                raise Refusal.invalid(problem)
            if "" in record.properties:
                raise Refusal.invalid("Property keys must not be empty.")
            if not _is_id(record.record_id):
                raise Refusal.invalid("Record ID must be a valid and non-empty UUID.")
            size = len(record.data)
            if size >= _RECORD_LIMIT:
                detail = v2.errors.AppendRecordSizeExceededErrorDetails(
                    stream=stream, record_id=record.record_id, size=size, max_size=_RECORD_LIMIT
                )
                text = f"The size of record {record.record_id} exceeds the maximum allowed size"
                raise Refusal(_INVALID, text, detail)
            if size > _LARGEST_RECORD:
                raise Refusal("UNKNOWN", _HANDLER)

    def _append_records(self, request: Any) -> Any:
        database = self._double.database
        # The server compares names by their letters alone, and the first spelling stands for all.
        names: dict[str, str] = {}
        expected: dict[str, int] = {}
        for check in request.checks:
            state = check.stream_state
            expected[names.setdefault(state.stream.lower(), state.stream)] = state.expected_state
        writes: list[tuple[str, list[Proposed]]] = []
        together: dict[str, list[Proposed]] = {}
        for record in request.records:
            stream = names.setdefault(record.stream.lower(), record.stream)
            writes.append((stream, [_to_proposed(record)]))
            together.setdefault(stream, []).append(_to_proposed(record))
        earlier = _earlier(database, together, expected)
        if earlier is None and (violations := _violations(database, expected, list(together))):
            detail = v2.errors.AppendConsistencyViolationErrorDetails(violations=violations)
            text = "Append failed due to consistency violations."
            raise Refusal("FAILED_PRECONDITION", text, detail)
        revisions, position = earlier or _write(database, writes)
        return v2.streams.AppendRecordsResponse(
            revisions=[
                v2.streams.StreamRevision(stream=stream, revision=revision)
                for stream, revision in revisions.items()
            ],
            position=position,
        )


def _write(
    database: Database, writes: Sequence[tuple[str, list[Proposed]]]
) -> tuple[dict[str, int], int]:
    position = database.write(writes)
    return {stream: database.stream(stream).head for stream, _ in writes}, position


def _earlier(
    database: Database, writes: dict[str, list[Proposed]], expected: dict[str, int]
) -> tuple[dict[str, int], int] | None:
    """Find an earlier try of a whole commit."""
    found: dict[str, Appended] = {}
    for stream, events in writes.items():
        if database.stream(stream).tombstoned:
            return None
        try:
            earlier = database.earlier(stream, expected.get(stream, ANY), events)
        except WrongExpectedVersion:
            return None
        if earlier is None:
            return None
        found[stream] = earlier
    revisions = {stream: one.revision for stream, one in found.items()}
    return revisions, max(one.position for one in found.values())


def _violations(database: Database, expected: dict[str, int], written: Sequence[str]) -> list[Any]:
    """Find the checks of a commit that do not hold; a stream that is written is always checked."""
    failures: list[Any] = []
    states = {**expected, **{stream: ANY for stream in written if stream not in expected}}
    for index, (stream, state) in enumerate(states.items()):
        actual = _actual_state(database, stream, state)
        if stream in written and database.stream(stream).tombstoned:
            actual = TOMBSTONED
        if actual is not None:
            failure = v2.errors.ConsistencyViolation(check_index=index)
            failure.stream_state.stream = stream
            failure.stream_state.expected_state = state
            failure.stream_state.actual_state = actual
            failures.append(failure)
    return failures


def _actual_state(database: Database, stream: str, state: int) -> int | None:
    """Return what a stream is instead of what was expected; None if it is that."""
    found = database.stream(stream)
    if found.tombstoned:
        return None if state in {NO_STREAM, TOMBSTONED} else TOMBSTONED
    if found.soft_deleted:
        if state in {NO_STREAM, DELETED, ANY, found.head}:
            return None
        return DELETED if state == EXISTS else found.head
    try:
        database.check(stream, state)
    except WrongExpectedVersion:
        return found.head
    return None


def _is_id(text: str) -> bool:
    try:
        return UUID(text).int != 0
    except ValueError:
        return False


def _to_proposed(record: Any) -> Proposed:
    is_json = record.schema.format == v2.streams.SCHEMA_FORMAT_JSON
    return Proposed(
        record.record_id,
        record.schema.name,
        "application/json" if is_json else "application/octet-stream",
        record.data,
        render_properties(
            record.schema.name,
            {key: _value(value) for key, value in record.properties.items()},
            is_json=is_json,
        ),
    )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    return None if kind == "null_value" else getattr(value, kind)


def render_properties(event_type: str, properties: dict[str, Any], *, is_json: bool) -> bytes:
    """Make the metadata of an event that came through protocol v2."""
    own = {"$schema.name": event_type, "$schema.format": "Json" if is_json else "Bytes"}
    if not is_json or "$schema.format" in properties:
        own = dict(reversed(own.items()))
    given = {key: value for key, value in sorted(properties.items()) if key not in own}
    pairs = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in {**given, **own}.items()]
    return f"{{ {', '.join(pairs)} }}".encode()
