"""Proves that the verdict of chaos tests finds what is lost, doubled, torn, invented and missed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from eventport import NewEvent

from eventport_conformance.journals import Found, Journal, check
from eventport_conformance.trial import Deviation


EVENTS = [NewEvent("E", number) for number in range(6)]
STORED = [
    Found(1, "a", 1, str(EVENTS[0].id)),
    Found(2, "a", 2, str(EVENTS[1].id)),
    Found(3, "b", 1, str(EVENTS[2].id)),
    Found(4, "c", 1, str(EVENTS[3].id)),
]

Events = list[Found]


@pytest.fixture
def journal(tmp_path: Path) -> Generator[Journal]:
    """Note an append, a session, a conflict, and an append whose answer never came."""
    with Journal(tmp_path / "w1") as notes:
        notes.acknowledge(notes.try_({"a": EVENTS[:2]}), [2], 2)
        notes.acknowledge(notes.try_({"b": EVENTS[2:3], "c": EVENTS[3:4]}), [1, 1], 4)
        notes.refuse(notes.try_({"a": EVENTS[4:5]}))
        notes.try_({"d": EVENTS[5:]})
        yield notes


@pytest.mark.usefixtures("journal")
def test_what_is_right_is_counted(tmp_path: Path) -> None:
    with (tmp_path / "w1").open("ab") as opened:
        opened.write(b'["try", 4, [["e", ["half a')  # a kill left this
    assert check(STORED, tmp_path, STORED) == (
        "4 events, commits: {'acknowledged': 2, 'refused': 1, 'unknown': 1}"
    )
    check([*STORED, Found(9, "d", 1, str(EVENTS[5].id))], tmp_path)


def lost(stored: Events) -> None:
    del stored[2:]


def doubled(stored: Events) -> None:
    stored.append(stored[0]._replace(position=5, version=3))


def torn(stored: Events) -> None:
    del stored[3]


def torn_within_a_stream(stored: Events) -> None:
    stored[1:3] = [stored[2]._replace(position=2), stored[1]._replace(position=3, stream="b")]


def out_of_order(stored: Events) -> None:
    stored[:2] = [stored[0]._replace(position=2), stored[1]._replace(position=1)]


def a_gap_between_versions(stored: Events) -> None:
    stored[1] = stored[1]._replace(version=3)


def a_conflict_that_was_written(stored: Events) -> None:
    stored.append(Found(5, "a", 3, str(EVENTS[4].id)))


def invented(stored: Events) -> None:
    stored.append(Found(5, "a", 3, str(NewEvent("E", 0).id)))


def another_position_than_reported(stored: Events) -> None:
    stored[3] = stored[3]._replace(position=7)


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize(
    "damage",
    [
        lost,
        doubled,
        torn,
        torn_within_a_stream,
        out_of_order,
        a_gap_between_versions,
        a_conflict_that_was_written,
        invented,
        another_position_than_reported,
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, damage: Callable[[Events], None]) -> None:
    stored = list(STORED)
    damage(stored)
    with pytest.raises(Deviation):
        check(stored, tmp_path)


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize("seen", [STORED[1:], STORED[::-1], [*STORED, STORED[-1]]])
def test_what_a_reader_missed_is_found(tmp_path: Path, seen: Events) -> None:
    with pytest.raises(Deviation, match="readers see each event once"):
        check(STORED, tmp_path, seen)


@pytest.mark.usefixtures("journal")
def test_what_the_backend_lost_is_not_missed_but_must_be_lost_whole(tmp_path: Path) -> None:
    ids = {event.id for event in STORED[2:]}
    check(STORED[:2], tmp_path, forgotten=ids)
    with pytest.raises(Deviation):
        check(STORED[:3], tmp_path, forgotten=ids)
