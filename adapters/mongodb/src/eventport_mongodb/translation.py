"""What errors of the driver mean, and errors of ours for them, which hold nothing of events."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    InvalidName,
    InvalidOperation,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WTimeoutError,
)
from pymongo.errors import (
    ConfigurationError as DriverConfigurationError,
)

from eventport import (
    ConfigurationError,
    CorruptEventError,
    EventportError,
    InvalidEventError,
    PayloadTooLargeError,
    StoreUnavailableError,
)
from eventport.adapter import ConnectionLostError


_DUPLICATE_KEY: Final = 11000
_TOO_LARGE: Final = frozenset({10334, 17280, 17419, 17420})
_NOT_VALID: Final = 121
_NOT_ALLOWED: Final = frozenset({13, 18, 8000})
"""Unauthorized, AuthenticationFailed, and what Atlas says instead."""
_TIMED_OUT: Final = frozenset({50, 202, 262})
_NO_PRIMARY: Final = frozenset({6, 7, 89, 91, 189, 9001, 10058, 10107, 11600, 11602, 13435, 13436})
"""It cannot be reached, shuts down, steps down, recovers, or is not primary."""
_INTERRUPTED: Final = frozenset({24, 46, 134, 237, 11601})
"""Killed by somebody, a lock that was not got in time, or no majority known yet."""

_PLAIN: Final[Mapping[int, str]] = {
    13: "the user is not allowed to do that",
    18: "authentication failed",
    50: "the server needed too long",
    64: "most of the replica set did not confirm it in time",
    91: "the server shuts down",
    112: "another client's transaction holds the position",
    134: "the server does not know yet what a majority has",
    189: "the primary has stepped down",
    251: "the server has given up the transaction",
    10107: "the server is not the primary",
    11600: "the server shuts down",
    11601: "somebody has ended the operation on the server",
    11602: "the replica set elects another primary",
    13435: "the server is not the primary",
    13436: "the server recovers",
}


@contextmanager
def translated(where: str) -> Generator[None]:
    """Turn the errors of the driver into those of eventport.

    Args:
        where: The place that an error is about, without any secret.
    """
    try:
        yield
    except (PyMongoError, BSONError) as exc:
        raise translate(exc, where) from exc


def translate(exc: Exception, where: str) -> EventportError:
    """Return the error of ours that says what one of the driver means, which is its cause."""
    error = _meaning_of(exc, where)
    error.__cause__ = exc
    return error


def describe(exc: Exception) -> str:
    """Say in plain words what an error means, without what the driver or the server quotes.

    They quote documents, and with them what is in events.
    """
    code = _code_of(exc)
    if code is not None:
        details: dict[str, Any] = getattr(exc, "details", None) or {}
        name = details.get("codeName", "error")
        return f"{_PLAIN.get(code, 'the server refuses')} ({name}, code {code})"
    if isinstance(exc, ConnectionFailure):
        # The rest is all that the driver knows of the servers.
        return str(exc).partition(", Topology Description")[0]
    if isinstance(exc, InvalidOperation):
        return "the client has been closed"
    return type(exc).__name__


def failed_index(exc: PyMongoError) -> int | None:
    """Return which document the server could not insert, if it is one of them."""
    return None if _is_passing(exc) else _first_index(exc)


def inserted_count(exc: PyMongoError) -> int:
    """Return how many documents are inserted for good although others failed."""
    # If that is not known, they may not be on most of the replica set, and go with the primary.
    if not isinstance(exc, BulkWriteError) or is_outcome_unknown(exc):
        return 0
    return int(exc.details["nInserted"])


def is_place_taken(exc: PyMongoError) -> bool:
    """Return whether a document could not be inserted because its place is taken."""
    errors = _write_errors(exc)
    return bool(errors) and errors[0].get("code") == _DUPLICATE_KEY


def is_outcome_unknown(exc: PyMongoError) -> bool:
    """Return whether a write may have taken place, although it failed for us."""
    if isinstance(exc, BulkWriteError):
        has_no_concern = bool(exc.details.get("writeConcernErrors"))
        return has_no_concern or _is_passing(exc) or not _write_errors(exc)
    return isinstance(exc, WriteConcernError | WTimeoutError) or is_connection_lost(exc)


def is_connection_lost(exc: Exception) -> bool:
    """Return whether the server could not be reached, or was not able to answer for now."""
    return isinstance(exc, PyMongoError) and (
        isinstance(exc, ConnectionFailure)
        or exc.timeout
        or exc.has_error_label("RetryableWriteError")
        or _is_passing(exc)
    )


def is_aborted(exc: PyMongoError) -> bool:
    """Return whether a transaction was given up by the server and can be tried again."""
    return exc.has_error_label("TransientTransactionError")


def _write_errors(exc: Exception) -> Sequence[Mapping[str, Any]]:
    return exc.details.get("writeErrors") or [] if isinstance(exc, BulkWriteError) else []


def _first_index(exc: Exception) -> int | None:
    errors = _write_errors(exc)
    return int(errors[0]["index"]) if errors else None


def _is_passing(exc: Exception) -> bool:
    """Return whether it is about the state of the server, not about what was asked of it."""
    return _code_of(exc) in _TIMED_OUT | _NO_PRIMARY | _INTERRUPTED


def _code_of(exc: Exception) -> int | None:
    if isinstance(exc, BulkWriteError):
        errors = _write_errors(exc) or exc.details.get("writeConcernErrors") or [{}]
        code = errors[0].get("code")
    elif isinstance(exc, OperationFailure):
        code = exc.code
    elif isinstance(exc, NotPrimaryError):
        code = exc.details.get("code") if isinstance(exc.details, Mapping) else None
    else:
        code = None
    return code if isinstance(code, int) else None


def _meaning_of(exc: Exception, where: str) -> EventportError:
    if isinstance(exc, DriverConfigurationError | InvalidName):
        return ConfigurationError(f"{where}: {exc}")
    code = _code_of(exc)
    if isinstance(exc, DocumentTooLarge) or code in _TOO_LARGE:
        return PayloadTooLargeError(
            f"{where}: an append to one stream has at most 16 MiB: split it"
        )
    if isinstance(exc, BSONError):
        reason = "a document cannot be decoded; something other than eventport has written it"
        return CorruptEventError(f"{where}: {reason}")
    if code in _NOT_ALLOWED:
        return ConfigurationError(f"{where}: user and password were refused: {describe(exc)}")
    if code == _NOT_VALID:
        reason = "the validator of the collection refuses the events; change it, or the events"
        return InvalidEventError(f"{where}: {reason}")
    lost = is_connection_lost(exc)
    return (ConnectionLostError if lost else StoreUnavailableError)(f"{where}: {describe(exc)}")
