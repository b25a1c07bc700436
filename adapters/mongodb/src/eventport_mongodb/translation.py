"""What errors of the driver mean, and errors of ours for them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

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
    PayloadTooLargeError,
    StoreUnavailableError,
)


_DUPLICATE_KEY: Final = 11000
_TOO_LARGE: Final = frozenset({10334, 17280, 17419, 17420})
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
    """Return the error of ours that says what one of the driver means."""
    if isinstance(exc, DriverConfigurationError | InvalidName):  # a wrong URI is one of the first
        return ConfigurationError(f"{where}: {exc}")
    if isinstance(exc, BSONError):
        return CorruptEventError(f"{where}: a document cannot be decoded: {exc}")
    code = exc.code if isinstance(exc, OperationFailure) else None
    if isinstance(exc, BulkWriteError) and (errors := exc.details.get("writeErrors")):
        code = errors[0].get("code")
    if code in _NOT_ALLOWED:
        return ConfigurationError(f"{where}: user and password were refused: {exc}")
    if isinstance(exc, DocumentTooLarge) or code in _TOO_LARGE:
        return PayloadTooLargeError(f"MongoDB refuses an append of this size: {exc}")
    return StoreUnavailableError(f"{where}: {exc}")


def taken_index(exc: PyMongoError) -> int | None:
    """Return which document could not be inserted because its place is taken."""
    if not isinstance(exc, BulkWriteError):
        return None
    errors = exc.details.get("writeErrors") or []
    if errors and errors[0].get("code") == _DUPLICATE_KEY:
        return int(errors[0]["index"])
    return None


def is_outcome_unknown(exc: PyMongoError) -> bool:
    """Tell whether a write may have taken place, although it failed for us."""
    if isinstance(exc, BulkWriteError):
        return not exc.details.get("writeErrors")  # only the write concern was not met
    return (
        isinstance(exc, ConnectionFailure | WriteConcernError | WTimeoutError)
        or exc.timeout
        or exc.has_error_label("RetryableWriteError")
    )


def is_aborted(exc: PyMongoError) -> bool:
    """Tell whether a transaction was given up by the server and can be tried again."""
    return exc.has_error_label("TransientTransactionError")
