"""Builds the requests of both protocols."""

from __future__ import annotations

import math

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from eventport.adapter import MAX_INT, EncodedEvent
from eventport.errors import PayloadTooLargeError

from eventport_eventstoredb.vendor import Library
from eventport_eventstoredb.wire import BYTES, JSON, carried_type, envelope, plain_metadata


ANY: Final = -2
NO_STREAM: Final = -1
EXISTS: Final = -4
"""Special values of an expected revision, as the newer protocol writes them."""

UNREAL: Final = MAX_INT - 1
"""A revision that no stream has: an append that expects it is refused with the true one."""

_MESSAGE_LIMIT: Final = 16_767_216
"""The largest message of the older protocol that servers accept."""

_EVENT_LIMIT: Final = 16_700_000
"""The largest event of the newer protocol: a little below the 16 MiB that the log can hold."""

RECORDS_LIMIT: Final = 29_000_000
"""The largest request of `AppendRecords`: a little below the 30 MB at which the server fails.

Names of streams count, those that are only checked included."""

SESSION_LIMIT: Final = 120 * 1024 * 1024
"""The largest commit by `AppendSession` that was seen to succeed."""


@dataclass(frozen=True)
class AllRead:
    """A read of all streams."""

    commit_position: int | None
    """Where to begin; None for the start, or the end if it goes backwards."""
    limit: int
    pattern: str
    """What the server filters by."""
    by_stream: bool
    """Whether it filters names of streams, not types."""
    backwards: bool = False


def append_request(
    library: Library,
    stream: str,
    expected: int,
    events: Sequence[EncodedEvent],
    correlation: UUID,
    timeout: float,
) -> Any:
    """Make an append to one stream."""
    messages = library.streams.BatchAppendReq
    fraction, whole = math.modf(timeout)
    options = messages.Options(stream_identifier=_stream(library, stream))
    options.deadline.seconds, options.deadline.nanos = int(whole), int(fraction * 1e9)
    if expected == ANY:
        options.any.SetInParent()
    elif expected == NO_STREAM:
        options.no_stream.SetInParent()
    elif expected == EXISTS:
        options.stream_exists.SetInParent()
    else:
        options.stream_position = expected
    uuid = library.shared.UUID
    proposed = [
        messages.ProposedMessage(
            id=uuid(string=str(event.id)),
            metadata={
                "type": event.type,
                "content-type": JSON if isinstance(event.data, str) else BYTES,
            },
            custom_metadata=plain_metadata(event),
            data=_data(event),
        )
        for event in events
    ]
    return messages(
        correlation_id=uuid(string=str(correlation)),
        options=options,
        proposed_messages=proposed,
        is_final=True,
    )


def records_request(
    library: Library,
    writes: Sequence[tuple[str, Sequence[EncodedEvent]]],
    expected: dict[str, int],
) -> Any:
    """Make a commit over several streams, its events in any order."""
    messages = library.sessions
    checks = messages.ConsistencyCheck
    return messages.AppendRecordsRequest(
        records=[_record(library, event, stream) for stream, events in writes for event in events],
        checks=[
            checks(stream_state=checks.StreamStateCheck(stream=stream, expected_state=revision))
            for stream, revision in expected.items()
            if revision != ANY
        ],
    )


def session_requests(
    library: Library,
    writes: Sequence[tuple[str, Sequence[EncodedEvent]]],
    expected: dict[str, int],
) -> list[Any]:
    """Make a commit over several streams, one after the other."""
    return [
        library.sessions.AppendRequest(
            stream=stream,
            expected_revision=expected[stream],
            records=[_record(library, event, "") for event in events],
        )
        for stream, events in writes
    ]


def read_request(
    library: Library, stream: str, revision: int | None, limit: int, *, backwards: bool
) -> Any:
    """Make a read of one stream."""
    options = library.streams.ReadReq.Options()
    options.stream.stream_identifier.CopyFrom(_stream(library, stream))
    if revision is not None:
        options.stream.revision = revision
    elif backwards:
        options.stream.end.SetInParent()
    else:
        options.stream.start.SetInParent()
    options.count = limit
    options.no_filter.SetInParent()
    return _finished(library, options, backwards=backwards)


def read_all_request(library: Library, query: AllRead) -> Any:
    """Make a read of all streams."""
    options = library.streams.ReadReq.Options()
    position = query.commit_position
    if position is not None:
        options.all.position.commit_position = position
        options.all.position.prepare_position = position
    elif query.backwards:
        options.all.end.SetInParent()
    else:
        options.all.start.SetInParent()
    options.count = query.limit
    _filter(options, query.pattern, by_stream=query.by_stream)
    return _finished(library, options, backwards=query.backwards)


def follow_request(library: Library, pattern: str) -> Any:
    """Make a subscription to what is new in the streams whose names match."""
    options = library.streams.ReadReq.Options()
    options.all.end.SetInParent()
    options.subscription.SetInParent()
    _filter(options, pattern, by_stream=True)
    return _finished(library, options, backwards=False)


def check_size(events: Sequence[EncodedEvent], limit: int = _MESSAGE_LIMIT) -> None:
    """Refuse what no server accepts; sending it would end the connection."""
    sizes = [len(_data(event)) + len(event.metadata) for event in events]
    if sum(sizes) > limit:
        message = f"an append of {sum(sizes)} bytes is beyond the {limit} that servers accept"
        raise PayloadTooLargeError(message)
    if limit != _MESSAGE_LIMIT and max(sizes) > _EVENT_LIMIT:
        message = f"an event of {max(sizes)} bytes is beyond the {_EVENT_LIMIT} that servers accept"
        raise PayloadTooLargeError(message)


def check_message(request: Any, limit: int = _MESSAGE_LIMIT) -> None:
    """Refuse a request whose size would end the call, and with it all appends that it carries."""
    size: int = request.ByteSize()
    if size > limit:
        message = f"an append of {size} bytes is beyond the {limit} that servers accept"
        raise PayloadTooLargeError(message)


def _record(library: Library, event: EncodedEvent, stream: str) -> Any:
    type_ = carried_type(event.type)
    messages = library.sessions
    json, other = messages.SCHEMA_FORMAT_JSON, messages.SCHEMA_FORMAT_BYTES
    record = messages.AppendRecord(
        record_id=str(event.id),
        schema=messages.SchemaInfo(
            format=json if isinstance(event.data, str) else other, name=type_
        ),
        data=_data(event),
        stream=stream,
    )
    wrapped = envelope(event, event.type if type_ != event.type else None)
    for key, value in wrapped.items():
        record.properties[key].string_value = value
    return record


def _stream(library: Library, stream: str) -> Any:
    return library.shared.StreamIdentifier(stream_name=stream.encode())


def _filter(options: Any, pattern: str, *, by_stream: bool) -> None:
    chosen = options.filter.stream_identifier if by_stream else options.filter.event_type
    chosen.regex = f"^{pattern}$"
    # As the clients send it: how far the server scans before it reports its position.
    options.filter.max = 30
    options.filter.checkpointIntervalMultiplier = 5


def _finished(library: Library, options: Any, *, backwards: bool) -> Any:
    options.read_direction = int(backwards)
    options.uuid_option.string.SetInParent()
    return library.streams.ReadReq(options=options)


def _data(event: EncodedEvent) -> bytes:
    return event.data.encode() if isinstance(event.data, str) else event.data
