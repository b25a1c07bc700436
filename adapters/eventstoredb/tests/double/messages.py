"""Protocol v1's messages, from and to what the double keeps."""

from __future__ import annotations

from typing import Any

from adapters.eventstoredb.tests.double.database import (
    ANY,
    EXISTS,
    NO_STREAM,
    Appended,
    BadRequest,
    Proposed,
    Record,
    StreamDeleted,
    TooLarge,
    WrongExpectedVersion,
    matcher,
)
from adapters.eventstoredb.tests.double.stubs import any_pb2, grpc, v1


class InFlight(Exception):  # noqa: N818  # it is answered, not raised to anybody
    """The same append is being written; this one was dropped until its time was up."""


def to_proposed(message: Any) -> Proposed:
    """Read an event as a client sends it."""
    kind = message.metadata["content-type"]
    return Proposed(
        message.id.string,
        message.metadata["type"],
        # The log keeps one bit of the content type.
        kind if kind == "application/json" else "application/octet-stream",
        message.data,
        message.custom_metadata,
    )


def to_expected(options: Any, oneof: str, exact: str) -> int:
    """Read an expectation."""
    match options.WhichOneof(oneof):
        case "no_stream":
            return NO_STREAM
        case "any":
            return ANY
        case "stream_exists":
            return EXISTS
        case _:
            revision: int = getattr(options, exact)
            return revision


def to_filter(options: Any) -> Any:
    """Make the test that a read's filter stands for."""
    if options.WhichOneof("filter_option") != "filter":
        return lambda _: True
    chosen = options.filter.WhichOneof("filter")
    expression = getattr(options.filter, chosen)
    fits = matcher(expression.regex, list(expression.prefix))
    if chosen == "stream_identifier":
        return lambda record: fits(record.stream)
    return lambda record: fits(record.event.type)


def read_response(record: Record) -> Any:
    """Write an event as reads give it."""
    recorded = v1.streams.ReadResp.ReadEvent.RecordedEvent(
        id=v1.shared.UUID(string=record.event.id),
        stream_identifier=v1.shared.StreamIdentifier(stream_name=record.stream.encode()),
        stream_revision=record.revision,
        prepare_position=record.position,
        commit_position=record.position,
        metadata={
            "type": record.event.type,
            "content-type": record.event.content_type,
            "created": str(record.created),
        },
        custom_metadata=record.event.metadata,
        data=record.event.data,
    )
    event = v1.streams.ReadResp.ReadEvent(event=recorded, commit_position=record.position)
    return v1.streams.ReadResp(event=event)


def success(done: Appended) -> Any:
    """Write the answer to an append that succeeded."""
    answer = v1.streams.BatchAppendResp.Success()
    if done.revision < 0:
        answer.no_stream.SetInParent()
    else:
        answer.current_revision = done.revision
    if done.position < 0:
        answer.no_position.SetInParent()
    else:
        answer.position.commit_position = done.position
        answer.position.prepare_position = done.position
    return answer


def status(exc: Exception) -> Any:
    """Write the answer to an append that was refused."""
    detail: Any
    if isinstance(exc, WrongExpectedVersion):
        code, detail = 6, v1.shared.WrongExpectedVersion()
        if exc.current < 0:
            detail.current_no_stream.SetInParent()
        else:
            detail.current_stream_revision = exc.current
    elif isinstance(exc, StreamDeleted):
        code, detail = 9, v1.shared.StreamDeleted()
        detail.stream_identifier.stream_name = exc.stream.encode()
    elif isinstance(exc, TooLarge):
        code, detail = 3, v1.shared.MaximumAppendSizeExceeded(maxAppendSize=exc.limit)
    elif isinstance(exc, BadRequest):
        code, detail = 3, v1.shared.BadRequest(message=str(exc))
    else:
        code, detail = 4, v1.shared.Timeout()
    packed = any_pb2.Any()
    packed.Pack(detail)
    return v1.status.Status(code=code, message=type(exc).__name__, details=packed)


async def abort_deleted(context: Any, stream: str) -> None:
    """End a call that concerns a stream with a tombstone."""
    name = stream.encode("ascii", "backslashreplace").decode()
    trailers = (("exception", "stream-deleted"), ("stream-name", name))
    text = f"Event stream '{stream}' is deleted."
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, text, trailers)
