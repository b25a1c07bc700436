"""Journals of chaos tests: what writers tried, and the verdict on what is stored."""

from __future__ import annotations

import json

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple, Self

from eventport import (
    NewEvent,
)

from eventport_conformance.trial import Deviation


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
