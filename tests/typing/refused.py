"""What type checkers have to refuse: here an ignore that is not needed is an error."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from eventport import EventStore, NewEvent, RecordedEvent, Session


class ForgetsToClose:
    """A store in which most is missing."""

    async def append(self, stream: str, events: list[NewEvent]) -> int:
        return 1


def as_event_store(store: EventStore) -> EventStore:
    return store


def a_class_that_lacks_methods() -> None:
    as_event_store(ForgetsToClose())  # type: ignore[arg-type]


def a_session_is_no_store(session: Session) -> None:
    as_event_store(session)  # type: ignore[arg-type]


async def wrong_arguments(store: EventStore) -> None:
    await store.append("a", NewEvent("T", 1))  # type: ignore[arg-type]
    await store.append("a", [{"type": "T"}])  # type: ignore[list-item]
    await store.append("a", [NewEvent("T", 1)], expected="anything")  # type: ignore[arg-type]
    await store.append("a", [NewEvent("T", 1)], 3)  # type: ignore[call-arg]
    await store.read("a", from_version="1")  # type: ignore[arg-type]
    await store.read(7)  # type: ignore[arg-type]


async def a_fold_keeps_its_type(store: EventStore) -> None:
    def evolve(state: int, event: RecordedEvent) -> int:
        return state + event.version

    await store.aggregate("a", evolve, str)  # type: ignore[misc]
    await store.aggregate("a", evolve, 0)  # type: ignore[arg-type]
    await store.append((await store.aggregate("a", evolve, int)).state, [])  # type: ignore[arg-type]


def events_do_not_change(event: RecordedEvent) -> None:
    event.version = 2  # type: ignore[misc]
