"""What an adapter's author writes: how to open the store, and what it can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, get_args

from eventport_conformance.capabilities import Capabilities, Supported


if TYPE_CHECKING:
    from eventport import EventStore, NewEvent
    from eventport.projections import CheckpointStore
    from eventport.snapshot_stores import SnapshotStore

    from eventport_conformance.notes import Notes
    from eventport_conformance.proxy import Address


Backend: TypeAlias = Literal["asyncio", "trio"]
"""An event loop that the clauses run on."""

Hook: TypeAlias = Literal[
    "second_client",
    "url",
    "address",
    "open_at",
    "restart",
    "without_polling",
    "refused_event",
    "delete_stream",
    "truncate_stream",
    "frozen",
    "troubles",
    "read_only",
    "slow_clock",
    "odd_client",
    "checkpoints",
    "snapshots",
    "inline_notes",
    "using",
]
"""What a harness may offer beyond `open`."""

BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)
HOOKS: Final[tuple[Hook, ...]] = get_args(Hook)


class Harness:
    """Opens the store that is to be proven.

    One object is made for each run of each clause.
    """

    name: ClassVar[str]
    """The name of the store in reports, such as ``postgres``."""

    capabilities: ClassVar[Capabilities]
    """What it can do, and what it cannot."""

    backends: ClassVar[tuple[Backend, ...]] = ("asyncio",)
    """The event loops that it runs on."""

    absent: ClassVar[Mapping[Hook, str]] = {}
    """Why an optional method is not there; the report shows it.

    It takes away a method that a base class has.
    """

    server: str = ""
    """The server of the store, such as ``PostgreSQL 18.1``; `open` may set it."""

    def open(self) -> AbstractAsyncContextManager[EventStore]:
        """Open a store on an empty database; usually with ``@asynccontextmanager``."""
        raise NotImplementedError

    def second_client(self) -> AbstractAsyncContextManager[EventStore]:
        """Open another store on the data of the one that `open` gave.

        Needed if the store is shared or durable. It is called while the first one is open, and
        after it has been closed.
        """
        raise NotImplementedError

    def url(self) -> str:
        """Return a URL with which `eventport.connect` opens the same data in another process.

        Optional. With it, the clauses run in which several processes write, or die.
        """
        raise NotImplementedError

    def address(self) -> Address:
        """Return where the server of the store that `open` gave listens.

        It is a host and a port, or the path of a Unix socket. Optional, together with `open_at`.
        With both, the clauses run in which connections drop: the suite puts a proxy in front of
        this address.
        """
        raise NotImplementedError

    def open_at(self, host: str, port: int) -> AbstractAsyncContextManager[EventStore]:
        """Open another store on the data of the one that `open` gave, through this address.

        Its driver must give up on a server that it cannot reach within a fraction of a minute,
        which may need other timeouts than the usual ones: a minute counts as hanging.
        """
        raise NotImplementedError

    def without_polling(self) -> AbstractAsyncContextManager[EventStore]:
        """Open another store on the data of the one that `open` gave, that does not poll.

        Its subscriptions may poll once an hour at most, so that only push can have woken them.
        Optional. With it, the clause about push runs, without a clock.
        """
        raise NotImplementedError

    def refused_event(self) -> NewEvent:
        """Return an event that is valid, but that the backend refuses as too large.

        Optional. With it, the clause runs in which one of many concurrent appends is refused.
        """
        raise NotImplementedError

    async def restart(self) -> None:
        """Kill the server of the store, and start it again on the same data.

        Optional. It must have the same address after it. With it, the clauses run in which the
        server dies; the stores that are open stay open.
        """
        raise NotImplementedError

    async def delete_stream(self, stream: str) -> None:
        """Delete a stream as another program does, past all stores, so that it can be made anew.

        Optional, for servers that delete streams.
        """
        raise NotImplementedError

    async def truncate_stream(self, stream: str, before: int) -> None:
        """Hide the events of a stream below a version, those to come included, past all stores.

        Optional, for servers that truncate streams.
        """
        raise NotImplementedError

    def frozen(self) -> AbstractAsyncContextManager[None]:
        """Let the server hang while a block runs: nothing is answered, and nothing is closed.

        Optional; SIGSTOP does it. It is used together with `address` and `open_at`.
        """
        raise NotImplementedError

    def troubles(self) -> Mapping[str, Callable[[], AbstractAsyncContextManager[None]]]:
        """Return what may go wrong on the server, by name; it does while a block runs.

        Optional, such as a table that is locked, a login that is refused, statements that are
        cancelled or time out. It is used together with `address` and `open_at`, while the store
        looks for an append whose answer was lost.
        """
        raise NotImplementedError

    def read_only(self) -> AbstractAsyncContextManager[None]:
        """Let the server take no writes while a block runs.

        Optional. It is used together with `address` and `open_at`.
        """
        raise NotImplementedError

    def slow_clock(self) -> AbstractAsyncContextManager[None]:
        """Let the clock by which events are recorded be an hour slow while a block runs.

        Optional.
        """
        raise NotImplementedError

    def odd_client(self) -> AbstractAsyncContextManager[EventStore]:
        """Open another store on the data of the one that `open` gave, with unusual settings.

        Optional: those of the role or of the connection, such as another time zone or encoding.
        """
        raise NotImplementedError

    def checkpoints(self, store: EventStore) -> AbstractAsyncContextManager[CheckpointStore[Any]]:
        """Open the checkpoint store that goes with a store.

        Optional, for backends with a checkpoint store of their own.
        """
        raise NotImplementedError

    def snapshots(self, store: EventStore) -> SnapshotStore:
        """Return a snapshot store that goes with a store.

        Optional, for backends with a snapshot store of their own.
        """
        raise NotImplementedError

    def inline_notes(self, store: EventStore) -> AbstractAsyncContextManager[Notes]:
        """Open what handlers can write to in the transaction of a commit of the store.

        Optional, for stores with inline handlers; `DocumentNotes` serves those that keep
        documents.
        """
        raise NotImplementedError

    def using(
        self,
        store: EventStore,
        commits: bool,  # noqa: FBT001  # asked by position
    ) -> AbstractAsyncContextManager[EventStore]:
        """Open a store inside a transaction of the caller's on the data of another one.

        Optional, for backends whose stores can join a transaction.

        Args:
            store: The other one.
            commits: Whether the end of the block commits the transaction, or rolls it back.
        """
        raise NotImplementedError


def given_hooks(harness: type[Harness]) -> tuple[Hook, ...]:
    """Return which of the optional methods a harness has, and does not call absent."""
    return tuple(
        hook for hook in HOOKS if _owner(harness, hook) is not Harness and not _taken(harness, hook)
    )


def absent_hooks(harness: type[Harness]) -> dict[Hook, str]:
    """Return why the other optional methods are not there."""
    given = given_hooks(harness)
    return {
        hook: harness.absent.get(hook, f"the harness has no {hook}()")
        for hook in HOOKS
        if hook not in given
    }


def _owner(harness: type[Harness], name: str) -> type:
    return next(one for one in harness.__mro__ if name in vars(one))


def _taken(harness: type[Harness], hook: Hook) -> bool:
    """Return whether a class calls a method absent that a class before it brings."""
    return hook in harness.absent and issubclass(_owner(harness, "absent"), _owner(harness, hook))


def check_harness(harness: type[Harness]) -> None:
    """Raise `TypeError` or `ValueError` for a harness that leaves a question open."""
    given: object = harness
    if not (isinstance(given, type) and issubclass(given, Harness)):
        message = f"conformance() takes a subclass of Harness, not {harness!r}"
        raise TypeError(message)
    where = harness.__qualname__
    if not isinstance(getattr(harness, "name", None), str) or not harness.name:
        message = f'{where} needs a name, such as name = "mydb"'
        raise TypeError(message)
    if not isinstance(getattr(harness, "capabilities", None), Capabilities):
        message = f"{where} needs capabilities = Capabilities(...)"
        raise TypeError(message)
    if harness.open is Harness.open:
        message = f"{where} needs open(), which opens a store on an empty database"
        raise TypeError(message)
    if not harness.backends or not set(harness.backends) <= set(BACKENDS):
        message = f"{where}.backends must be some of {BACKENDS}, not {harness.backends!r}"
        raise ValueError(message)
    _check_hooks(harness)


_ON_A_PROXY: Final[tuple[Hook, ...]] = ("frozen", "troubles", "read_only")
"""Methods whose clauses open a store through a proxy."""


def _check_hooks(harness: type[Harness]) -> None:
    """Raise `TypeError` for optional methods that do not go together."""
    where, hooks = harness.__qualname__, given_hooks(harness)
    for hook in HOOKS:
        if hook in vars(harness) and hook in vars(harness).get("absent", ()):
            message = f"{where} has {hook}(), and calls it absent"
            raise TypeError(message)
    if ("address" in hooks) != ("open_at" in hooks):
        message = f"{where} has one of address() and open_at(), which are of use only together"
        raise TypeError(message)
    for hook in _ON_A_PROXY:
        if hook in hooks and "open_at" not in hooks:
            message = f"{where} has {hook}(), which needs address() and open_at()"
            raise TypeError(message)
    for feature in ("shared", "durable"):
        claimed = isinstance(getattr(harness.capabilities, feature), Supported)
        if claimed and "second_client" not in hooks:
            message = f"{where} says {feature}=Supported(), which needs second_client() as a proof"
            raise TypeError(message)
