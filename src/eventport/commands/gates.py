"""Gates: decisions of one process are made in turn on a state in memory, and committed together."""

from __future__ import annotations

import random

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextvars import Context, copy_context
from time import monotonic
from typing import Final, Generic, TypeVar

from anyio import CancelScope, get_cancelled_exc_class, sleep
from msgspec import Struct

from eventport._concurrency.affinity import Affinity
from eventport._concurrency.backoff import Backoff
from eventport._concurrency.nesting import inside_of
from eventport._concurrency.one_shot import OneShot, one_shot_factory
from eventport._concurrency.queueing import Queue, Request
from eventport._concurrency.shielding import wait_out
from eventport.commands.deciding import CommandResult, Order
from eventport.commands.gate_states import Decision, Held
from eventport.errors import (
    ConcurrencyError,
    EventportError,
    InvalidArgumentError,
    StoreUnavailableError,
)
from eventport.protocols import EventStore
from eventport.validation import check_int, show


S = TypeVar("S")

MAX_TURN_COMMANDS: Final = 128
"""How many commands are decided in one turn, at most: a larger one would begin later."""

MAX_TURN_EVENTS: Final = 1_000
"""No command is decided in a turn any more once there are this many events."""


class GateLimits(Struct, frozen=True, kw_only=True):
    """How much a gate keeps.

    Raises:
        InvalidArgumentError: a limit is too small.
    """

    waiting: int = 10_000
    """How many commands may wait at once, those being committed included."""
    states: int = 1_000
    """How many states stay in memory while no command needs them."""
    idle: float = 60.0
    """After how many seconds without a command a state is let go, at the next command for another
    one."""

    def __post_init__(self) -> None:
        """Check the limits."""
        check_int("waiting", self.waiting, least=1)
        check_int("states", self.states, least=0)
        if not self.idle >= 0:
            message = f"idle must be a number of seconds, at least 0, not {show(self.idle)}"
            raise InvalidArgumentError(message)


class GateFullError(EventportError):
    """As many commands wait at a gate as may wait there; nothing was decided or written."""

    def __init__(self, waiting: int) -> None:
        super().__init__(waiting)
        self.waiting = waiting
        """How many commands wait."""

    def __str__(self) -> str:
        return (
            f"{self.waiting} commands wait at the gate already, so this one was not taken: let "
            "callers try again later, or raise GateLimits(waiting=...)"
        )


class Gate(Generic[S]):
    """Takes commands one after the other for each stream or boundary.

    Args:
        store: The store that is written to.
        limits: How much is kept.
        attempts: How often a command is decided at most.
    """

    def __init__(self, store: EventStore, limits: GateLimits, attempts: int) -> None:
        self._store = store
        self._limits = limits
        self._attempts = attempts
        self._affinity = Affinity()
        self._waiting = 0
        self._lanes: dict[Hashable, _Lane[S]] = {}
        self._idle: OrderedDict[Hashable, float] = OrderedDict()
        """Since when nobody has needed a lane; the longest first."""

    async def handle(
        self, key: Hashable, hold: Callable[[], Held[S]], order: Order
    ) -> CommandResult[S]:
        """Handle a command when its turn comes.

        Args:
            key: The stream or the boundary that it is decided on.
            hold: Makes what is decided on, if it is not in memory.
            order: The command.
        """
        self._affinity.check(self._store)
        if self._waiting >= self._limits.waiting:
            raise GateFullError(self._waiting)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(hold(), self._attempts)
        self._idle.pop(key, None)
        self._waiting += 1
        lane.users += 1
        try:
            return await lane.handle(order)
        finally:
            self._waiting -= 1
            lane.users -= 1
            if not lane.users:
                self._idle[key] = monotonic()
                self._evict()

    def _evict(self) -> None:
        now, limits = monotonic(), self._limits
        while self._idle:
            key, since = next(iter(self._idle.items()))
            if len(self._idle) <= limits.states and now - since < limits.idle:
                break
            del self._idle[key], self._lanes[key]


class _Lane(Generic[S]):
    """The commands for one stream or boundary, and the task that works on them while any wait."""

    def __init__(self, held: Held[S], attempts: int) -> None:
        self.users = 0
        """How many callers wait."""
        self._held = held
        self._attempts = attempts
        self._queue = Queue[_Request[S]](self._take_turn)
        self._turn: Sequence[_Request[S]] = ()
        """Those whose turn it is."""
        self._scope: CancelScope | None = None
        self._one_shot = one_shot_factory()
        self._backoff = Backoff(0.005, 0.08)
        self._conflicts = 0
        """How many turns in a row had a conflict."""

    async def handle(self, order: Order) -> CommandResult[S]:
        """Wait for the command's turn, and return its own result.

        A caller that is cancelled leaves nothing behind, unless its command is being committed:
        then it waits for the end of that. If all callers of a turn are cancelled, it ends early.
        """
        request = _Request[S](order, self._one_shot())
        self._queue.waiting[request] = None
        if not self._queue.is_working:
            # Nothing of this caller's context may reach what is done for others, too.
            Context().run(self._queue.start)
        try:
            await request.ended.wait()
        except get_cancelled_exc_class():
            request.gone = True
            self._queue.waiting.pop(request, None)
            if self._scope is not None and self._turn and all(one.gone for one in self._turn):
                self._scope.cancel()
            if request.committing:
                await wait_out(request.ended)
            raise
        return request.result()

    async def _take_turn(self) -> None:
        inside_of.set(self)  # in the task that takes the turns
        with CancelScope() as self._scope:
            await self._handle_next()

    async def _handle_next(self) -> None:
        if self._conflicts > 1:
            # Gates of other processes that lost to the same commit must not come back with us.
            await sleep(random.uniform(0, self._backoff.next()))  # noqa: S311  # no secret
        self._turn = turn = self._take()
        try:
            await self._held.refresh()
            await self._answer_repeated(turn)
            await self._commit(self._decide(turn))
        except Exception as exc:  # noqa: BLE001  # it is handed to the callers
            for request in turn:
                request.fail(exc)
        finally:
            self._turn = ()
            for request in turn:
                request.committing = False
                if request not in self._queue.waiting:
                    request.end()

    def _take(self) -> list[_Request[S]]:
        """Take the next commands that can be committed together out of the queue."""
        turn: list[_Request[S]] = []
        orders: list[Order] = []
        ids: set[object] = set()
        for request in self._queue.waiting:
            order = request.order
            key = (order.id, order.stream)
            if turn and (
                len(turn) == MAX_TURN_COMMANDS
                or turn[0].alone
                or request.alone
                or key in ids  # it is found to be a repeated one when the first is in the store
                or not self._held.may_join(orders, order)
            ):
                break
            turn.append(request)
            orders.append(order)
            ids.add(key)
        for request in turn:
            del self._queue.waiting[request]
        return turn

    async def _answer_repeated(self, turn: Sequence[_Request[S]]) -> None:
        for request in turn:
            if request.gone or not (request.order.repeatable or request.tries):
                continue  # nobody asks, or its id is new
            try:
                earlier = await self._held.earlier(request.order)
            except Exception as exc:  # noqa: BLE001  # it is handed to the caller
                request.fail(exc)
            else:
                request.answer = earlier

    def _decide(self, turn: Sequence[_Request[S]]) -> list[tuple[_Request[S], Decision[S] | None]]:
        """Decide one command after the other; each sees what was decided before it.

        From here to the commit nothing is awaited, so nobody can leave.
        """
        decided: list[tuple[_Request[S], Decision[S] | None]] = []
        events = 0
        waiting = [one for one in turn if not (one.gone or one.is_answered)]
        for request in waiting:
            if events >= MAX_TURN_EVENTS:
                break
            request.committing = True
            request.tries += 1
            try:
                decision = request.context.run(self._held.decide, request.order)
            except Exception as exc:  # noqa: BLE001  # it is handed to the caller
                request.fail(exc)
                decided.append((request, None))
            else:
                events += len(decision.result.events)
                decided.append((request, decision))
        self._put_back(waiting[len(decided) :])
        return decided

    async def _commit(self, decided: Sequence[tuple[_Request[S], Decision[S] | None]]) -> None:
        """Commit what was decided, or have it decided again.

        That a command was refused or changed nothing was decided on the others before it, too, so
        it stands only with them.
        """
        requests = [request for request, _ in decided]
        decisions = [one for _, one in decided if one is not None]
        if not requests:
            return
        try:
            results = await self._held.commit(decisions)
        except ConcurrencyError as exc:
            self._conflicts += 1
            self._again(requests, exc)
            return
        except Exception as exc:  # noqa: BLE001  # it is handed to the callers
            self._failed(requests, exc)
            return
        self._conflicts = 0
        self._backoff.reset()
        if results is None:
            self._put_back(requests)
            return
        answers = iter(results)
        for request, decision in decided:
            if decision is not None:
                request.answer = next(answers)

    def _failed(self, requests: Sequence[_Request[S]], error: Exception) -> None:
        if len(requests) == 1 or isinstance(error, StoreUnavailableError):
            for request in requests:  # whether they were written may be unknown, for all of them
                request.fail(error)
            return
        # One of them spoils the commit, of which nothing was written: find out which.
        for request in requests:
            request.alone = True
        self._put_back(requests)

    def _again(self, requests: Sequence[_Request[S]], error: Exception) -> None:
        """Let commands be decided again, or give up those that had their last try."""
        left: list[_Request[S]] = []
        for request in requests:
            if request.tries < self._attempts:
                left.append(request)
            else:
                request.fail(error)
        self._put_back(left)

    def _put_back(self, requests: Sequence[_Request[S]]) -> None:
        for request in reversed(requests):
            request.error = None
            if not request.gone:
                self._queue.waiting[request] = None
                self._queue.waiting.move_to_end(request, last=False)


class _Request(Request[CommandResult[S]]):
    """One caller's command on its way through the gate."""

    __slots__ = ("alone", "committing", "context", "gone", "order", "tries")

    interrupted = "the command was interrupted, so it is not known whether it took effect"

    def __init__(self, order: Order, ended: OneShot) -> None:
        super().__init__(ended)
        self.order = order
        self.context = copy_context()
        """That of the caller: a decider and the events' metadata depend on it."""
        self.alone = False
        """Whether it has to be committed alone, since it may be what spoils a commit."""
        self.committing = False
        """Whether it was decided, and the end of the commit is to be waited for."""
        self.gone = False
        """Whether its caller was cancelled."""
        self.tries = 0

    @property
    def is_answered(self) -> bool:
        return self.answer is not None or self.error is not None

    def fail(self, error: Exception) -> None:
        self.answer, self.error = None, error
