"""Keys that only one owner can hold, such as an email address: a stream for each reserves it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

from msgspec import Struct

from eventport.errors import (
    EventportError,
    InvalidArgumentError,
    InvalidArgumentTypeError,
)
from eventport.events import NewEvent
from eventport.protocols import Session, Streams
from eventport.toolkit_streams import digest, not_a_record, read_record, toolkit_stream
from eventport.validation import show


__all__ = ["DuplicateKeyError", "KeyChanges", "UniqueKeys"]

CLAIMED: Final = "eventport.KeyClaimed"
RELEASED: Final = "eventport.KeyReleased"


class DuplicateKeyError(EventportError):
    """Another owner holds this unique key; nothing of the change was written."""

    def __init__(self, name: str, key: str, owner: str, *, hidden: bool = False) -> None:
        super().__init__(name, key, owner)
        self.name = name
        """What the keys are, such as ``"email"``."""
        self.key = key
        """The value that was claimed."""
        self.owner = owner
        """The owner that holds it."""
        self.hidden = hidden
        """Whether the value is kept out of the message, because only its hash is stored."""

    def __str__(self) -> str:
        key = "this value" if self.hidden else repr(self.key)
        return f"{self.name}: {key} is taken: it belongs to {self.owner!r}"

    def __repr__(self) -> str:
        return f"<DuplicateKeyError: {self}>"


class _Record(Struct, frozen=True):
    """That an owner has claimed a key, or released it."""

    name: str
    key: str
    owner: str


class UniqueKeys:
    """Keys of one kind, each of which has at most one owner at any time.

    A key is claimed, moved and released in a session, and so in the same commit as the events
    that are the reason for it. Run the session with `run_in_session`: of tasks that claim one key
    at the same time, the first to commit gets it, and each of the others finds that out in its
    next attempt, as a `DuplicateKeyError`. In the same session, read the owner's own stream
    first and append to it: then a rival change of the same owner is a conflict, too.

    Args:
        name: What the keys are, such as ``"email"``.
        normalise: Maps values that count as the same to one, such as `str.casefold`. Keys
            that are held already are not found by another rule, so it must not change.
        hashed: Keep the SHA-256 of a value instead of the value. A reader of the store can
            still guess values that are not random, and check a guess by its hash.
        secret: Keep an HMAC-SHA256 with this secret instead, which cannot be guessed without it.
            Keys that are held already are not found with another secret.
    """

    def __init__(
        self,
        name: str,
        *,
        normalise: Callable[[str], str] | None = None,
        hashed: bool = False,
        secret: bytes | None = None,
    ) -> None:
        if secret is not None and not secret:
            raise InvalidArgumentError("secret is empty, and so could be guessed")
        self.name = name
        self.hashed = hashed or secret is not None
        self._normalise = normalise
        self._secret = secret

    async def find_by(self, streams: Streams, value: str) -> str | None:
        """Return the owner of a key, as a store or a session sees it; None if it is free."""
        owner, _ = await self.look_up(streams, self.key(value))
        return owner

    async def claim(self, session: Session, value: str, owner: str) -> None:
        """Let an owner hold a key; if it does already, nothing is written.

        Args:
            session: The unit of work whose commit makes it so.
            value: The key's value.
            owner: The new owner, best the name of a stream.

        Raises:
            DuplicateKeyError: another owner holds it.
            NotSupportedError: this is the session's second stream, and the backend cannot do that;
                leave the block with it, and nothing is written.
        """
        async with self.changes(session) as changes:
            changes.claim(value, owner)

    async def move(self, session: Session, old: str, new: str, owner: str) -> None:
        """Let an owner hold another key instead; see `claim` and `release`."""
        async with self.changes(session) as changes:
            changes.move(old, new, owner)

    async def release(self, session: Session, value: str, owner: str) -> None:
        """Let an owner no longer hold a key; if it does not, nothing is written."""
        async with self.changes(session) as changes:
            changes.release(value, owner)

    @asynccontextmanager
    async def changes(self, session: Session) -> AsyncGenerator[KeyChanges, None]:
        """Collect changes that are checked together when the block ends, whatever their order.

        So two owners can swap their keys. If one of the changes cannot be, the end of the block
        raises `DuplicateKeyError`, and none of them is made.
        """
        changes = KeyChanges(self)
        yield changes
        await changes.apply(session)

    def key(self, value: str) -> str:
        """Return what stands for a value in the store: itself, normalised, or its hash."""
        if not isinstance(cast("object", value), str):
            message = f"a value of {self.name!r} must be text, not {show(value)}: convert it"
            raise InvalidArgumentTypeError(message)
        text = value if self._normalise is None else self._normalise(value)
        if not text:
            message = f"a value of {self.name!r} is empty: claim no key where there is no value"
            raise InvalidArgumentError(message)
        return digest(text, self._secret) if self.hashed else text

    def stream(self, key: str) -> str:
        """Return the stream that reserves what `key` returns."""
        return toolkit_stream("key", self.name, key)

    async def look_up(self, streams: Streams, key: str) -> tuple[str | None, int]:
        """Return the owner of what `key` returns, and the version of its stream.

        Raises:
            CorruptEventError: something else has written to that stream.
        """
        stream = self.stream(key)
        found = await streams.read(stream, backwards=True, max_count=1)
        if not found.events:
            return None, found.version
        event = found.events[0]
        type_ = RELEASED if event.type == RELEASED else CLAIMED
        record = read_record(event, type_, _Record)
        if (record.name, record.key) != (self.name, key):
            raise not_a_record(event, type_, "it is about another key")
        return record.owner if type_ == CLAIMED else None, found.version


class KeyChanges:
    """Changes of keys that are made together; see `UniqueKeys.changes`."""

    def __init__(self, keys: UniqueKeys) -> None:
        self._keys = keys
        self._wishes: dict[str, dict[str, bool]] = {}
        """For each key, its owners-to-be (True) and those that release it (False)."""
        self._values: dict[str, str] = {}

    def claim(self, value: str, owner: str) -> None:
        """Let an owner hold a key; see `UniqueKeys.claim`."""
        self._wish(value, owner, holds=True)

    def move(self, old: str, new: str, owner: str) -> None:
        """Let an owner hold another key instead."""
        self._wish(old, owner, holds=False)
        self._wish(new, owner, holds=True)

    def release(self, value: str, owner: str) -> None:
        """Let an owner no longer hold a key; see `UniqueKeys.release`."""
        self._wish(value, owner, holds=False)

    async def apply(self, session: Session) -> None:
        """Check all changes, and then append what they take."""
        writes: list[tuple[str, list[NewEvent], int]] = []
        for key, wishes in self._wishes.items():
            owner, version = await self._keys.look_up(session, key)
            if events := self._events(key, owner, wishes):
                writes.append((self._keys.stream(key), events, version))
        for stream, events, version in writes:
            await session.append(stream, events, expected=version)

    def _wish(self, value: str, owner: str, *, holds: bool) -> None:
        if not isinstance(cast("object", owner), str):
            message = f"the owner of a key must be text, not {show(owner)}"
            raise InvalidArgumentTypeError(message)
        key = self._keys.key(value)
        self._values[key] = value
        self._wishes.setdefault(key, {})[owner] = holds

    def _events(self, key: str, owner: str | None, wishes: dict[str, bool]) -> list[NewEvent]:
        """Return the events that fulfil all wishes about one key."""
        data = {"name": self._keys.name, "key": key}
        events: list[NewEvent] = []
        if owner is not None and wishes.get(owner) is False:
            events.append(NewEvent(RELEASED, {**data, "owner": owner}))
            owner = None
        for claimant, holds in wishes.items():
            if not holds or claimant == owner:
                continue
            if owner is not None:
                hidden = self._keys.hashed
                raise DuplicateKeyError(self._keys.name, self._values[key], owner, hidden=hidden)
            events.append(NewEvent(CLAIMED, {**data, "owner": claimant}))
            owner = claimant
        return events
