"""`eventport import`: every line checked first, then each event written exactly once."""

from __future__ import annotations

import shutil
import tempfile
import zlib

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from gzip import BadGzipFile, GzipFile
from os import SEEK_END
from typing import BinaryIO, Final, NamedTuple
from uuid import UUID

from anyio import create_task_group

from eventport.cli.ndjson import Parsed, check, parse, refuse_repeated_keys
from eventport.errors import EventportError, InvalidEventError
from eventport.protocols import Capability, EventStore, Streams
from eventport.session import run_in_session


MAX_BATCH_EVENTS: Final = 1_000
"""How many events one session commits at the most."""

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""How many bytes of lines one session commits, unless a single line is longer."""

READERS: Final = 16
"""How many streams are looked at at the same time."""


_GZIP: Final = b"\x1f\x8b"
"""What files begin with that gzip has compressed."""


class ImportConflictError(EventportError):
    """A stream of the store holds other events than the file."""


class Source(NamedTuple):
    """A file whose lines have all been checked."""

    file: BinaryIO
    start: int
    size: int
    """How many bytes of it have been checked; what came later is left for the next import."""
    events: int
    streams: int
    dated: int = 0
    """How many of the events say when they were first recorded."""
    renumber: bool = False
    """Whether versions are counted from 1, whatever the lines say."""


@contextmanager
def readable_twice(file: BinaryIO) -> Generator[BinaryIO]:
    """Give the file itself; or a copy on disk of what a pipe, a terminal or gzip holds."""
    with ExitStack() as stack:
        if not file.seekable():
            file = _copy(stack, file)
        start = file.tell()
        compressed = file.read(len(_GZIP)) == _GZIP
        file.seek(start)
        yield _copy(stack, GzipFile(fileobj=file)) if compressed else file


def _copy(stack: ExitStack, file: BinaryIO | GzipFile) -> BinaryIO:
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
    try:
        shutil.copyfileobj(file, copy)
    except (BadGzipFile, EOFError, zlib.error) as exc:
        message = f"line 1: the file is compressed by gzip, and not whole: {exc}"
        raise InvalidEventError(message) from exc
    copy.seek(0)
    return copy


def size_of(file: BinaryIO) -> int:
    """Return how many bytes come after the place where a file stands."""
    start = file.tell()
    end = file.seek(0, SEEK_END)
    file.seek(start)
    return end - start


def check_all(
    file: BinaryIO, progress: Callable[[int], object], *, renumber: bool = False
) -> Source:
    """Check all lines of a file.

    Args:
        file: NDJSON, at the place where it begins.
        progress: Is called with the number of bytes of each event's line.
        renumber: Count the versions of each stream from 1, whatever the lines say.

    Raises:
        InvalidEventError: a line is bad.
    """
    start = file.tell()
    size = size_of(file)
    events, dated = 0, 0
    streams: set[str] = set()
    for parsed in parse(file, size, renumber=renumber, look=refuse_repeated_keys):
        check(parsed)
        events += 1
        dated += parsed.recorded_at is not None
        streams.add(parsed.stream)
        progress(parsed.size)
    return Source(file, start, size, events, len(streams), dated, renumber)


async def write(store: EventStore, source: Source, progress: Callable[[int], object]) -> int:
    """Append what is not in the store yet, in the order of the file.

    The events of a batch are committed together if the store can do that, and run by run of
    lines of the same stream otherwise. Each append expects the version that the file gives, so
    an import that was interrupted can be run again.

    Args:
        store: Where to.
        source: What.
        progress: Is called with the number of events of each batch, after it.

    Returns:
        How many events were written.

    Raises:
        ImportConflictError: a stream holds other events; what stands before that line in the file
            has been written.
    """
    written = 0
    source.file.seek(source.start)
    for batch in _batches(parse(source.file, source.size, renumber=source.renumber)):
        work = partial(_write_batch, batch)
        if Capability.SESSIONS in store.capabilities:
            written += await run_in_session(store, work)
        else:
            written += await work(store)
        progress(len(batch))
    return written


def _batches(events: Iterable[Parsed]) -> Iterator[Sequence[Parsed]]:
    batch: list[Parsed] = []
    size = 0
    for parsed in events:
        size += parsed.size
        if batch and (len(batch) == MAX_BATCH_EVENTS or size > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], parsed.size
        batch.append(parsed)
    if batch:
        yield batch


async def _write_batch(batch: Sequence[Parsed], streams: Streams) -> int:
    there = await _find(batch, streams)
    new = [parsed for parsed in batch if parsed.version > there[parsed.stream]]
    for run in _runs(new):
        events = [parsed.event for parsed in run]
        await streams.append(run[0].stream, events, expected=run[0].version - 1)
    return len(new)


def _runs(events: Iterable[Parsed]) -> Iterator[Sequence[Parsed]]:
    """Group neighbours of the same stream; an id that is repeated cannot be in the same append."""
    run: list[Parsed] = []
    ids: set[UUID] = set()
    for parsed in events:
        if run and (parsed.stream != run[0].stream or parsed.event.id in ids):
            yield run
            run, ids = [], set()
        run.append(parsed)
        ids.add(parsed.event.id)
    if run:
        yield run


async def _find(batch: Sequence[Parsed], streams: Streams) -> dict[str, int]:
    """Return the version of each stream, after a look at whether its events are those of the file.

    In a session this also pins the streams, several at the same time, so that the appends need
    not look at one after the other.
    """
    by_stream: dict[str, list[Parsed]] = {}
    for parsed in batch:
        by_stream.setdefault(parsed.stream, []).append(parsed)
    there: dict[str, int] = {}
    others: list[Parsed] = []
    ahead: list[Parsed] = []
    waiting = iter(by_stream.items())

    async def look() -> None:
        for stream, events in waiting:
            first, last = events[0].version, events[-1].version
            found = await streams.read(stream, from_version=first, to_version=last)
            there[stream] = found.version
            if found.version < first - 1:
                ahead.append(events[0])
            for parsed, stored in zip(events, found.events, strict=False):
                if stored.id != parsed.event.id:
                    others.append(parsed)
                    break

    try:
        async with create_task_group() as group:
            for _ in range(min(READERS, len(by_stream))):
                group.start_soon(look)
    except ExceptionGroup as exc:
        raise exc.exceptions[0] from exc
    _refuse_others(ahead, others, there)
    return there


def _refuse_others(
    ahead: Sequence[Parsed], others: Sequence[Parsed], there: Mapping[str, int]
) -> None:
    """Refuse events that come too early for their stream, or that are not those of the store."""
    if ahead:
        part = min(ahead)
        message = (
            f"line {part.line}: stream {part.stream!r} begins with version {part.version} in this "
            f"file, but the store has {there[part.stream]} of its events: import what comes before "
            "it first, or count the versions anew with --renumber; neither this line nor any after "
            "it was written"
        )
        raise ImportConflictError(message)
    if others:
        other = min(others)
        message = (
            f"line {other.line}: stream {other.stream!r} holds another event at version "
            f"{other.version}; neither this line nor any after it was written"
        )
        raise ImportConflictError(message)
