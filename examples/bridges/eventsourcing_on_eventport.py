"""The library `eventsourcing` on any store of eventport: ``PERSISTENCE_MODULE`` names this module.

Its applications are synchronous, so a thread of its own runs the event loop of the store. An
aggregate is a stream, and its events are bytes, as the library made them. Their versions are in the
metadata, because snapshots have gaps, and some programs begin at 0. Tracking records are streams,
too, and are committed with the events of the same call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from anyio.from_thread import BlockingPortal, start_blocking_portal
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    IntegrityError,
    ListenNotifySubscription,
    Notification,
    ProcessRecorder,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)

from eventport import (
    ConcurrencyError,
    EventStore,
    NewEvent,
    RecordedEvent,
    Session,
    Streams,
    connect,
)


T = TypeVar("T")
TRACKING: Final = "Tracked"


class Database:
    """A store, and the thread that runs it."""

    def __init__(self, url: str) -> None:
        self._running = start_blocking_portal("asyncio")
        self.portal: BlockingPortal = self._running.__enter__()
        self._opened = self.portal.wrap_async_context_manager(connect(url))
        self.store: EventStore = self._opened.__enter__()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function in the thread of the store."""
        return self.portal.call(work)

    def close(self) -> None:
        """Close the store, and end the thread."""
        self._opened.__exit__(None, None, None)
        self._running.__exit__(None, None, None)


class Recorder(AggregateRecorder):
    """Records events of aggregates, or their snapshots."""

    def __init__(self, database: Database, prefix: str) -> None:
        self.database = database
        self.prefix = prefix

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Any:
        self._insert(stored_events, kwargs.get("tracking"))

    def _insert(self, stored_events: Sequence[StoredEvent], tracking: Tracking | None) -> list[int]:
        by_stream: dict[str, list[StoredEvent]] = defaultdict(list)
        for stored in stored_events:
            by_stream[f"{self.prefix}{stored.originator_id}"].append(stored)

        async def insert() -> list[int]:
            heads: dict[str, int] = {}
            async with self.database.store.session() as session:
                for stream, events in by_stream.items():
                    heads[stream] = await append_events(session, stream, events)
                if tracking is not None:
                    await append_tracking(session, self.prefix, tracking)
            places = {}
            for stream, events in by_stream.items():
                last = heads[stream] + len(events)
                written = await self.database.store.read(
                    stream, from_version=heads[stream] + 1, to_version=last
                )
                for event in written.events:
                    places[stream, event.metadata["version"]] = event.position
            return [
                places[f"{self.prefix}{stored.originator_id}", stored.originator_version]
                for stored in stored_events
            ]

        try:
            return self.database.run(insert)
        except ConcurrencyError as error:
            raise IntegrityError(str(error)) from error

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        async def select() -> list[StoredEvent]:
            found: list[StoredEvent] = []
            events = self.database.store.iterate(f"{self.prefix}{originator_id}", backwards=desc)
            async for event in events:
                if len(found) == limit:
                    break
                version: int = event.metadata["version"]
                if (gt is None or version > gt) and (lte is None or version <= lte):
                    found.append(StoredEvent(originator_id, version, event.type, event.data))
            await events.aclose()
            return found

        return self.database.run(select)


class LogRecorder(Recorder, ApplicationRecorder):
    """Records events, and gives them in the order of their commits."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        return self._insert(stored_events, kwargs.get("tracking"))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = max(0, (start or 1) - 1 if start is None or inclusive_of_start else start)

        async def select() -> list[Notification]:
            read = await self.database.store.read_all(
                after=after, max_count=limit, types=topics or None, prefix=self.prefix
            )
            return [
                notification(event, self.prefix)
                for event in read.events
                if stop is None or event.position <= stop
            ]

        return self.database.run(select)

    def max_notification_id(self) -> int | None:
        async def find() -> int | None:
            async with self.database.store.subscribe(after="end") as subscription:
                return subscription.position or None

        return self.database.run(find)

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        return Follower(self, gt, topics)


class Follower(ListenNotifySubscription[LogRecorder]):
    """Is woken by a subscription of the store."""

    def __init__(self, recorder: LogRecorder, gt: int | None, topics: Sequence[str]) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._following = recorder.database.portal.start_task_soon(self._follow)

    async def _follow(self) -> None:
        recorder = self._recorder
        async with recorder.database.store.subscribe(
            after=self._last_notification_id or 0, prefix=recorder.prefix
        ) as events:
            async for _ in events:
                self._has_been_notified.set()

    def stop(self) -> None:
        super().stop()
        self._following.cancel()
        self._has_been_notified.set()


class Tracker(TrackingRecorder):
    """Records how far an application has handled the events of another."""

    def __init__(self, database: Database, prefix: str) -> None:
        self.database = database
        self.prefix = prefix

    def insert_tracking(self, tracking: Tracking) -> None:
        async def insert() -> None:
            async with self.database.store.session() as session:
                await append_tracking(session, self.prefix, tracking)

        try:
            self.database.run(insert)
        except ConcurrencyError as error:
            raise IntegrityError(str(error)) from error

    def max_tracking_id(self, application_name: str) -> int | None:
        stream = tracking_stream(self.prefix, application_name)
        return self.database.run(lambda: last_number(self.database.store, stream))


class LogAndTracker(Tracker, LogRecorder, ProcessRecorder):
    """Records events together with what led to them."""


async def append_events(session: Session, stream: str, events: list[StoredEvent]) -> int:
    """Append events to a stream, and return the version that it had before."""
    newest = await session.read(stream, backwards=True, max_count=1)
    last = newest.events[0].metadata["version"] if newest.events else None
    for event in events:
        if last is not None and event.originator_version <= last:
            message = f"version {event.originator_version} of {event.originator_id} is taken"
            raise IntegrityError(message)
        last = event.originator_version
    new = [
        NewEvent(
            event.topic,
            event.state,
            {
                "version": event.originator_version,
                "uuid": isinstance(event.originator_id, UUID),
            },
        )
        for event in events
    ]
    await session.append(stream, new, expected=newest.version)
    return newest.version


async def append_tracking(session: Session, prefix: str, tracking: Tracking) -> None:
    """Append the record of an event that was handled, if it is later than the last one."""
    stream = tracking_stream(prefix, tracking.application_name)
    last = await last_number(session, stream)
    if last is not None and last >= tracking.notification_id:
        message = f"{tracking.application_name} has been tracked up to {last}"
        raise IntegrityError(message)
    await session.append(stream, [NewEvent(TRACKING, {"id": tracking.notification_id})])


async def last_number(streams: Streams, stream: str) -> int | None:
    """Return the number in the last record of a stream."""
    newest = await streams.read(stream, backwards=True, max_count=1)
    return newest.events[0].data["id"] if newest.events else None


def tracking_stream(prefix: str, application_name: str) -> str:
    """Return the stream of an application's tracking records."""
    return f"tracking-{prefix}{application_name}"


def notification(event: RecordedEvent, prefix: str) -> Notification:
    """Return an event as the library's log has it."""
    name = event.stream.removeprefix(prefix)
    identity: UUID | str = UUID(name) if event.metadata["uuid"] else name
    return Notification(identity, event.metadata["version"], event.type, event.data, event.position)


class Factory(InfrastructureFactory[Tracker]):
    """Makes the recorders of an application, on the store that ``EVENTPORT_URL`` names."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.database = Database(env.get("EVENTPORT_URL", "memory://"))
        self._prefix = f"{env.name or 'application'}-"

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        return Recorder(self.database, f"{purpose}-of-{self._prefix}")

    def application_recorder(self) -> ApplicationRecorder:
        return LogRecorder(self.database, self._prefix)

    def tracking_recorder(self, tracking_recorder_class: type[Tracker] | None = None) -> Tracker:
        return (tracking_recorder_class or Tracker)(self.database, self._prefix)

    def process_recorder(self) -> ProcessRecorder:
        return LogAndTracker(self.database, self._prefix)

    def close(self) -> None:
        """Close the store."""
        self.database.close()
