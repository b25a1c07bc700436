"""The seam between the two drivers, PyMongo's own async client and Motor, which differ a little."""

from __future__ import annotations

import inspect

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from anyio import to_thread
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.int64 import Int64
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from eventport import ConfigurationError

from eventport_mongodb.url import check_url, refused


T = TypeVar("T")

Document: TypeAlias = dict[str, Any]
"""What PyMongo makes of a BSON document."""

Client: TypeAlias = AsyncMongoClient[Document]
"""A client of either driver: Motor's has the methods that are used here, too."""

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorClient

    AnyClient: TypeAlias = AsyncMongoClient[Any] | AsyncIOMotorClient[Any]
else:
    AnyClient = Any  # Motor is an extra, and annotations are evaluated
"""A client of the caller's."""

Collection: TypeAlias = AsyncCollection[Document]
"""A collection of either driver."""

DriverName: TypeAlias = Literal["pymongo", "motor"]
"""A driver: PyMongo's `AsyncMongoClient`, or Motor, its predecessor."""


class _PlainInt(TypeDecoder):
    """Gives plain integers, not PyMongo's subclass that remembers that they had 64 bits."""

    @property
    def bson_type(self) -> type[Int64]:
        """See `TypeDecoder`."""
        return Int64

    def transform_bson(self, value: Any) -> int:
        """See `TypeDecoder`."""
        return int(value)


CODEC_OPTIONS: Final[CodecOptions[Document]] = CodecOptions(
    document_class=dict,
    uuid_representation=UuidRepresentation.STANDARD,
    type_registry=TypeRegistry([_PlainInt()]),
)
"""How documents are turned into Python objects, whatever the client's own options are."""


LONGEST_CONNECT: Final = 3.0
"""How many seconds a server may take to accept a connection, unless the URL says otherwise."""

HEARTBEAT: Final = 2.0
"""How often, in seconds, the driver checks its servers, unless the URL says otherwise."""


async def settled(result: Awaitable[T]) -> T:
    """Wait for what has to be awaited of PyMongo, and is there at once in Motor, or the opposite.

    The types are those of PyMongo.
    """
    given: Any = result
    settled_: T = await given if inspect.isawaitable(given) else given
    return settled_


async def close_client(client: Client) -> None:
    """Close a client; Motor does that by blocking, while it takes leave of the server."""
    vendor: Any = client
    if isinstance(vendor, AsyncMongoClient):
        await vendor.close()
    else:
        await to_thread.run_sync(vendor.close)


def make_client(url: str, driver: DriverName, timeout: float) -> Client:
    """Make a client from a URL; it connects later, by itself.

    Raises:
        ConfigurationError: the URL is wrong, or the driver is not installed.
    """
    make: Any
    if driver == "pymongo":
        make = AsyncMongoClient
    elif driver == "motor":
        try:
            from motor.motor_asyncio import AsyncIOMotorClient  # noqa: PLC0415  # it is an extra
        except ImportError as exc:
            message = "driver motor: python -m pip install 'eventport-mongodb[motor]'"
            raise ConfigurationError(message) from exc
        make = AsyncIOMotorClient
    else:
        message = f"driver must be 'pymongo' or 'motor', not {driver!r}"
        raise ConfigurationError(message)
    given = check_url(url)
    defaults = {
        name: value for name, value in _defaults(timeout).items() if name.lower() not in given
    }
    try:
        client: Client = make(url, **defaults)
    except (PyMongoError, TypeError, ValueError) as exc:
        # Not as its cause: a traceback would show what the driver quotes.
        raise refused(url, exc) from None
    return client


def _defaults(timeout: float) -> dict[str, Any]:
    """Return the options of the driver that hold where the URL says nothing."""
    return {
        "serverSelectionTimeoutMS": round(timeout * 1000),
        # By these two the driver notices that a server is frozen. Its own values are 10 s each.
        "connectTimeoutMS": round(min(timeout, LONGEST_CONNECT) * 1000),
        "heartbeatFrequencyMS": round(HEARTBEAT * 1000),
    }
