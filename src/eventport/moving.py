"""Moving all events of a store to another one while programs go on writing."""

from __future__ import annotations

import time

from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Final

from anyio import sleep
from msgspec import Struct

from eventport._concurrency.shielding import run_shielded
from eventport._config.urls import redact
from eventport.boundaries import Query
from eventport.comparing import copied_events
from eventport.copying import Copying, CopyReport, show_nothing
from eventport.errors import EventportError, InvalidArgumentError
from eventport.events import RecordedEvent
from eventport.fencing import can_fence, fenced, set_fence
from eventport.projections.carrying import CarriedCheckpoint, Carrying
from eventport.projections.stream_checkpoints import holds_positions
from eventport.protocols import EventStore


_NEAR: Final = 50
"""How many events a pass of the copy has at most when it is near enough to the head."""

_WIDER: Final = 100
"""By how much more positions the next look goes back for an event that was copied."""

_PAGE: Final = 1_000
"""How many events are read at once, at most."""

_PAUSE: Final = 0.005
"""Seconds between two looks for events that are committed, but cannot be read in order yet."""


class MoveRefusedError(EventportError):
    """A store cannot be moved, for the reason in the message; appends go on as before."""


class MoveUnfinishedError(EventportError):
    """A move has failed, and its fence could not be taken away; the message says what to do."""


class MoveReport(Struct, frozen=True):
    """What a move has done."""

    is_done: bool
    """Whether the events have moved; otherwise the stores differ, and appends go on as before."""
    is_fenced: bool
    """Whether appends to the source raise `StoreFencedError` from now on."""
    pause: float | None
    """For how many seconds appends were refused before the target was complete.

    None if this run has not set the fence.
    """
    copy: CopyReport | None
    """What was copied, and how the stores compare; None if an earlier run had moved them."""
    checkpoints: list[CarriedCheckpoint]
    """The checkpoints in streams, with their positions in both stores."""


async def move_events(
    source: EventStore,
    target: EventStore,
    *,
    to: str,
    writers_stopped: bool = False,
    progress: Callable[[str, int, int | None], object] = show_nothing,
) -> MoveReport:
    """Move all events of a store to another one: copy them, and let the source take no more.

    Programs go on writing while the events are copied and compared, as `copy_events` does it.
    When little is left, a fence keeps all appends away from the source; the rest is copied and
    compared, and the checkpoints of projections and reactors that are kept in streams are carried
    over, with the positions of the target. Then the fence says where the events are. Reads of
    the source go on all the time.

    If it raises, or is cancelled, it takes its fence away again. After a crash, call it with the
    same arguments: it goes on where it was. When it has ended, call `translate_position` for
    positions that are kept elsewhere.

    Args:
        source: Where from. Nothing but its fence is changed.
        target: Where to: an empty store, or one with an earlier copy of the source.
        to: What errors of the source call the target, such as its URL; a password is left out.
            It identifies the move when it is called again.
        writers_stopped: Whether nobody writes to the source, projections and reactors included.
            It is needed for stores that cannot keep other processes away.
        progress: See `copy_events`.

    Raises:
        MoveRefusedError: the source has another fence, or cannot have one; or both stores are
            the same; or somebody has taken the fence away meanwhile.
        MoveUnfinishedError: the fence of a move that failed still stands.
        CopyRefusedError: see `copy_events`, and for the other errors.
    """
    move = _Move(source, target, redact(to), progress)
    if not can_fence(source):
        return await move.without_fence(writers_stopped=writers_stopped)
    return await move.with_fence()


async def translate_position(source: EventStore, target: EventStore, position: int) -> int:
    """Return the position of the target that stands for a position of the source.

    It is that of the last event that was copied and is at or before it; 0 if there is none. A
    subscription of the target after it gives exactly the events that one of the source after the
    position would have given, in the same order.

    Args:
        source: A store that was copied or moved.
        target: The store that it was copied to.
        position: A position of the source.

    Raises:
        MoveRefusedError: the target does not have the event.
    """
    last = await _last_copied(source, position)
    if last is None:
        return 0
    there = await target.read(last.stream, from_version=last.version, to_version=last.version)
    if not there.events or there.events[0].id != last.id:
        message = (
            f"the target has no position for {position}: it lacks version {last.version} of stream "
            f"{last.stream!r}: copy the events first"
        )
        raise MoveRefusedError(message)
    return there.events[0].position


async def _last_copied(source: EventStore, position: int) -> RecordedEvent | None:
    """Return the last event at or before a position that is copied."""
    width = 1
    while True:
        after = max(0, position - width)
        try:
            last = await _last_between(source, after, position, width)
        except InvalidArgumentError:
            if after == 0:
                raise
            width = position  # only some positions can be read from
            continue
        if last is not None or after == 0:
            return last
        width *= _WIDER


async def _last_between(
    source: EventStore, after: int, position: int, width: int
) -> RecordedEvent | None:
    if width <= _PAGE:
        found = await source.read_all(after=after, max_count=width)
        events = [one for one in found.events if one.position <= position]
        return next((one for one in reversed(events) if not holds_positions(one.stream)), None)
    last: RecordedEvent | None = None
    async with aclosing(copied_events(source, after, position)) as between:
        async for event in between:
            last = event
    return last


class _Move:
    """One run of a move."""

    def __init__(
        self,
        source: EventStore,
        target: EventStore,
        to: str,
        progress: Callable[[str, int, int | None], object],
    ) -> None:
        self._source = source
        self._target = target
        self._copying = Copying(source, target, progress)
        translate = partial(translate_position, source, target)
        self._carrying = Carrying(source, target, translate)
        self._moving = f"this store takes no appends: its events are being moved to {to}, since "
        self._moved = f"this store takes no appends any more: its events have moved to {to}"

    async def without_fence(self, *, writers_stopped: bool) -> MoveReport:
        """Copy the events, and check whether somebody has written meanwhile."""
        if not writers_stopped:
            message = (
                f"{self._source!r} cannot keep the appends of other processes away: stop all "
                "programs that write to it, projections and reactors included, and say so with "
                "--writers-stopped, or writers_stopped=True; nothing was copied"
            )
            raise MoveRefusedError(message)
        before = await self._copying.go_on()
        carried = await self._carrying.go_on() if before.is_equal else []
        report = await self._copying.go_on()
        if report.position != before.position:
            message = (
                f"somebody has written to {self._source!r} meanwhile, up to position "
                f"{report.position}: stop that program, and run the move again"
            )
            raise MoveRefusedError(message)
        return MoveReport(report.is_equal, False, None, report, carried)  # noqa: FBT003  # a struct

    async def with_fence(self) -> MoveReport:
        """Copy most of the events, and the rest behind the fence."""
        fence = await fenced(self._source)
        if fence == self._moved:
            return MoveReport(True, True, None, None, [])  # noqa: FBT003  # a struct
        if fence is not None and not fence.startswith(self._moving):
            message = f"the source has a fence already, which says: {fence}"
            raise MoveRefusedError(message)
        if (there := await fenced(self._target)) is not None:
            message = f"the target has a fence, which says: {there}"
            raise MoveRefusedError(message)
        report = await self._follow()
        if not report.is_equal:
            if fence is not None:
                await self._lift(fence)
            return MoveReport(False, False, None, report, [])  # noqa: FBT003  # a struct
        await self._carrying.go_on(report.position)  # so that little of this, too, is left
        begin = time.monotonic()
        own = fence or f"{self._moving}{datetime.now(UTC).isoformat()}"
        try:
            if fence is None:
                await self._set(None, own)
            report, carried = await self._finish(own)
        except BaseException as exc:
            await self._lift_after(exc, own)
            raise
        pause = None if fence is not None else time.monotonic() - begin
        return MoveReport(report.is_equal, report.is_equal, pause, report, carried)

    async def _follow(self) -> CopyReport:
        """Copy until it is near the head, or comes no nearer."""
        before, seen = None, 0
        while True:
            report = await self._copying.go_on()
            total = report.copied + report.there
            new, seen = total - seen, total
            if not report.is_equal or new <= _NEAR or (before is not None and new >= before):
                return report
            before = new

    async def _finish(self, own: str) -> tuple[CopyReport, list[CarriedCheckpoint]]:
        """Copy the rest while the fence stands, and let it say where the events are."""
        if await fenced(self._target) == own:
            raise MoveRefusedError("source and target are the same store: move to another one")
        newest = await self._source.query(Query.all(), max_count=1, backwards=True)
        last = max((event.position for event in newest.events), default=0)
        report = await self._copying.go_on()
        while report.position < last:  # an append that was refused may not have ended yet
            await sleep(_PAUSE)
            report = await self._copying.go_on()
        if not report.is_equal:
            await self._lift(own)
            return report, []
        carried = await self._carrying.go_on()
        await self._set(own, self._moved)
        return report, carried

    async def _set(self, before: str | None, after: str) -> None:
        # A change that nobody waits for any more could come after its own removal.
        if not await run_shielded(set_fence, self._source, before, after):
            said = await fenced(self._source)
            message = (
                "somebody else has changed the fence of the source meanwhile: it says "
                f"{said or 'nothing'}"
            )
            raise MoveRefusedError(message)

    async def _lift(self, own: str) -> None:
        """Take the fence of this move away, unless it says something else by now."""
        await run_shielded(set_fence, self._source, own, None)

    async def _lift_after(self, exc: BaseException, own: str) -> None:
        try:
            await self._lift(own)
        except EventportError as failure:
            message = (
                f"{str(exc) or type(exc).__name__}; and the fence of the source could not be taken "
                f"away ({failure}): run the move again, or `eventport unfence`"
            )
            raise MoveUnfinishedError(message) from exc
