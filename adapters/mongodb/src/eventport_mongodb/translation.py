"""What errors of the driver mean, and errors of ours for them."""

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
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WTimeoutError,
)
from pymongo.errors import (
    ConfigurationError as DriverConfigurationError,
)

from eventport.errors import (
    ConfigurationError,
    CorruptEventError,
    EventportError,
    InvalidEventError,
    PayloadTooLargeError,
    StoreUnavailableError,
)


_DUPLICATE_KEY: Final = 11000
_TOO_LARGE: Final = frozenset({10334, 17280, 17419, 17420})
_NOT_VALID: Final = 121
_NOT_ALLOWED: Final = frozenset({13, 18, 8000})
"""Unauthorized, AuthenticationFailed, and what Atlas says instead."""


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


def failed_index(exc: PyMongoError) -> int | None:
    """Return which document the server could not insert, if it is one of them."""
    errors = _write_errors(exc)
    return int(errors[0]["index"]) if errors else None


def inserted_count(exc: PyMongoError) -> int:
    """Return how many documents the server had inserted before it failed, as far as it says so."""
    return int(exc.details["nInserted"]) if isinstance(exc, BulkWriteError) else 0


def is_place_taken(exc: PyMongoError) -> bool:
    """Tell whether a document could not be inserted because its place is taken."""
    errors = _write_errors(exc)
    return bool(errors) and errors[0].get("code") == _DUPLICATE_KEY


def is_outcome_unknown(exc: PyMongoError) -> bool:
    """Tell whether a write may have taken place, although it failed for us."""
    if isinstance(exc, BulkWriteError):
        return not _write_errors(exc)  # only the write concern was not met
    return (
        isinstance(exc, ConnectionFailure | WriteConcernError | WTimeoutError)
        or exc.timeout
        or exc.has_error_label("RetryableWriteError")
    )


def is_aborted(exc: PyMongoError) -> bool:
    """Tell whether a transaction was given up by the server and can be tried again."""
    return exc.has_error_label("TransientTransactionError")


def _write_errors(exc: Exception) -> Sequence[Mapping[str, Any]]:
    return exc.details.get("writeErrors") or [] if isinstance(exc, BulkWriteError) else []


def _meaning_of(exc: Exception, where: str) -> EventportError:
    if isinstance(exc, DriverConfigurationError | InvalidName):  # a wrong URI is one of the first
        return ConfigurationError(f"{where}: {exc}")
    if isinstance(exc, BSONError):
        return CorruptEventError(f"{where}: a document cannot be decoded: {exc}")
    errors = _write_errors(exc)
    code = exc.code if isinstance(exc, OperationFailure) else None
    code = errors[0].get("code") if errors else code
    if code in _NOT_ALLOWED:
        return ConfigurationError(f"{where}: user and password were refused: {exc}")
    if isinstance(exc, DocumentTooLarge) or code in _TOO_LARGE:
        return PayloadTooLargeError(f"MongoDB refuses an append of this size: {exc}")
    if code == _NOT_VALID:
        return InvalidEventError(f"{where}: the validator of the collection refuses it: {exc}")
    return StoreUnavailableError(f"{where}: {exc}")
