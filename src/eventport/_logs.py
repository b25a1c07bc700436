"""What a log record says besides its text, for programs: the same names as in spans."""

from __future__ import annotations

from eventport.events import RecordedEvent


def about(
    event: RecordedEvent | None = None,
    *,
    store: object = None,
    projection: object = None,
    stream: str | None = None,
    version: int | None = None,
    position: int | None = None,
) -> dict[str, object]:
    """Return the `extra` of a log record; what is not known is left out.

    Args:
        event: The event that it is about, in place of stream, version and position.
        store: The store; its repr has no password.
        projection: The name and the generation of a projection.
        stream: The stream.
        version: A version of that stream.
        position: A global position.
    """
    if event is not None:
        stream, version, position = event.stream, event.version, event.position
    known = {
        "store": None if store is None else repr(store),
        "projection": None if projection is None else str(projection),
        "stream": stream,
        "version": version,
        "position": position,
    }
    return {f"eventport.{name}": value for name, value in known.items() if value is not None}
