"""What is taken from the two vendors' clients, their private parts included; nothing else is.

A client of theirs reads the URL, finds the cluster's leader and holds the channel. The calls on
that channel are ours: theirs repeat appends of which they do not know whether they took place,
drop the new revision that the server answers with, and turn cancellations into other errors.
"""

from __future__ import annotations

import re

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

from eventport.adapter import check_url, explain, redact, show
from eventport.errors import ConfigurationError, InvalidArgumentTypeError


_SETTINGS: Final = (
    *("root_certificates", "private_key", "certificate_chain", "grpc_options"),
    *("_call_metadata", "_call_credentials"),
)
"""What a client has been given beside its URL."""

_THIS_HOST: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True)
class Library:
    """The client that is installed, and the generated modules that come with it."""

    name: str
    package: ModuleType
    client: type[Any]
    base_error: type[Exception]
    streams: Any
    """Messages of protocol v1's streams."""
    shared: Any
    """Messages that the services of protocol v1 share."""
    sessions: Any
    """Messages of protocol v2's streams; None if the client does not know it."""
    session_errors: Any
    server_errors: Any
    status: Any
    """The message in which the newer protocol packs them."""

    @property
    def title(self) -> str:
        """The client's name and version."""
        return f"{self.name} {version(self.name)}"


def load_library() -> Library:
    """Find the client that is installed.

    Raises:
        ConfigurationError: there is none, or both are.
    """
    names = [name for name in ("esdbclient", "kurrentdbclient") if find_spec(name) is not None]
    if not names:
        message = (
            "no client for EventStoreDB or KurrentDB is installed: "
            "python -m pip install 'eventport-eventstoredb[kurrentdb]', "
            "or [esdb] for EventStoreDB before 23.10"
        )
        raise ConfigurationError(message)
    if len(names) > 1:
        message = (
            "esdbclient and kurrentdbclient are both installed, and cannot be used together: "
            "uninstall one of them"
        )
        raise ConfigurationError(message)
    return _load_older() if names == ["esdbclient"] else _load_newer()


def _load_older() -> Library:
    package, protos = import_module("esdbclient"), "esdbclient.protos.Grpc"
    return Library(
        "esdbclient",
        package,
        package.AsyncEventStoreDBClient,
        import_module("esdbclient.exceptions").EventStoreDBClientException,
        import_module(f"{protos}.streams_pb2"),
        import_module(f"{protos}.shared_pb2"),
        None,
        None,
        None,
        None,
    )


def _load_newer() -> Library:
    package, protos = import_module("kurrentdbclient"), "kurrentdbclient.protos"
    return Library(
        "kurrentdbclient",
        package,
        package.AsyncKurrentDBClient,
        import_module("kurrentdbclient.exceptions").KurrentDBClientError,
        import_module(f"{protos}.v1.streams_pb2"),
        import_module(f"{protos}.v1.shared_pb2"),
        import_module(f"{protos}.v2.streams.streams_pb2"),
        import_module(f"{protos}.v2.streams.errors_pb2"),
        import_module(f"{protos}.kurrent.rpc.errors_pb2"),
        import_module("google.rpc.status_pb2"),
    )


@dataclass(eq=False)
class Channel:
    """A connection to one node: what calls are made on."""

    streams: Any
    """The stub of protocol v1's streams."""
    sessions: Any
    """The stub of protocol v2's streams; None if the client does not know it."""
    for_reads: dict[str, Any]
    """The arguments of each call that reads."""
    for_appends: dict[str, Any]
    """The arguments of each call that writes: only the leader may answer it."""
    _grpc: Any
    heard: float = 0.0
    """When an answer last came over it, by the event loop's clock."""

    async def close(self) -> None:
        """Close it at once; the calls on it are cancelled."""
        await self._grpc.close(None)


class Connector:
    """The vendor's client: it knows the URL, and which node to connect to.

    Args:
        library: The client that is installed.
        client: One that nobody else uses, and that has not connected yet.
    """

    def __init__(self, library: Library, client: Any) -> None:
        self.library: Final = library
        self._client = client
        self.name: Final = redact(client.connection_spec.uri)
        """The server or the cluster, without a password."""
        # Otherwise gRPC reuses the silent connection of a closed channel for the next channel.
        self._client.grpc_options += (("grpc.use_local_subchannel_pool", 1),)
        spec = self._client.connection_spec
        self.may_move: Final[bool] = spec.scheme.endswith("+discover") or len(spec.targets) > 1
        """Whether the URL names a cluster, so that another node may be asked."""
        self.reads_leader: Final[bool] = (
            _option(spec, "node_preference", "NodePreference") == "leader"
        )
        """Whether only the leader answers reads."""
        hosts = {target.rpartition(":")[0] for target in spec.targets}
        self.is_private: Final[bool] = _option(spec, "tls", "Tls") or hosts <= _THIS_HOST
        """Whether what goes over the connection is encrypted, or stays on this host."""
        self.default_deadline: Final[float | None] = _option(
            spec, "default_deadline", "DefaultDeadline"
        )
        """How many seconds a call may take, by the URL."""

    @classmethod
    def to(cls, url: str) -> Connector:
        """Make a client for a URL.

        Raises:
            ConfigurationError: the URL is wrong, no client is installed, or both are.
        """
        library, url = load_library(), check_url(url)
        try:
            return cls(library, library.client(_in_their_scheme(library, url)))
        except (ValueError, OSError) as exc:
            message = f"{redact(url)}: {explain(exc, url)}"
            raise ConfigurationError(message) from None

    @classmethod
    def like(cls, client: Any) -> Connector:
        """Make a client with the URL, the certificates and the options of the caller's.

        The connection of the caller's own is left alone: the store ends one that is silent, and
        moves to another node, which would cut off what the caller does on it.

        Raises:
            InvalidArgumentTypeError: it is no async client of the library that is installed.
        """
        library = load_library()
        if not isinstance(client, library.client):
            message = f"client must be an {library.client.__name__}, not {show(client)}"
            raise InvalidArgumentTypeError(message)
        given: Any = client
        own: Any = library.client(given.connection_spec.uri)
        for name in _SETTINGS:
            setattr(own, name, getattr(given, name))
        return cls(library, own)

    async def connect(self) -> Channel:
        """Connect, which for a cluster means to find its leader."""
        await self._client.connect()
        return self._channel()

    async def reconnect(self, target: str | None) -> Channel:
        """Connect anew, to a node that is named or to the one that is found."""
        await self._client.reconnect(target)
        return self._channel()

    async def close(self) -> None:
        """Let go of the vendor's client, whose channel has been closed."""
        await self._client.close()

    def _channel(self) -> Channel:
        connection, client = self._client._connection, self._client

        def arguments(*, leader: bool) -> dict[str, Any]:
            header = ("requires-leader", "true" if leader else "false")
            return {
                "metadata": (*(client._call_metadata or ()), header),
                "credentials": client._call_credentials,
            }

        return Channel(
            connection.streams._stub,
            connection.v2streams._stub if hasattr(connection, "v2streams") else None,
            arguments(leader=self.reads_leader),
            arguments(leader=True),
            connection._grpc_channel,
        )


def _option(spec: Any, newer: str, older: str) -> Any:
    """Read an option of the URL, whose name has changed."""
    options = spec.options
    return getattr(options, newer) if hasattr(options, newer) else getattr(options, older)


def _in_their_scheme(library: Library, url: str) -> str:
    """Write a URL so that the client knows its scheme."""
    scheme, colon, rest = url.partition("://")
    scheme = scheme.lower()
    if library.name == "esdbclient":
        scheme = re.sub("^(kurrentdb|kdb)", "esdb", scheme)
    return scheme + colon + rest
