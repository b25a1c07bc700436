"""A divided projection whose rows show what was missed, doubled, or handled out of order."""

from __future__ import annotations

from typing import Any, Final

from tests.toolkit.read_models import Place, execute

from eventport import RecordedEvent
from eventport.projections import Projection, ProjectionContext


PARTS: Final = 4


def parted(**options: Any) -> Projection[Any]:
    """Make a projection that counts the events of each stream, and those that came too early."""
    projection: Projection[Any] = Projection(
        "parted", partitions=PARTS, prefix="account-", **options
    )

    @projection.prepare
    async def create(context: ProjectionContext[Any]) -> None:
        await execute(
            context.connection,
            f"CREATE TABLE IF NOT EXISTS parted{context.suffix} (stream text PRIMARY KEY, "
            "events bigint NOT NULL, version bigint NOT NULL, disorders bigint NOT NULL)",
        )

    @projection.on("Moved")
    async def moved(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
        await execute(
            context.connection,
            f"INSERT INTO parted{context.suffix} AS t VALUES ($1, 1, $2, $3) ON CONFLICT (stream) "
            "DO UPDATE SET events = t.events + 1, version = $2, "
            "disorders = t.disorders + CASE WHEN t.version + 1 = $2 THEN 0 ELSE 1 END",
            event.stream,
            event.version,
            int(event.version != 1),
        )

    return projection


async def rows(place: Place, generation: int = 1) -> dict[str, tuple[int, int, int]]:
    """Return what the projection has written: events, last version, disorders of each stream."""
    found = await place.query(f"SELECT * FROM parted_{generation}")
    return {stream: (events, version, disorders) for stream, events, version, disorders in found}
