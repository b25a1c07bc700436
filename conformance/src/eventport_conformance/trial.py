"""What the test of a clause works with: an empty store, and a way to say what went wrong."""

from __future__ import annotations

import math

from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Self, cast

from eventport import EventportError, EventStore, NewEvent, RecordedEvent

from eventport_conformance.proxy import Proxy, open_proxy


if TYPE_CHECKING:
    from eventport_conformance.harness import Backend, Harness


KEPT_STEPS: Final = 15
"""How many of the last steps a failure shows."""


class Deviation(AssertionError):  # noqa: N818  # it is what was found
    """The store did something else than the clause says."""

    def __init__(self, what: str, expected: str, seen: str) -> None:
        super().__init__(what, expected, seen)
        self.what = what
        self.expected = expected
        self.seen = seen

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}, seen {self.seen}"


class Caught:
    """The error that a block was expected to raise."""

    error: EventportError


class Trial:
    """One run of one clause.

    Every call on `store` is noted, so that a failure can show what was done.
    """

    def __init__(self, harness: Harness, store: EventStore, backend: Backend, seed: int) -> None:
        self.harness = harness
        self.backend: Final = backend
        self.seed: Final = seed
        self.steps = Steps()
        self.store = self.steps.noted(store, "store")
        self.bare = store
        """The store itself, for clauses that check more than the protocol."""

    @asynccontextmanager
    async def second_client(self, name: str = "second") -> AsyncGenerator[EventStore, None]:
        """Open another store on the same data."""
        async with self.harness.second_client() as store:
            yield self.steps.noted(store, name)

    @asynccontextmanager
    async def without_polling(self) -> AsyncGenerator[EventStore, None]:
        """Open another store on the same data, whose subscriptions do not poll."""
        async with self.harness.without_polling() as store:
            yield self.steps.noted(store, "without polling")

    @asynccontextmanager
    async def behind_proxy(self) -> AsyncGenerator[tuple[Proxy, EventStore], None]:
        """Open another store on the same data, with a proxy between it and the server."""
        async with (
            open_proxy(self.harness.address()) as proxy,
            self.harness.open_at(proxy.host, proxy.port) as store,
        ):
            try:
                yield proxy, self.steps.noted(store, "behind the proxy")
            finally:
                await proxy.heal()  # so that the store can take its leave

    def equal(self, seen: object, expected: object, what: str) -> None:
        """Fail unless two values are equal and of the same type, all the way down."""
        if not same(seen, expected):
            raise Deviation(what, show(expected), show(seen))

    def true(self, held: bool, what: str, seen: object = None) -> None:  # noqa: FBT001  # reads well
        """Fail unless a condition holds."""
        if not held:
            raise Deviation(what, "true", "false" if seen is None else show(seen))

    def versions(self, events: Iterable[RecordedEvent], expected: Iterable[int], what: str) -> None:
        """Fail unless events have these versions, in this order."""
        self.equal([event.version for event in events], list(expected), f"versions: {what}")

    def recorded(self, seen: Sequence[RecordedEvent], new: Sequence[NewEvent], what: str) -> None:
        """Fail unless events are what was appended, in order."""
        self.equal([as_new(event) for event in seen], list(new), what)

    @contextmanager
    def raises(self, error: type[EventportError], what: str) -> Generator[Caught]:
        """Fail unless the block raises this error of ours."""
        caught = Caught()
        try:
            yield caught
        except error as exc:
            caught.error = exc
        except Deviation:
            raise
        except Exception as exc:
            raise Deviation(what, f"{error.__name__}", f"{type(exc).__name__}: {exc}") from exc
        else:
            raise Deviation(what, f"{error.__name__}", "no error")

    async def untouched(self, stream: str, version: int, what: str) -> None:
        """Fail unless a stream is as it was, and takes the next append."""
        read = await self.store.read(stream)
        self.versions(read.events, range(1, version + 1), f"{what}, nothing was written")
        self.equal(read.version, version, f"head of the stream: {what}, nothing was written")
        after = await self.store.append(stream, [NewEvent("After", {"still": "usable"})])
        self.equal(after.version, version + 1, f"version of the next append: {what}")


class Steps:
    """Notes of what was asked of the stores, the last of them in full."""

    def __init__(self) -> None:
        self._count = 0
        self._kept: deque[str] = deque(maxlen=KEPT_STEPS)

    def note(self, text: str) -> None:
        """Keep one step."""
        self._count += 1
        self._kept.append(text)

    def lines(self) -> list[str]:
        """Return the steps, oldest first."""
        left_out = self._count - len(self._kept)
        return ([f"({left_out} steps before)"] if left_out else []) + list(self._kept)

    def noted(self, store: EventStore, name: str) -> EventStore:
        """Return a store that notes each call and passes it on."""
        return cast("EventStore", _Noted(store, self, name))


class _Noted:
    """Passes everything on, without an await of its own."""

    def __init__(self, target: Any, steps: Steps, name: str) -> None:
        self._target = target
        self._steps = steps
        self._name = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value
        method = cast("Callable[..., Any]", value)

        def call(*args: Any, **kwargs: Any) -> Any:
            shown = [brief(arg) for arg in args]
            shown += [f"{key}={brief(arg)}" for key, arg in kwargs.items()]
            self._steps.note(f"{self._name}.{name}({', '.join(shown)})")
            result = method(*args, **kwargs)
            return self._session(result) if name == "session" else result

        return call

    @asynccontextmanager
    async def _session(
        self, opening: AbstractAsyncContextManager[Any]
    ) -> AsyncGenerator[Any, None]:
        async with opening as session:
            yield _Noted(session, self._steps, "session")
            self._steps.note("the session's block ends")

    async def __aenter__(self) -> Self:
        await self._target.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._steps.note(f"{self._name}: its block ends")
        await self._target.__aexit__(*exc_info)


def same(left: Any, right: Any) -> bool:
    """Return whether two values are equal and alike in type, in the order of keys and in sign."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(left, NewEvent):
        return same(
            (left.type, left.id, left.data, left.metadata, frozenset(left.tags)),
            (right.type, right.id, right.data, right.metadata, frozenset(right.tags)),
        )
    return bool(left == right)


def as_new(event: RecordedEvent) -> NewEvent:
    """Return what a recorded event must have been appended as."""
    return NewEvent(event.type, event.data, event.metadata, event.id, event.tags)


def show(value: object) -> str:
    """Show a value in a failure."""
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 400 else f"{text[:300]} … {text[-80:]}"


def brief(value: Any) -> str:
    """Show an argument in a step."""
    if isinstance(value, NewEvent):
        return f"<{ascii(value.type)[:30]} {str(value.id)[:8]}>"
    if isinstance(value, list):
        if len(value) > 3:
            return f"[{brief(value[0])}, … {len(value)} in all]"
        return f"[{', '.join(map(brief, value))}]"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:50]}…"
