"""The contract of an engine: what an adapter writes, and what the store does for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Hashable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from eventport._engine.commits import Commit, Committed, Outcome
from eventport._engine.listing import NameQuery
from eventport._engine.queries import (
    AllPage,
    AllQuery,
    MatchPage,
    MatchQuery,
    StreamPage,
    StreamQuery,
)
from eventport._engine.remarks import Remark
from eventport.errors import StoreUnavailableError
from eventport.protocols import Capability
from eventport.results import StreamInfo


class Engine(Protocol):
    """Keeps events: it writes batches of commits and reads pages.

    All that a user of an event store sees beyond this is made by `Store`: checking and encoding,
    batches, sessions, folds, paging, subscriptions, hooks, closing. What the engine gets has been
    checked, and it is called only between its opening and `close`.

    Its errors are `EventportError`s, each with the class that is true of it. Their texts name
    stream, type and reason, and never a value of an event or a part of a password.
    """

    @property
    def name(self) -> str:
        """Where the events are, without any password: it stands in reprs and errors."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this engine can do beyond what all of them can.

        Without `Capability.SHARED` no other store can commit, so nobody polls.
        """
        ...

    @property
    def limitations(self) -> Mapping[Capability, str]:
        """Why it cannot do the rest, and what can: the text of `NotSupportedError`."""
        ...

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """Write a batch and return an outcome for each commit, in the same order.

        Each commit is atomic: the expectations of its writes and its guards are checked and its
        events written in one step, or nothing is. Only engines with `Capability.GUARDS` get a
        `StreamGuard`, and only those with `Capability.CONDITIONS` a `QueryGuard`.

        A `QueryGuard` holds if all events that match its query were seen; of two commits
        that would break each other's guards, at most one is written.

        Commits are independent: the conflict of one is its outcome and keeps no other from being
        written. A later commit of the batch sees what an earlier one wrote.

        A commit whose expectations are all exact (a version or ``"no_stream"``) and fail, while
        exactly its events are there at exactly those versions, is `Committed` and deduplicated.
        So is one whose `QueryGuard` is broken by an event of its own, that an earlier try of the
        same append has written.

        The events of a commit get increasing positions in the order of the commit. Within a
        stream the times that the engine stamps never go back, whatever clocks do. A copy keeps
        its `EncodedEvent.recorded_at` as it is, even if that is before the event before it; what
        is appended after it is not before it. `StreamWrite.times` does that within one write.

        How it is called depends on how the `Store` groups commits. With ``"always"`` there is one
        call at a time, and it is never cancelled. With ``"contended"`` there is one call at a
        time, and with ``"never"`` there may be several; then a cancelled caller reaches it, and
        it first comes to its end. A `Remote` engine with ``"contended"`` need not do that: the
        store finds out what became of the commit.

        Raises:
            ConnectionLostError: nothing was written; the same batch may be tried again.
            AnswerLostError: the connection dropped before the answer came.
            EventportError: anything else; nothing of the batch was written. If it has several
                commits, each is then tried alone, to find the one that is to blame.
        """
        ...

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """Fetch a page of one stream, and its true head.

        Head and events are of one moment. `StreamQuery.clip` gives the versions wanted. A page
        may be short, to bound memory, but has at least one event if there is any; the store asks
        for the rest.

        Raises:
            ConnectionLostError: the store asks again.
        """
        ...

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """Fetch a page of all streams in global order, after a position.

        **Stable prefix.** Readers keep the highest position that they have seen and never look
        below it again. So a page must end before any place where an event can still appear: once
        a page has shown position p, or said that it scanned up to p, no event at or below p may
        ever appear later. Where transactions take their positions before they commit, the page
        ends below the lowest position that an open transaction may have taken. A stream's events
        appear in version order.

        A page may be short, to bound memory or time, if `AllPage.position` has moved on.
        `AllPage.head` is the stable frontier of this moment, and never below what a page has
        shown. Only called on engines with `Capability.GLOBAL_ORDER`.

        Raises:
            ConnectionLostError: the store asks again.
        """
        ...

    async def close(self) -> None:
        """Release everything; called once, when nothing is being written, never cancelled.

        Reads that are still running end with an error.
        """
        ...


@runtime_checkable
class Queries(Protocol):
    """Optional part: an engine that finds events by tags and types without a look at all others.

    Without it, the store scans all events for a query.
    """

    async def query(self, query: MatchQuery, /) -> MatchPage:
        """Fetch a page of the events of all streams that match a query.

        It shows all that is committed, even above the stable frontier. Events, head and
        `MatchPage.seen` are of one moment.

        Raises:
            ConnectionLostError: the store asks again.
        """
        ...


@runtime_checkable
class ReadsMany(Protocol):
    """Optional part: an engine that reads several streams in one round trip.

    Without it, the store reads them one by one, some at a time.
    """

    async def read_streams(self, streams: Sequence[str], /) -> Mapping[str, StreamPage]:
        """Fetch the first page of some or all of these streams, which are read from version 1.

        Each page is what `Engine.read_stream` returns for a whole stream: its events and its head
        are of one moment, and it may be short. To bound memory, streams may be left out, but not
        all of them; the store asks for the rest. All names are different.

        Raises:
            ConnectionLostError: the store asks again.
        """
        ...


@runtime_checkable
class ReadsHeads(Protocol):
    """Optional part: an engine that finds where many streams end in one round trip.

    Without it, the store asks for each stream, some at a time.
    """

    async def read_heads(self, streams: Sequence[str], /) -> Mapping[str, int]:
        """Return the heads of these streams, as `Engine.read_stream` returns them.

        Those of different streams need not be of one moment. All names are different.

        Raises:
            ConnectionLostError: the store asks again.
        """
        ...


@runtime_checkable
class Catalogues(Protocol):
    """Optional part: an engine that lists its streams without a look at all events.

    It goes with `Capability.CATALOGUE`.
    """

    async def list_streams(self, query: NameQuery, /) -> Sequence[StreamInfo]:
        """Return the streams whose names are in a range, in the order of code points.

        Only the last page may be short. What it says of a stream is of one moment. A stream that
        reads as missing is left out.

        Raises:
            ConnectionLostError: the store asks again.
        """
        ...


@runtime_checkable
class Remote(Protocol):
    """Optional part: an engine that reaches its backend over connections that may drop.

    The store gives each call a deadline, repeats reads, and finds out what became of a commit
    whose answer was lost.
    """

    @property
    def timeout(self) -> float:
        """How many seconds the store goes on trying before it gives up.

        A call that takes longer than what is left is cancelled, and counts as a connection that
        was lost. `anyio.current_effective_deadline` gives that moment to a commit or a search
        that ends a little earlier, because it can say more.
        """
        ...

    async def find(self, commits: Sequence[Commit], /) -> Sequence[Committed | None]:
        """Return which commits of a lost batch were written.

        None says that nothing of the commit was written, and that no earlier try of it can be
        written from now on, even one that is still on its way. What is found must be as durable
        as the backend's settings promise for an answer.

        Any exception means that it is still unknown: the store asks again until its deadline.
        """
        ...


@runtime_checkable
class Listens(Protocol):
    """Optional part: an engine whose backend pushes a sign that something was committed."""

    def listen(self) -> AsyncGenerator[None, None]:
        """Yield once when listening has begun, and then whenever something may be new.

        It is only a wake-up: signs may come late, twice, or not at all. The store starts it with
        the first subscription, closes it in the end, and starts it again after any exception.
        """
        ...


@runtime_checkable
class Interruptible(Protocol):
    """Optional part: an engine whose running commit can be asked to end early."""

    def interrupt(self) -> None:
        """Ask the running `Engine.commit` to end early: all its callers have been cancelled.

        It need not do anything. If the commit then raises, nothing of it was written, unless
        the error is a `StoreUnavailableError`. After that, the store of a `Remote` engine finds
        out what became of the commit, but does not write it again.
        """
        ...


@runtime_checkable
class Unblocks(Protocol):
    """Optional part: an engine that returns `Blocked` for a commit to a locked stream.

    The store keeps such a commit aside, so that it holds up no commit to other streams, and polls
    until its streams are free. Later commits to these streams wait behind it.
    """

    @property
    def timeout(self) -> float:
        """How many seconds a commit waits for its streams."""
        ...

    async def find_lockers(self, streams: Collection[str], /) -> Mapping[str, Hashable | None]:
        """Return for each stream the transaction that keeps it locked; None if none does.

        It is asked about names in `Blocked.on`, too.

        Any value will do that differs between transactions: a stream that has passed on to
        another one was free in between.
        """
        ...


@runtime_checkable
class ChecksCaller(Protocol):
    """Optional part: an engine that some callers must not wait for."""

    def check_caller(self) -> None:
        """Raise if the running task holds what its own commit would wait for.

        It is called in the caller's task before each commit, so that it sees its context.

        Raises:
            NotSupportedError: the commit would wait for its own caller.
        """
        ...


@runtime_checkable
class KnowsLast(Protocol):
    """Optional part: an engine whose newest events can be beyond the stable frontier."""

    async def last_position(self) -> int:
        """Return a position at or above that of every event that a caller may know.

        A subscription after a higher position is refused: such a position comes from another
        store, or from a history that was replaced.
        """
        ...


@runtime_checkable
class Identified(Protocol):
    """Optional part: an engine that knows which store it works on."""

    @property
    def store_id(self) -> str:
        """The store's own id, made when the store was made, and kept by restarts and backups."""
        ...


@runtime_checkable
class Examines(Protocol):
    """Optional part: an engine that can report on the state and the settings of its backend."""

    async def examine(self) -> Sequence[Remark]:
        """Report what an operator should know: versions, rights, limits, settings that lose data.

        It changes nothing, and needs no right that appending and reading do not need: what the
        user may not see is left out, or is a remark itself.

        Raises:
            ConnectionLostError: the store asks again.
        """
        ...


@runtime_checkable
class Fences(Protocol):
    """Optional part: an engine that can keep the appends of all processes away.

    A fence is kept with the events, and outlives the process that sets it. While it stands, an
    append by any store on these events, in whichever process and however it was opened, raises
    `StoreFencedError` in place of writing. Conflicts, and appends that were written before, have
    their usual outcomes. A move needs it: see `eventport.moving`.
    """

    async def fenced(self) -> str | None:
        """Return what the fence says; None if there is none.

        Raises:
            ConnectionLostError: the store asks again.
        """
        ...

    async def set_fence(self, before: str | None, after: str | None, /) -> bool:
        """Change what the fence says, if it is what the caller takes it for; return whether.

        This is atomic with regard to appends: when it has returned, all that was written without
        the fence can be read, and nothing is written any more. It waits for commits under way.

        Args:
            before: What the fence says now; None for no fence.
            after: What it is to say, in one line; None to take the fence away.

        Raises:
            ConnectionLostError: the fence may have changed or not.
            StoreUnavailableError: another transaction keeps the store busy; nothing was changed.
        """
        ...


class ConnectionLostError(StoreUnavailableError):
    """Nothing was written, and another attempt may succeed.

    The connection dropped or could not be made, or the backend undid a transaction, for a
    deadlock for example.
    """


class AnswerLostError(ConnectionLostError):
    """The connection dropped before the answer came: the commit may have been written."""
