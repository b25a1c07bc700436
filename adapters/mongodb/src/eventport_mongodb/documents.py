"""Events to documents that users can query, and back: a document for each commit and stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final, cast
from uuid import UUID

import bson
import msgspec

from eventport import CorruptEventError, PayloadTooLargeError, RecordedEvent
from eventport.adapter import (
    Commit,
    EncodedEvent,
    StreamWrite,
    utc_from_microseconds,
    utc_to_microseconds,
)

from eventport_mongodb.driver import CODEC_OPTIONS, Document


MAX_BYTES: Final = 16 * 1024 * 1024
"""The size of the largest document that MongoDB keeps."""

_MAYBE_LARGE: Final = 1024 * 1024
"""JSON that is shorter than this cannot become a document that is too large."""

_MARK: Final = "\uff04"
"""A dollar sign of full width, put before keys that begin with a dollar sign.

MongoDB and its drivers give such keys meanings of their own: ``$ref`` makes a reference.
"""

_decode: Final = msgspec.json.Decoder().decode


def make_documents(commit: Commit, firsts: Sequence[int], position: int, at: int) -> list[Document]:
    """Make the documents of a commit, one for each stretch of events of the same stream.

    Args:
        commit: What is to be written.
        firsts: The version of the first event of each write.
        position: The position of the first event.
        at: The time of those that are no copies, in microseconds since 1970.

    Raises:
        PayloadTooLargeError: a document would be larger than MongoDB allows.
    """
    documents: list[Document] = []
    pairs = zip(commit.writes, firsts, strict=True)
    for stream, stretch in groupby(pairs, key=lambda pair: pair[0].stream):
        writes = list(stretch)
        # A stretch has one time, but for its copies.
        merged = StreamWrite(
            stream, "any", [event for write, _ in writes for event in write.events]
        )
        events, times = merged.events, merged.times(utc_from_microseconds(at))
        last = times[-1]
        document: Document = {
            "_id": position,
            "stream": stream,
            "version": writes[0][1],
            "count": len(events),
            "at": utc_to_microseconds(last),
            "events": [
                _encode(event, None if time == last else utc_to_microseconds(time))
                for event, time in zip(events, times, strict=True)
            ],
        }
        _check_size(document, (write for write, _ in writes))
        documents.append(document)
        position += len(events)
        at = max(at, document["at"])  # the stream may come again
    return documents


def head_of(document: Document) -> int:
    """Return the version of the last event of a document."""
    head: int = document["version"] + document["count"] - 1
    return head


def end_of(document: Document) -> int:
    """Return the position of the last event of a document."""
    end: int = document["_id"] + document["count"] - 1
    return end


def times_of(document: Document) -> list[datetime]:
    """Return the time of each event of a document."""
    at = document["at"]
    return [utc_from_microseconds(event.get("at", at)) for event in document["events"]]


def decode_document(document: Document) -> list[RecordedEvent]:
    """Return the events of a document."""
    try:
        position, version = document["_id"], document["version"]
        stream, time = document["stream"], utc_from_microseconds(document["at"])
        return [
            _decode_event(event, stream, version + index, position + index, time)
            for index, event in enumerate(document["events"])
        ]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as exc:
        message = (
            f"the document {document.get('_id')!r} of stream {document.get('stream')!r} was not "
            f"written by eventport: {type(exc).__name__}"
        )
        raise CorruptEventError(message) from exc


def _encode(event: EncodedEvent, at: int | None) -> Document:
    """Make the part of a document for one event, with a time if it is not the document's."""
    data = event.data if type(event.data) is bytes else _decode(event.data)
    metadata: Any = {} if event.metadata == "{}" else _decode(event.metadata)
    encoded: Document = {"id": event.id, "type": event.type, "data": data, "metadata": metadata}
    # Few events have such keys, so most need no walk in Python.
    if '"$' in event.metadata or (type(event.data) is str and '"$' in event.data):
        encoded["data"], encoded["metadata"] = _mark(data), _mark(metadata)
        encoded["marked"] = True
    if event.tags:
        encoded["tags"] = sorted(event.tags)
    if at is not None:
        encoded["at"] = at
    return encoded


def _decode_event(
    event: Document, stream: str, version: int, position: int, time: datetime
) -> RecordedEvent:
    data, metadata, id_, type_ = event["data"], event["metadata"], event["id"], event["type"]
    if type(event["metadata"]) is not dict or type(id_) is not UUID or type(type_) is not str:
        raise TypeError("type, metadata and id must be text, an object and a UUID")
    if "marked" in event:
        data, metadata = _unmark(data), _unmark(metadata)
    if "at" in event:
        time = utc_from_microseconds(event["at"])
    tags = frozenset(event.get("tags", ()))
    return RecordedEvent(stream, version, position, type_, data, metadata, id_, time, tags)


def _mark(value: Any) -> Any:
    kind = type(cast("object", value))
    if kind is dict:
        return {
            _MARK + key if key.startswith(("$", _MARK)) else key: _mark(item)
            for key, item in value.items()
        }
    return [_mark(item) for item in value] if kind is list else value


def _unmark(value: Any) -> Any:
    kind = type(cast("object", value))
    if kind is dict:
        return {key.removeprefix(_MARK): _unmark(item) for key, item in value.items()}
    return [_unmark(item) for item in value] if kind is list else value


def _check_size(document: Document, writes: Iterable[StreamWrite]) -> None:
    text = sum(len(event.data) + len(event.metadata) for write in writes for event in write.events)
    if text < _MAYBE_LARGE and document["count"] < _MAYBE_LARGE // 64:
        return
    size = len(bson.encode(document, codec_options=CODEC_OPTIONS))
    if size > MAX_BYTES:
        message = (
            f"an append to one stream is one document in MongoDB, of at most {MAX_BYTES} bytes; "
            f"this one to {document['stream']!r} would have {size}: split it"
        )
        raise PayloadTooLargeError(message)
