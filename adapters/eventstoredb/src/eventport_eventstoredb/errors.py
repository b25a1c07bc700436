"""Translates errors of the servers and of gRPC into those of eventport.

The servers' texts name streams and types. Of gRPC's own errors only the details are shown. No text
holds an event's data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from eventport.adapter import ConnectionLostError
from eventport.errors import (
    ConfigurationError,
    EventportError,
    InvalidArgumentError,
    NotSupportedError,
    PayloadTooLargeError,
)

from eventport_eventstoredb.vendor import Library


DELETED: Final = -5
TOMBSTONED: Final = -6
"""States that the newer protocol reports in place of a stream's revision."""

_LONGEST_TEXT: Final = 200


@dataclass(frozen=True)
class Refused:
    """An append that wrote nothing, because an expectation did not hold."""

    stream: str
    version: int
    """The stream's version, by the server's own count."""


class StreamDeletedError(NotSupportedError):
    """The server reports that a stream was deleted."""

    def __init__(self, stream: str) -> None:
        super().__init__(
            f"stream {stream!r} has been deleted for good (it has a tombstone), so that nothing "
            "can ever be appended to it; choose another name"
        )
        self.stream = stream


class LostConnectionError(ConnectionLostError):
    """The server cannot be reached, or the connection was dropped."""


class NoAnswerError(ConnectionLostError):
    """The server gave no answer in time."""


class NotLeaderError(LostConnectionError):
    """This node of the cluster takes no appends; nothing was written."""

    def __init__(self, target: str | None) -> None:
        super().__init__("this node is not the cluster's leader")
        self.target = target


class RefusedError(EventportError):
    """An append had a conflict."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"stream {refused.stream!r} is at version {refused.version}")
        self.refused = refused


def translate(library: Library, exc: Exception, stream: str) -> Exception:
    """Translate an error of gRPC or of the vendor's client; leave others as they are.

    Args:
        library: The client that is installed.
        exc: The error.
        stream: Which stream the call was about, for the text.
    """
    if isinstance(exc, EventportError):
        return exc
    if hasattr(exc, "code") and hasattr(exc, "trailing_metadata"):
        return _translate_call(library, exc, stream)
    if isinstance(exc, library.base_error):
        kind = type(exc).__name__
        if "AccessDenied" in kind or "Unauthenticated" in kind:
            return ConfigurationError(f"the server denies access: {_short(str(exc))}")
        return LostConnectionError(f"no answer from the server: {_short(str(exc)) or kind}")
    if isinstance(exc, OSError) or type(exc).__module__.startswith("grpc"):
        return LostConnectionError(f"no answer from the server: {_short(str(exc))}")
    return exc


def _translate_call(library: Library, exc: Any, stream: str) -> Exception:
    code, text = exc.code().name, _short(exc.details() or "")
    trailers: dict[str, Any] = dict(tuple(exc.trailing_metadata() or ()))
    for detail in _details(library, trailers):
        if error := _of_detail(detail, text):
            return error
    if trailers.get("exception") == "stream-deleted":
        return StreamDeletedError(stream)
    if "leader-endpoint-host" in trailers or text == "Leader info available":
        return NotLeaderError(
            _target(trailers.get("leader-endpoint-host"), trailers.get("leader-endpoint-port"))
        )
    if "AllResult" in text or "invalid position" in text:
        return InvalidArgumentError("no event has the position given as after")
    return _of_code(code, text, stream)


def _of_code(code: str, text: str, stream: str) -> Exception:
    match code:
        case "RESOURCE_EXHAUSTED":
            error: Exception = PayloadTooLargeError(
                f"the server refuses a message of this size: {text}"
            )
        case "PERMISSION_DENIED" | "UNAUTHENTICATED":
            error = ConfigurationError(f"the server denies access to {stream or 'it'}: {text}")
        case "INVALID_ARGUMENT" | "UNIMPLEMENTED" | "FAILED_PRECONDITION" | "OUT_OF_RANGE":
            error = NotSupportedError(f"the server refuses the request: {text}")
        case "DEADLINE_EXCEEDED":
            error = NoAnswerError("the server gave no answer in time")
        case "UNAVAILABLE" | "INTERNAL" | "CANCELLED" | "NOT_FOUND":
            error = LostConnectionError(f"no answer from the server: {text}")
        case _:
            error = ConnectionLostError(f"the server failed ({code}): {text}")
    return error


def _of_detail(detail: Any, text: str) -> Exception | None:
    """Translate one of the details that the newer protocol gives."""
    match detail.DESCRIPTOR.name:
        case "StreamRevisionConflictErrorDetails":
            refused = Refused(detail.stream, to_version(detail.actual_revision))
            error: Exception | None = RefusedError(refused)
        case "StreamTombstonedErrorDetails":
            error = StreamDeletedError(detail.stream)
        case "AppendConsistencyViolationErrorDetails":
            error = _of_violations([one.stream_state for one in detail.violations])
        case "NotLeaderNodeErrorDetails":
            error = NotLeaderError(_target(detail.current_leader.host, detail.current_leader.port))
        case "AppendRecordSizeExceededErrorDetails" | "AppendTransactionSizeExceededErrorDetails":
            error = PayloadTooLargeError(f"the server refuses an append of this size: {text}")
        case "StreamAlreadyInAppendSessionErrorDetails":
            error = NotSupportedError(f"the server takes each stream once in a commit: {text}")
        case _:
            error = None
    return error


def _of_violations(states: list[Any]) -> Exception:
    """Translate the violations of a commit's checks: a tombstone first, because it is final."""
    for state in states:
        if state.actual_state == TOMBSTONED:
            return StreamDeletedError(state.stream)
    state = states[0]
    return RefusedError(Refused(state.stream, to_version(state.actual_state)))


def of_append(library: Library, error: Any, stream: str) -> Refused | Exception:
    """Read the error in the answer to an append to one stream."""
    detail = _unpacked(library.shared, error.details)
    match detail.DESCRIPTOR.name if detail else "":
        case "WrongExpectedVersion":
            missing = detail.WhichOneof("current_stream_revision_option") == "current_no_stream"
            return Refused(stream, 0 if missing else detail.current_stream_revision + 1)
        case "StreamDeleted":
            found: Exception = StreamDeletedError(stream)
        case "AccessDenied":
            found = ConfigurationError(f"the server denies access to {stream}")
        case "MaximumAppendSizeExceeded":
            text = (
                f"the server refuses an append of this size: {detail.maxAppendSize} bytes at most"
            )
            found = PayloadTooLargeError(text)
        case "BadRequest":
            found = NotSupportedError(f"the server refuses the request: {_short(detail.message)}")
        case "Timeout":
            text = "the server gave the append up, perhaps since the same is in flight"
            found = NoAnswerError(text)
        case _:
            found = ConnectionLostError(f"the server failed: {_short(error.message)}")
    return found


def _unpacked(module: Any, packed: Any) -> Any:
    """Unpack a message that one of the generated modules knows; None if it does not."""
    kind = getattr(module, packed.type_url.rpartition(".")[2], None)
    if kind is None:
        return None
    detail = kind()
    packed.Unpack(detail)
    return detail


def to_version(revision: int) -> int:
    """Turn a revision into a version; a negative state means that there is no stream."""
    return max(revision + 1, 0)


def _details(library: Library, trailers: dict[str, Any]) -> Iterator[Any]:
    raw = trailers.get("grpc-status-details-bin")
    if raw is None or library.session_errors is None:
        return
    for packed in library.status.Status.FromString(raw).details:
        for module in (library.session_errors, library.server_errors):
            if (detail := _unpacked(module, packed)) is not None:
                yield detail


def _target(host: Any, port: Any) -> str | None:
    return f"{host}:{port}" if host and port else None


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
