"""What goes wrong between asyncpg and a server, in the words of eventport."""

from __future__ import annotations

from typing import Final

from asyncpg import exceptions as pg

from eventport.errors import (
    ConfigurationError,
    EventportError,
    IncompatibleStoreError,
    NotSupportedError,
    PayloadTooLargeError,
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
_READ_ON_A_STANDBY: Final = "a standby does not show"
"""What our function `frontier` says there."""

_AGAIN: Final = (pg.DeadlockDetectedError, pg.SerializationError, pg.LockNotAvailableError)
_REFUSED: Final = (
    pg.InvalidAuthorizationSpecificationError,
    pg.InvalidCatalogNameError,
    pg.InsufficientPrivilegeError,
    pg.CantChangeRuntimeParamError,
    pg.InvalidParameterValueError,
    pg.UndefinedObjectError,
    pg.ClientConfigurationError,
)
_NOT_OURS: Final = (
    pg.UndefinedTableError,
    pg.UndefinedFunctionError,
    pg.UndefinedColumnError,
    pg.InvalidSchemaNameError,
    pg.DatatypeMismatchError,
)


class NothingWrittenError(EventportError):
    """The server refused a batch as a whole; its members are worth trying one by one."""


class StreamBusyError(EventportError):
    """Some transaction keeps a stream locked for long; nothing was written of this commit."""


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
        return not isinstance(exc, pg.DataError | pg.ClientConfigurationError)
    if isinstance(exc, pg.FeatureNotSupportedError):
        return str(exc).startswith(_READ_ON_A_STANDBY)
    return isinstance(exc, _LOST)


def is_worth_a_retry(exc: BaseException) -> bool:
    """Tell whether the server undid a transaction that may succeed when it is tried again."""
    return isinstance(exc, _AGAIN)


def translated(exc: BaseException) -> EventportError:  # noqa: PLR0911  # a table of cases
    """Return the error of ours that stands for one of asyncpg."""
    # asyncpg's own text has further lines, with details and hints; and those may hold data.
    text = (str(exc).splitlines() or [type(exc).__name__])[0]
    if isinstance(exc, EventportError):
        return exc
    if isinstance(exc, _REFUSED):
        return ConfigurationError(f"PostgreSQL refuses: {text}")
    if is_lost(exc):
        return StoreUnavailableError(f"PostgreSQL cannot be reached: {text}")
    if isinstance(exc, _NOT_OURS):
        return IncompatibleStoreError(f"the schema is not that of eventport: {text}")
    if isinstance(exc, pg.ProgramLimitExceededError | pg.DataError | OverflowError):
        return PayloadTooLargeError(f"PostgreSQL refuses an append of this size: {text}")
    if isinstance(exc, ValueError):
        return ConfigurationError(f"the URL is wrong: {text}")
    if isinstance(exc, pg.FeatureNotSupportedError):
        return NotSupportedError(f"PostgreSQL: {text}")
    return StoreUnavailableError(f"PostgreSQL: {text}")
