"""The one module that knows which client is installed; it hides their names, retries and errors.

Their own retries are not used: they cannot tell whether an append took place, and repeat it.
"""

from __future__ import annotations

import asyncio
import re

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, cast

from eventport.adapter import EncodedEvent
from eventport.errors import (
    ConfigurationError,
    EventportError,
    InvalidArgumentError,
    NotSupportedError,
    PayloadTooLargeError,
    StoreUnavailableError,
)
from eventport.shielding import run_shielded
from eventport.adapter import redact

from eventport_eventstoredb.wire import (
    BYTES,
    JSON,
    Stored,
    carried_type,
    plain_metadata,
    wrapped_metadata,
)


if TYPE_CHECKING:
    from collections.abc import Generator


T = TypeVar("T")

Together: TypeAlias = Literal["records", "streams"]
"""How a server commits several streams: records in any order, or stream by stream."""

ANY: Final = -2
NO_STREAM: Final = -1
EXISTS: Final = -4
"""Expected revisions that are none, as the newer protocol writes them."""

_MESSAGE_LIMIT: Final = 16_767_216
"""The largest message that a server takes, whatever it says of events."""

_RETRY_DELAYS: Final = (0.05, 0.2, 0.5)
"""The pauses between attempts to read."""

_CODE: Final = re.compile(r"StatusCode\.([A-Z_]+)")


@dataclass(frozen=True)
class Appended:
    """An append to one stream that took place, now or before."""

    version: int
    """The version of its last event."""
    commit_position: int
    """The byte offset of its last event."""


@dataclass(frozen=True)
class Refused:
    """An append of which nothing was written, because of an expectation."""

    stream: str
    version: int
    """The stream's version, by the server's own count."""


class TombstonedError(NotSupportedError):
    """The stream was deleted for good."""

    def __init__(self, stream: str) -> None:
        super().__init__(
            f"stream {stream!r} has been deleted for good (it has a tombstone), so that nothing "
            "can ever be appended to it; choose another name"
        )


@dataclass(frozen=True)
class _Library:
    """What the two clients have under different names."""

    name: str
    package: ModuleType
    streams: ModuleType
    exceptions: ModuleType
    client: type[Any]

    def error(self, name: str) -> type[Exception]:
        """Find an exception; the newer client has added ``Error`` to the names."""
        found = getattr(self.exceptions, name, None) or getattr(self.exceptions, f"{name}Error")
        return cast("type[Exception]", found)


def load_library() -> _Library:
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
    (name,) = names
    package = import_module(name)
    classes = {
        "esdbclient": "AsyncEventStoreDBClient",
        "kurrentdbclient": "AsyncKurrentDBClient",
    }
    return _Library(
        name,
        package,
        import_module(f"{name}.streams"),
        import_module(f"{name}.exceptions"),
        getattr(package, classes[name]),
    )


class Client:
    """A connection to a server or a cluster; errors are those of eventport.

    Every call runs in a task of its own, because the clients turn a cancellation into other
    errors, or swallow it.
    """

    def __init__(self, library: _Library, url: str, timeout: float) -> None:
        self.name: Final = f"{library.name} {version(library.name)}"
        self._library = library
        self._timeout = timeout
        self._states = library.package.StreamState
        self._reconnecting = asyncio.Lock()
        self._given_up: Any = None
        self._closed = False
        try:
            self._client = _reporting(library)(_understood(library, url))
        except (ValueError, OSError) as exc:
            # The client's own text may hold the password.
            message = f"{redact(url)}: {redact(str(exc).replace(url, redact(url)))}"
            raise ConfigurationError(message) from None

    async def connect(self) -> None:
        """Connect, which for a cluster means to find its leader."""
        with self._translated():
            await self._client.connect()

    async def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._given_up = self._connection
        with suppress(EventportError), self._translated():
            await self._client.close()

    async def together(self) -> Together | None:
        """Ask how the server commits several streams: an empty request tells, and does nothing."""
        service = getattr(self._connection, "v2streams", None)
        if service is None:
            return None
        ways: tuple[tuple[Together, Callable[[], Awaitable[Any]]], ...] = (
            ("records", lambda: service.append_records([], None, **self._options(append=True))),
            ("streams", lambda: service.multi_append([], **self._options(append=True))),
        )
        for way, ask in ways:
            try:
                await ask()
            except self._library.error("GrpcError") as exc:
                if _code(exc) == "UNIMPLEMENTED":
                    continue
                if _code(exc) != "INVALID_ARGUMENT":
                    raise self._translate(exc) from exc
            except self._base_error:
                pass  # it knows the method, and refuses the request
            return way
        return None

    # Appending.

    async def append(
        self, stream: str, expected: int, events: Sequence[EncodedEvent]
    ) -> Appended | Refused:
        """Append to one stream, once.

        Raises:
            StoreUnavailableError: it is not known whether it took place.
            EventportError: nothing was written.
        """
        new = self._library.package.NewEvent
        # It is a list, always: the client would send a generator's events once, and none again.
        batch = [
            new(
                event.type,
                _data(event),
                plain_metadata(event.metadata),
                JSON if isinstance(event.data, str) else BYTES,
                event.id,
            )
            for event in events
        ]
        _check_size(events)
        return await self._apart(
            lambda: self._connection.streams.batch_append(
                stream, self._expected(expected), batch, **self._options(append=True)
            ),
            stream,
        )

    async def append_together(
        self,
        way: Together,
        writes: Sequence[tuple[str, Sequence[EncodedEvent]]],
        expected: dict[str, int],
    ) -> Refused | None:
        """Append to several streams in one commit, once; raise what `append` raises."""
        _check_size([event for _, events in writes for event in events])
        package, service = self._library.package, self._connection.v2streams
        if way == "records":
            records = [
                package.NewRecord(
                    stream,
                    event.type,
                    _data(event),
                    wrapped_metadata(event.metadata, None),
                    JSON if isinstance(event.data, str) else BYTES,
                    event.id,
                )
                for stream, events in writes
                for event in events
            ]
            checks = [
                package.StreamStateCheck(stream, self._expected(revision))
                for stream, revision in expected.items()
                if revision != ANY
            ]
            call = service.append_records
            arguments: tuple[Any, ...] = (records, checks)
        else:
            news = [
                package.NewEvents(
                    stream, list(map(self._carried, events)), self._expected(expected[stream])
                )
                for stream, events in writes
            ]
            call = service.multi_append
            arguments = (news,)
        options = self._options(append=True)
        try:
            await self._apart(lambda: call(*arguments, **options), ", ".join(expected))
        except _WrongVersionsError as exc:
            cause: Any = exc.__cause__
            if failures := getattr(cause, "failures", ()):
                failure = failures[0].stream_state_failure
                return Refused(failure.stream_name, _version(failure.actual_state))
            return Refused(cause.stream_name, _version(cause.actual_version))
        return None

    # Reading.

    async def read(
        self,
        stream: str,
        revision: int | None,
        limit: int,
        max_bytes: int,
        *,
        backwards: bool = False,
    ) -> tuple[list[Stored], bool] | None:
        """Read some events of a stream; None if it is missing.

        Args:
            stream: Its name.
            revision: Where to begin; None for the start, or the end if it goes backwards.
            limit: The most events wanted, at least 1.
            max_bytes: It stops when there are more.
            backwards: Newest first.

        Returns:
            The events, and whether there are no more.
        """
        try:
            return await self._take(
                lambda: self._connection.streams.read(
                    stream_name=stream,
                    stream_position=revision,
                    backwards=backwards,
                    limit=limit,
                    **self._options(),
                ),
                stream,
                limit,
                max_bytes,
            )
        except (_NotFoundError, TombstonedError):
            return None

    async def read_all(
        self,
        commit_position: int | None,
        limit: int,
        max_bytes: int,
        pattern: str,
        *,
        by_stream: bool,
        backwards: bool = False,
    ) -> tuple[list[Stored], bool]:
        """Read some events of all streams, beginning with the one at a position."""
        return await self._take(
            lambda: self._connection.streams.read(
                commit_position=commit_position,
                backwards=backwards,
                filter_include=(pattern,),
                filter_by_stream_name=by_stream,
                limit=limit,
                **self._options(),
            ),
            "$all",
            limit,
            max_bytes,
        )

    async def follow(self, pattern: str) -> AsyncGenerator[None, None]:
        """Give a sign when the server has begun to tell of new events, and for each of them."""
        with self._translated():
            subscription = await self._connection.streams.read(
                from_end=True,
                filter_include=(pattern,),
                filter_by_stream_name=True,
                subscribe=True,
                **self._options(),
            )
            async with subscription:
                yield
                async for _ in subscription:
                    yield

    # Inside.

    @property
    def _connection(self) -> Any:
        return self._client._connection

    @property
    def _base_error(self) -> type[Exception]:
        library = self._library
        name = "EventStoreDBClientException"
        found = getattr(library.exceptions, name, None) or library.error("KurrentDBClient")
        return cast("type[Exception]", found)

    def _options(self, *, append: bool = False) -> dict[str, Any]:
        """Return the arguments that every call of the client's own has, too."""
        return {
            "metadata": self._client._call_metadata,
            "credentials": self._client._call_credentials,
            "timeout": (self._client._default_deadline or self._timeout) if append else None,
        }

    def _expected(self, revision: int) -> Any:
        names = {ANY: "ANY", NO_STREAM: "NO_STREAM", EXISTS: "EXISTS"}
        return self._states[names[revision]] if revision in names else revision

    def _carried(self, event: EncodedEvent) -> Any:
        type_ = carried_type(event.type)
        return self._library.package.NewEvent(
            type_,
            _data(event),
            wrapped_metadata(event.metadata, event.type if type_ != event.type else None),
            JSON if isinstance(event.data, str) else BYTES,
            event.id,
        )

    async def _take(
        self, ask: Callable[[], Awaitable[Any]], stream: str, limit: int, max_bytes: int
    ) -> tuple[list[Stored], bool]:
        """Collect what a read gives; try again, from the beginning, if the connection is lost."""

        async def collect() -> tuple[list[Stored], bool]:
            found: list[Stored] = []
            size = 0
            connection = self._connection
            response = await ask()
            async with response:
                async for event in response:
                    found.append(event)
                    size += len(event.data) + len(event.metadata)
                    if len(found) == limit or size > max_bytes:
                        break
                else:
                    # Of a connection that is given up, the clients stop what they read, as if it
                    # had come to its end.
                    if connection is not self._connection or connection is self._given_up:
                        raise StoreUnavailableError("the connection was given up meanwhile")
                    return found, True
            return found, False

        for delay in _RETRY_DELAYS:
            try:
                return await self._apart(collect, stream)
            except StoreUnavailableError:
                await asyncio.sleep(delay)
        return await self._apart(collect, stream)

    async def _apart(self, work: Callable[[], Awaitable[T]], stream: str) -> T:
        """Do something in a task of its own, and reconnect if it finds the server gone."""
        connection = self._connection

        async def run() -> T:
            with self._translated(stream):
                return await work()

        task = asyncio.ensure_future(run())
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            try:
                await run_shielded(asyncio.wait, [task])
            finally:  # an anyio scope cancels that wait, too
                if not task.cancelled():
                    task.exception()  # it was looked at
            raise
        if task.cancelled():  # by the connection, which somebody has closed
            raise StoreUnavailableError("the connection to the server was closed meanwhile")
        try:
            return task.result()
        except _NotLeaderError as exc:
            await self._reconnect(connection, exc.target)
            raise
        except StoreUnavailableError:
            await self._reconnect(connection, None)
            raise

    async def _reconnect(self, gone: Any, target: str | None) -> None:
        """Make a new connection, unless somebody else has done so already."""
        async with self._reconnecting:
            if self._connection is gone and not self._closed:
                self._given_up = gone
                with suppress(EventportError), self._translated():
                    # The client itself would first wait for what still runs on the old one, such
                    # as a subscription, for 5 seconds. What is cut off here is taken up again.
                    await gone._grpc_channel.close(None)
                    await self._client.reconnect(target)

    @contextmanager
    def _translated(self, stream: str = "") -> Generator[None]:
        """Turn the clients' errors, and those of gRPC that they let through, into ours."""
        try:
            yield
        except EventportError:
            raise
        except Exception as exc:
            raise self._translate(exc, stream) from exc

    def _translate(self, exc: Exception, stream: str = "") -> Exception:  # noqa: C901, PLR0911
        is_a = self._is_a
        text = str(exc) or type(exc).__name__
        if is_a(exc, "NotFound"):
            return _NotFoundError(text)
        if is_a(exc, "StreamIsDeleted", "StreamTombstoned"):
            return TombstonedError(getattr(exc, "stream_name", None) or stream)
        if is_a(exc, "WrongCurrentVersion", "ConsistencyChecksFailed"):
            return _WrongVersionsError(text)
        if is_a(exc, "NodeIsNotLeader"):
            return _NotLeaderError(text, _leader(exc) if self._may_move else None)
        if is_a(exc, "MaximumAppendSizeExceeded", "RecordMaxSizeExceeded") or is_a(
            exc, "TransactionMaxSizeExceeded"
        ):
            return PayloadTooLargeError(f"the server refuses an append of this size: {text}")
        if is_a(exc, "AccessDenied", "Unauthenticated"):
            return ConfigurationError(f"the server denies access to {stream or 'it'}: {text}")
        if is_a(exc, "InvalidCommitPosition") or "InvalidPosition" in text:
            return InvalidArgumentError("no event has the position given as after")
        code = _code(exc)
        if code == "RESOURCE_EXHAUSTED":
            return PayloadTooLargeError(f"the server refuses a message of this size: {text}")
        if code in {"INVALID_ARGUMENT", "UNIMPLEMENTED"} or is_a(exc, "BadRequest"):
            return NotSupportedError(f"the server refuses the request: {text}")
        if isinstance(exc, self._base_error | OSError) or type(exc).__module__.startswith("grpc"):
            return StoreUnavailableError(f"no answer from the server: {text}")
        return exc

    @property
    def _may_move(self) -> bool:
        """Whether the URL names a cluster, so that another node may be asked."""
        spec = self._client.connection_spec
        return spec.scheme.endswith("+discover") or len(spec.targets) > 1

    def _is_a(self, exc: Exception, *names: str) -> bool:
        found = {kind.__name__ for kind in type(exc).__mro__}
        return any(name in found or f"{name}Error" in found for name in names)


class _NotFoundError(EventportError):
    """The stream is missing, or softly deleted."""


class _WrongVersionsError(EventportError):
    """An append to several streams had a conflict; the cause says where."""


class _NotLeaderError(StoreUnavailableError):
    """This node of the cluster takes no appends; nothing was written."""

    def __init__(self, text: str, target: str | None) -> None:
        super().__init__(f"this node is not the cluster's leader: {text}")
        self.target = target


def _reporting(library: _Library) -> type[Any]:
    """Derive a client whose appends say what the server said.

    The server tells the stream's new revision, and the client drops it; to ask again would
    double the price of an append.
    """
    convert = library.streams.AsyncStreamsService._convert_batch_append_resp
    shared = library.streams.shared_pb2

    def report(response: Any, stream: str, expected: Any) -> Appended | Refused:
        if response.WhichOneof("result") == "success":
            success = response.success
            return Appended(success.current_revision + 1, success.position.commit_position)
        details = response.error.details
        if details.Is(shared.WrongExpectedVersion.DESCRIPTOR):
            found = shared.WrongExpectedVersion()
            details.Unpack(found)
            missing = found.WhichOneof("current_stream_revision_option") == "current_no_stream"
            return Refused(stream, 0 if missing else found.current_stream_revision + 1)
        convert(response, stream, expected)
        raise TypeError(response)  # cannot be: the line above raises

    class Reporting(library.client):  # type: ignore[misc, name-defined]
        def _construct_esdb_connection(self, *args: Any, **kwargs: Any) -> Any:
            connection = super()._construct_esdb_connection(*args, **kwargs)
            connection.streams._convert_batch_append_resp = report
            return connection

    return Reporting


def _understood(library: _Library, url: str) -> str:
    """Write a URL so that the client knows its scheme."""
    scheme, colon, rest = url.partition("://")
    scheme = scheme.lower()
    if library.name == "esdbclient":
        scheme = re.sub("^(kurrentdb|kdb)", "esdb", scheme)
    return scheme + colon + rest


def _data(event: EncodedEvent) -> bytes:
    return event.data.encode() if isinstance(event.data, str) else event.data


def _check_size(events: Sequence[EncodedEvent]) -> None:
    """Refuse what no server takes, before the client meets it in the form of a lost connection."""
    size = sum(len(event.data) + len(event.metadata) for event in events)
    if size > _MESSAGE_LIMIT:
        message = f"an append of {size} bytes is beyond the {_MESSAGE_LIMIT} that servers take"
        raise PayloadTooLargeError(message)


def _version(revision: object) -> int:
    return revision + 1 if isinstance(revision, int) and revision >= 0 else 0


def _code(exc: Exception) -> str:
    """Find gRPC's status code in the text of an error that has no class of its own."""
    match = _CODE.search(str(exc))
    return match[1] if match else ""


def _leader(exc: Any) -> str | None:
    """Find where the cluster's leader is."""
    if found := getattr(exc, "leader_grpc_target", None):
        return str(found)
    return f"{exc.host}:{exc.port}" if exc.host and exc.port else None
