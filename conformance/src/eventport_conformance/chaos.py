"""What chaos tests share: writers that keep journals, a reader, and the verdict on what is stored.

A test starts `Writers`, disturbs them and the backend as much as it likes, and in the end compares
their journals with what a bare driver finds. It goes on for as long as `chaos_seconds` says.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import sys

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count, cycle
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeAlias

import anyio

from anyio import to_thread

from eventport import (
    ANY,
    ConcurrencyError,
    ConfigurationError,
    EventStore,
    Expectation,
    NewEvent,
    StoreClosedError,
    StoreUnavailableError,
    connect,
)

from eventport_conformance.scripts import Script
from eventport_conformance.trial import Deviation
from eventport_conformance.waiting import until


TASKS: Final = 4
"""How many tasks a writer has."""

FAULTS: Final = 8
"""How many faults happen between two of the seldom ones."""

_PATIENCE: Final = 0.02
"""An impatient task cancels some of its appends within this many seconds."""


def chaos_seconds(short: float) -> float:
    """Return for how long chaos goes on: `EVENTPORT_CHAOS_SECONDS`, or else a short time."""
    return float(os.environ.get("EVENTPORT_CHAOS_SECONDS", short))


def seeded_random() -> random.Random:
    """Return what chooses at random, and print its seed, which pytest shows with a failure.

    `EVENTPORT_CHAOS_SEED` gives the seed of an earlier run, to let the same choices come again.
    """
    seed = int(os.environ.get("EVENTPORT_CHAOS_SEED") or secrets.randbits(32))
    print(f"EVENTPORT_CHAOS_SEED={seed}")  # noqa: T201  # see above
    return random.Random(seed)  # noqa: S311  # no secret depends on it


class Found(NamedTuple):
    """Where an event is."""

    position: int
    stream: str
    version: int
    id: str


class Journal:
    """A file in which a writer notes what it tries and what is acknowledged; a kill leaves it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)  # a line is written at once, or not at all
        self._numbers = count()
        self.acknowledged = 0
        """How many commits were acknowledged."""
        self.unknown = 0
        """How many ended with `StoreUnavailableError`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def try_(self, parts: Mapping[str, Sequence[NewEvent]]) -> int:
        """Note the events of a commit by stream, and return its number."""
        number = next(self._numbers)
        ids = [(stream, [str(event.id) for event in events]) for stream, events in parts.items()]
        self._note("try", number, ids)
        return number

    def acknowledge(self, number: int, versions: Sequence[int], position: int | None) -> None:
        """Note the versions of its streams, and its last position."""
        self.acknowledged += 1
        self._note("acknowledged", number, versions, position)

    def refuse(self, number: int) -> None:
        """Note that there was a conflict, so that nothing may be stored."""
        self._note("refused", number)

    def _note(self, *values: object) -> None:
        self._file.write(json.dumps(values).encode() + b"\n")


class Writer:
    """Appends to streams of its own, to some that all share, and to two at once.

    Args:
        store: Where to.
        name: The name of its own streams, which no other writer has.
        journal: What it notes everything in.
        impatient: Whether to cancel some of the appends.
    """

    def __init__(
        self, store: EventStore, name: str, journal: Journal, *, impatient: bool = False
    ) -> None:
        self._store = store
        self._name = name
        self._journal = journal
        self._impatient = impatient
        self._random = random.Random(name)  # noqa: S311  # no secret depends on it

    async def write(self, is_enough: Callable[[], bool]) -> None:
        """Go on until it is enough, whatever happens."""
        version = 0
        for number in count(1):
            if is_enough():
                return
            events = self._events(number)
            match number % 3:
                case 0:
                    parts = {f"left-{self._name}": events[:1], f"right-{self._name}": events[1:]}
                    await self._commit(parts, version=None)
                case 1:
                    await self._commit({f"shared-{number % 5}": events}, version=None)
                case _:
                    found = await self._commit({self._name: events}, version=version)
                    version = await self._find_version(is_enough) if found is None else found

    def _events(self, number: int) -> list[NewEvent]:
        size = self._random.randint(2, 5)
        return [NewEvent("Written", [self._name, number, index, size]) for index in range(size)]

    async def _commit(
        self, parts: Mapping[str, Sequence[NewEvent]], *, version: int | None
    ) -> int | None:
        """Commit, and return the version of the last stream if that is known."""
        number = self._journal.try_(parts)
        patience = None
        if self._impatient and self._random.random() < 0.1:
            patience = self._random.uniform(0, _PATIENCE)
        try:
            with anyio.move_on_after(patience):
                versions, position = await self._append(parts, version)
                self._journal.acknowledge(number, versions, position)
                return versions[-1]
        except ConcurrencyError:
            self._journal.refuse(number)
        except StoreUnavailableError as exc:
            self._journal.unknown += 1
            print(f"{self._name}: {exc}", file=sys.stderr)  # noqa: T201  # for a test that fails
        return None

    async def _append(
        self, parts: Mapping[str, Sequence[NewEvent]], version: int | None
    ) -> tuple[list[int], int | None]:
        if len(parts) == 1:
            ((stream, events),) = parts.items()
            expected: Expectation = ANY if version is None else version
            result = await self._store.append(stream, events, expected=expected)
            return [result.version], result.position
        async with self._store.session() as session:
            versions = [
                (await session.append(stream, events)).version for stream, events in parts.items()
            ]
        return versions, session.position

    async def _find_version(self, is_enough: Callable[[], bool]) -> int:
        """Return the version of its own stream, as soon as it can be read."""
        while not is_enough():
            try:
                return (await self._store.read(self._name, max_count=0)).version
            except StoreUnavailableError:
                await anyio.sleep(0.01)
        return 0


class Writers:
    """Writers in processes of their own, each with a name that none had before.

    Args:
        urls: The store; if there are several URLs, writers take them in turn.
        folder: Where their journals are; nothing else may be in it.
    """

    def __init__(self, urls: Sequence[str], folder: Path) -> None:
        self._urls = cycle(urls)
        self._folder = folder
        self._numbers = count(1)
        self._journals: dict[Script, Path] = {}

    @property
    def running(self) -> list[Script]:
        """Those that run."""
        return list(self._journals)

    def start(self) -> None:
        """Start one more."""
        name = f"w{next(self._numbers)}"
        journal = self._folder / name
        journal.touch()
        writer = Script("-m", "eventport_conformance.chaos", next(self._urls), name, journal)
        self._journals[writer] = journal

    def replace(self, writer: Script) -> None:
        """Kill one, and start another, which `progress` does not wait for until it has begun."""
        del self._journals[writer]
        writer.end()
        self.start()

    async def progress(self) -> None:
        """Wait until a commit of each of them has been acknowledged from now on.

        Those that replace others may take long to start: they have to get on until `stop`.
        """
        journals = list(self._journals.values())
        begun = [one for one in journals if _acknowledges(one, 0)] or journals
        sizes = {journal: journal.stat().st_size for journal in begun}
        await until(
            lambda: all(_acknowledges(one, size) for one, size in sizes.items()),
            "each writer goes on",
        )

    async def stop(self) -> None:
        """Let all of them end, and fail if one does not end well, or has done nothing."""
        await until(
            lambda: all(_acknowledges(one, 0) for one in self._journals.values()),
            "each writer has begun",
        )
        for writer in self._journals:
            writer.go()
        for writer in self._journals:
            await to_thread.run_sync(writer.output)

    def end(self) -> None:
        """Leave none running, whatever has happened."""
        for writer in self._journals:
            writer.end()


def _acknowledges(journal: Path, after: int) -> bool:
    """Return whether a journal has an acknowledgement after its first bytes."""
    with journal.open("rb") as opened:
        opened.seek(after)
        return b'["acknowledged"' in opened.read()


Fault: TypeAlias = Callable[[], Awaitable[None]]
"""Disturbs something, and undoes it before it ends, as far as that is possible."""


async def disturb(
    seconds: float,
    writers: Writers,
    chosen: random.Random,
    often: Sequence[Fault],
    seldom: Sequence[Fault],
) -> Counter[str]:
    """Let faults happen until time is up, but each of the seldom ones at least once.

    All writers must get on after each of the seldom ones.

    Returns:
        How often each fault happened.
    """
    await writers.progress()
    end = anyio.current_time() + seconds
    happened = Counter[str]()
    rounds = 0
    while anyio.current_time() < end or rounds < len(seldom):
        for fault in (*chosen.choices(often, k=FAULTS), seldom[rounds % len(seldom)]):
            await anyio.sleep(chosen.uniform(0, 0.15))
            await fault()
            happened[fault.__name__.strip("_")] += 1
        rounds += 1
        await writers.progress()
    return happened


async def follow(store: EventStore, seen: list[Found], leave_after: int | None = None) -> None:
    """Note all events of a store until it is closed.

    Args:
        store: What to follow.
        seen: Where to note them. What is in it already has been seen.
        leave_after: Leave the subscription each time after this many events, and subscribe again
            after the last one.
    """
    with suppress(StoreClosedError):
        while True:
            after = seen[-1].position if seen else 0
            async with store.subscribe(after=after) as subscription:
                async for event in subscription:
                    seen.append(Found(event.position, event.stream, event.version, str(event.id)))
                    if leave_after is not None and len(seen) % leave_after == 0:
                        break


async def until_seen(count: int, *readers: Sequence[Found]) -> None:
    """Wait until readers have seen so many events, for as long as they go on."""
    while (seen := min(map(len, readers))) < count:
        before = seen
        what = f"readers go on, with {before} of {count} events"
        await until(lambda: min(map(len, readers)) > before, what)  # noqa: B023  # at once


def check(
    stored: Sequence[Found],
    folder: Path,
    *readers: Sequence[Found],
    forgotten: Collection[str] = (),
) -> str:
    """Check that nothing is lost, doubled, torn, invented, or missed by a reader.

    Args:
        stored: All events, in global order, as a bare driver finds them.
        folder: The journals.
        readers: What readers have seen.
        forgotten: The ids of events that the backend itself has lost.

    Returns:
        What was counted, for a log.
    """
    times = Counter(event.id for event in stored)
    _require([id_ for id_, often in times.items() if often > 1] == [], "no event is there twice")
    heads = Counter[str]()
    position = 0
    for event in stored:
        heads[event.stream] += 1
        _require(event.version == heads[event.stream], "versions have no gap", event)
        _require(event.position > position, "positions increase", event)
        position = event.position
    places = {event.id: event for event in stored}
    counted = Counter[str]()
    tried = set[str]()
    for journal in sorted(folder.iterdir()):
        for commit in _commits(journal):
            tried |= commit.ids
            counted[commit.outcome] += 1
            commit.check(places, forgotten)
    _require(times.keys() <= tried, "what is there was appended")
    _require(counted["acknowledged"] > 0, "some commits are acknowledged")
    for seen in readers:
        _require(list(seen) == list(stored), "readers see each event once, and in order")
    return f"{len(stored)} events, commits: {dict(counted)}"


class _Commit:
    """What a journal says of a commit."""

    def __init__(self, parts: Sequence[tuple[str, Sequence[str]]]) -> None:
        self._parts = parts
        self.outcome = "unknown"
        self._versions: Sequence[int] = ()
        self._position = 0

    @property
    def ids(self) -> set[str]:
        return {id_ for _, ids in self._parts for id_ in ids}

    def end(self, outcome: str, versions: Sequence[int] = (), position: int = 0) -> None:
        self.outcome, self._versions, self._position = outcome, versions, position

    def check(self, places: Mapping[str, Found], forgotten: Collection[str]) -> None:
        events = [[places[id_] for id_ in ids if id_ in places] for _, ids in self._parts]
        if not any(events):
            lost = self.outcome == "acknowledged" and self.ids.isdisjoint(forgotten)
            _require(not lost, "what was acknowledged is there", self._parts)
            return
        _require(self.outcome != "refused", "what was refused is not there", events)
        for (stream, ids), found in zip(self._parts, events, strict=True):
            first = found[0].version if found else 0
            whole = [(stream, first + index, id_) for index, id_ in enumerate(ids)]
            there = [(one.stream, one.version, one.id) for one in found]
            _require(there == whole, "each commit is there in one piece", self._parts)
        if self.outcome == "acknowledged":
            result = [found[-1].version for found in events], events[-1][-1].position
            _require(result == (self._versions, self._position), "results are true", events)


def _require(holds: bool, what: str, seen: object = "something else") -> None:  # noqa: FBT001  # it is the claim
    if not holds:
        raise Deviation(what, "true", str(seen))


def _commits(journal: Path) -> Iterator[_Commit]:
    commits: dict[int, _Commit] = {}
    for line in journal.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):  # or it was killed while it wrote this
            word, number, *rest = json.loads(line)
            if word == "try":
                commits[number] = _Commit(*rest)
            else:
                commits[number].end(word, *rest)
    yield from commits.values()


async def _main(url: str, name: str, journal: Path) -> None:
    """Write until a line comes, or the end of the input."""
    ended = anyio.Event()

    async def write(notes: Journal) -> None:
        while not ended.is_set():
            with suppress(StoreUnavailableError, ConfigurationError):  # it is down, or refuses
                async with connect(url) as store, anyio.create_task_group() as tasks:
                    for task in range(TASKS):
                        writer = Writer(store, f"{name}-{task}", notes, impatient=True)
                        tasks.start_soon(writer.write, ended.is_set)
            await anyio.sleep(0.05)

    with Journal(journal) as notes:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, notes)
            await to_thread.run_sync(sys.stdin.readline)
            ended.set()


if __name__ == "__main__":
    arguments: Any = sys.argv[1:]
    anyio.run(_main, arguments[0], arguments[1], Path(arguments[2]))
