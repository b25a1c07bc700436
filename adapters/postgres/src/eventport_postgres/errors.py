"""What goes wrong between asyncpg and a server, in the words of eventport."""

from __future__ import annotations

from typing import Final

from asyncpg import exceptions as pg

from eventport.adapter import ConnectionLostError
from eventport.errors import (
    ConfigurationError,
    EventportError,
    IncompatibleStoreError,
    InvalidArgumentError,
    NotSupportedError,
    PayloadTooLargeError,
    StoreFencedError,
    StoreUnavailableError,
)


DRIVER_ERRORS: Final = (
    OSError,
    pg.PostgresError,
    pg.InterfaceError,
    pg.InternalClientError,  # also what it says of a connection that ended at the wrong moment
)
"""All that asyncpg raises."""

_LOST: Final = (
    OSError,  # this is also what timeouts and dropped connections raise
    pg.PostgresConnectionError,
    pg.AdminShutdownError,
    pg.CrashShutdownError,
    pg.CannotConnectNowError,
    pg.IdleSessionTimeoutError,
    pg.IdleInTransactionSessionTimeoutError,
    pg.InvalidAuthorizationSpecificationError,  # a login, when we connect again
    pg.ReadOnlySQLTransactionError,  # after a failover, there is another server that can write
    pg.TooManyConnectionsError,
    pg.InternalClientError,
)
_FENCED: Final = "EP002"
"""Our own, see fence.sql."""

_READ_ON_A_STANDBY: Final = "a standby does not show"
"""What our function `frontier` says there."""

_AGAIN: Final = (
    pg.DeadlockDetectedError,
    pg.SerializationError,
    pg.LockNotAvailableError,
    pg.OutOfMemoryError,  # the table of locks, which others fill for a moment
)
_STATES: Final[dict[str, type[EventportError]]] = {
    "08": StoreUnavailableError,  # the connection
    "0A": NotSupportedError,
    "0P": ConfigurationError,  # the role
    "22": InvalidArgumentError,  # a value
    "22023": ConfigurationError,  # a parameter of the connection
    "2200H": NotSupportedError,  # the sequence has reached its end
    "23505": IncompatibleStoreError,  # a position or a version is there already
    "25006": StoreUnavailableError,  # this server does not write, for now
    "25P03": StoreUnavailableError,  # a transaction took too long, here and below
    "25P04": StoreUnavailableError,
    "26": ConfigurationError,  # a prepared statement is gone, here and below
    "42P05": ConfigurationError,
    "28": ConfigurationError,  # the login
    "3D": ConfigurationError,  # the database
    "3F": IncompatibleStoreError,  # the schema
    "40": StoreUnavailableError,  # the transaction was undone
    "42": IncompatibleStoreError,  # tables, columns, functions
    "42501": ConfigurationError,  # rights
    "42704": ConfigurationError,  # roles and settings
    "53": StoreUnavailableError,  # memory, disk, connections
    "53200": ConnectionLostError,  # memory alone may suffice the next time
    "54": PayloadTooLargeError,
    "55": StoreUnavailableError,  # locks
    "55P02": ConfigurationError,
    "57": StoreUnavailableError,  # operators, time limits
    "58": StoreUnavailableError,  # the operating system
    "72": StoreUnavailableError,  # a snapshot is too old
    "EP001": IncompatibleStoreError,  # our own, see check_place
    "F0": ConfigurationError,  # a file of the server's configuration
    "XX": StoreUnavailableError,  # a fault of the server
}
"""The error that is true of a SQLSTATE, or of all that begin like this. Any other one stands for
what the database was made to refuse, by a constraint or by a trigger, for example."""

_REMEDIES: Final = {
    "53200": "if it has no room for locks, raise max_locks_per_transaction",
    "23505": "something else has written to this table, or its sequence is behind: `eventport "
    "schema upgrade` repairs that",
    "26": "give transaction_pooling=true if a pooler is between",
    "42P05": "give transaction_pooling=true if a pooler is between",
}
# Texts of other classes are those of triggers, or show the values that are wrong.
_SHOWN: Final = frozenset(
    {"08", "0A", "0P", "25", "28", "3D", "3F", "40", "53", "54", "55", "57", "58", "EP", "F0"}
)
_SHOWN_STATES: Final = frozenset({"22023", "42501", "42704"})


class NothingWrittenError(EventportError):
    """The server refused a batch as a whole; its members are worth trying one by one."""


class StandbyError(ConnectionError):
    """The server is a standby: for a moment of a failover, or for good."""

    def __init__(self) -> None:
        super().__init__(
            "this server is a standby, which cannot be written to: connect to its primary"
        )


def is_lost(exc: BaseException) -> bool:
    """Return whether the connection is of no use any more; what the server did is not known."""
    if isinstance(exc, pg.InterfaceError):
        # asyncpg's word for a misuse, or for a connection that is closed; only the latter here.
        # A value or an option that is wrong is also a ValueError.
        return not isinstance(exc, ValueError)
    if isinstance(exc, pg.FeatureNotSupportedError):
        return str(exc).startswith(_READ_ON_A_STANDBY)
    return isinstance(exc, _LOST)


def is_worth_a_retry(exc: BaseException) -> bool:
    """Return whether the server undid a transaction that may succeed when it is tried again."""
    return isinstance(exc, _AGAIN)


def translated(exc: BaseException) -> EventportError:
    """Return the error of ours that stands for one of asyncpg, and shows no data of events."""
    if isinstance(exc, EventportError):
        return exc
    if is_lost(exc) and not isinstance(exc, pg.InvalidAuthorizationSpecificationError):
        return lost(exc)
    text = reason(exc)
    if isinstance(exc, pg.PostgresError):
        return _refusal(_state(exc), text)
    if isinstance(exc, OverflowError) or (
        isinstance(exc, pg.InterfaceError) and not isinstance(exc, pg.ClientConfigurationError)
    ):
        return InvalidArgumentError(f"asyncpg refuses a value: {text}")
    if isinstance(exc, ValueError):
        return ConfigurationError(f"asyncpg refuses the URL or an option: {text}")
    return StoreUnavailableError(f"PostgreSQL: {text}")


def _refusal(state: str, text: str) -> EventportError:
    if state == _FENCED:
        return StoreFencedError(text)
    found = _STATES.get(state) or _STATES.get(state[:2]) or NotSupportedError
    remedy = _REMEDIES.get(state) or _REMEDIES.get(state[:2])
    return found(f"PostgreSQL refuses: {text}" + (f"; {remedy}" if remedy else ""))


def lost(
    exc: BaseException, kind: type[ConnectionLostError] = ConnectionLostError
) -> ConnectionLostError:
    """Return the error for a connection that is of no use any more."""
    return kind(f"PostgreSQL cannot be reached: {reason(exc)}")


def reason(exc: BaseException) -> str:
    """Return what can be shown of an error: its first line, unless that may hold data.

    Further lines, with details and hints, often do.
    """
    name = type(exc).__name__
    if isinstance(exc, pg.PostgresError):
        state = _state(exc)
        if state not in _SHOWN_STATES and state[:2] not in _SHOWN:
            # The names of tables and constraints are nobody's secret.
            of = ((what, getattr(exc, f"{what}_name", None)) for what in ("table", "constraint"))
            return " ".join([f"{name} ({state})", *(f"{w} {n}" for w, n in of if n)])
    elif not isinstance(exc, pg.ClientConfigurationError) and isinstance(
        exc, ValueError | TypeError | OverflowError
    ):
        return name  # the text shows the value; what asyncpg says of an option does not
    return next(iter(str(exc).splitlines()), "") or name


def _state(exc: pg.PostgresError) -> str:
    return getattr(exc, "sqlstate", None) or "XX000"
