"""A store inside a transaction of the caller's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar, Concatenate, Never, ParamSpec, TypeVar

from anyio import Lock

from eventport.adapter import (
    AfterCommitHook,
    AllPage,
    BaseEventStore,
    Commit,
    Outcome,
    StreamPage,
)
from eventport.errors import NotSupportedError, StoreUnavailableError
from eventport.protocols import Capability
from eventport.shielding import run_shielded

from eventport_postgres.asking import AnyConnection, ask_one
from eventport_postgres.batches import Statements, outcomes
from eventport_postgres.errors import DRIVER_ERRORS, translated
from eventport_postgres.inline import InlineProjections
from eventport_postgres.reading import Reader
from eventport_postgres.schema import Place


P = ParamSpec("P")
T = TypeVar("T")


class JoinedEventStore(BaseEventStore):
    """An `EventStore` whose effects belong to the transaction that is open on a connection.

    Reads of a stream see what the transaction has appended. The order of the whole store, which
    `read_all` gives, holds only what has been committed, and ends below this transaction: as
    long as it is open, it keeps other readers from going beyond the place where it began. So
    keep it short. An error of the server aborts the transaction, as any statement's would; a
    conflict does not.

    There are no after-commit hooks and no subscriptions, since it does not see the commit.
    """

    capabilities = frozenset({Capability.SESSIONS, Capability.GLOBAL_ORDER})
    limitations: ClassVar[dict[Capability, str]] = {
        Capability.PUSH: "a transaction is not told of others",
        Capability.SHARED: "the transaction belongs to one connection",
        Capability.DURABLE: "the transaction may be rolled back",
    }

    def __init__(
        self, connection: AnyConnection, schema: str, place: Place, inline: InlineProjections
    ) -> None:
        super().__init__()
        self._connection = connection
        self._schema = schema
        self._inline = inline
        self._reader = Reader(schema, place)
        self._statements = Statements(schema, place)
        self._lock = Lock()  # a connection does one thing at a time

    def __repr__(self) -> str:
        """Show the schema."""
        return f"<JoinedEventStore: schema {self._schema}>"

    def after_commit(self, hook: AfterCommitHook) -> Never:
        """Refuse: only the owner of the transaction knows when it is committed."""
        message = f"{hook!r} cannot be called after a commit that somebody else does"
        raise NotSupportedError(message)

    def subscribe(self, **_: object) -> Never:
        """Refuse: a subscription in a transaction would keep it open for ever."""
        message = "a subscription needs a store of its own, not one inside a transaction"
        raise NotSupportedError(message)

    async def _dispatch(self, commit: Commit) -> Outcome:
        return (await run_shielded(self._commit_batch, [commit]))[0]

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        request = self._statements.write(commits)
        if self._inline:
            return await self._ask(self._inline.write_within, commits, request)
        row = await self._ask(self._fetch, *request)
        return outcomes(commits, row)

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        return await self._ask(self._reader.stream, stream, first, last, max_count, backwards)

    async def _read_all(
        self,
        after: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        return await self._ask(self._reader.all, after, max_count, types, prefix)

    async def _fetch(self, connection: AnyConnection, sql: str, *args: object) -> Iterable[Any]:
        return await ask_one(connection, sql, *args)

    async def _ask(
        self,
        query: Callable[Concatenate[AnyConnection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        async with self._lock:
            if self._connection.is_closed():
                raise StoreUnavailableError("the connection of this transaction is closed")
            if not self._connection.is_in_transaction():
                message = (
                    "no transaction is open on this connection: call using() inside "
                    "`async with connection.transaction()`, and use its store only there"
                )
                raise NotSupportedError(message)
            try:
                return await query(self._connection, *args, **kwargs)
            except DRIVER_ERRORS as exc:
                raise translated(exc) from exc
