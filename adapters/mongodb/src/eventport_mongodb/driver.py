"""The seam between the two drivers, PyMongo's own async client and Motor, which differ a little."""

from __future__ import annotations

import inspect

from collections.abc import Awaitable
from typing import Any, Final, Literal, TypeAlias, TypeVar

from anyio import to_thread
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.int64 import Int64
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.uri_parser import split_options

from eventport.errors import ConfigurationError
from eventport.adapter import redact

from eventport_mongodb.translation import translated


T = TypeVar("T")

Document: TypeAlias = dict[str, Any]
"""What PyMongo makes of a BSON document."""

Client: TypeAlias = AsyncMongoClient[Document]
"""A client of either driver: Motor's has the methods that are used here, too."""

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


async def settled(result: Awaitable[T]) -> T:
    """Wait for what has to be awaited of PyMongo, and is there at once in Motor, or the opposite.

    The types are those of PyMongo.
    """
    given: Any = result
    settled_: T = await given if inspect.isawaitable(given) else given
    return settled_


async def close_client(client: Client) -> None:
    """Close a client; Motor does that by blocking, while it takes leave of the server."""
    if isinstance(client, AsyncMongoClient):
        await client.close()
    else:
        await to_thread.run_sync(client.close)


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
    options = _options(url)
    defaults: dict[str, Any] = {
        name: value
        for name, value in {
            "serverSelectionTimeoutMS": round(timeout * 1000),
            "connectTimeoutMS": round(timeout * 1000),
        }.items()
        if name.lower() not in options
    }
    with translated(redact(url)):
        client: Client = make(url, **defaults)
    return client


def _options(url: str) -> set[str]:
    """Check the options in a URL, about most of which PyMongo would only warn."""
    query = url.partition("?")[2]
    if not query:
        return set()
    with translated(redact(url)):
        try:
            # It does not warn of what it does not know, but raises.
            return {name.lower() for name in split_options(query, validate=True, warn=False)}
        except (TypeError, ValueError) as exc:
            message = f"{redact(url)}: {exc}"
            raise ConfigurationError(message) from exc
