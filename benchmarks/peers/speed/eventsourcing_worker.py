"""eventsourcing: its recorder with JSON as state, which is what its mappers make of an event."""

from __future__ import annotations

import json
import sys

from urllib.parse import parse_qs, urlsplit

from answering import DATA, answer_in_threads
from eventsourcing.persistence import StoredEvent


def main(url: str, mode: str) -> None:
    """Take part; `mode` is "functions" or "lock" on Postgres, and "sqlite" on a file."""
    if mode == "sqlite":
        from eventsourcing.sqlite import (  # noqa: PLC0415  # without what Postgres needs
            SQLiteApplicationRecorder,
            SQLiteDatastore,
        )

        recorder = SQLiteApplicationRecorder(SQLiteDatastore(url, originator_id_type="text"))
    else:
        from eventsourcing.postgres import (  # noqa: PLC0415  # see above
            PostgresApplicationRecorder,
            PostgresDatastore,
        )

        parts = urlsplit(url)
        datastore = PostgresDatastore(
            dbname=parts.path[1:],
            host=parts.hostname or parse_qs(parts.query)["host"][0],
            port=parts.port or 5432,
            user=parts.username or "postgres",
            password=parts.password or "",
            pool_size=16,
            max_overflow=16,
            max_waiting=1_000,
            schema="public",
            originator_id_type="text",
            enable_db_functions=mode == "functions",
        )
        recorder = PostgresApplicationRecorder(datastore, events_table_name=f"events_{mode}")
    recorder.create_table()

    def append(stream: str, events: int) -> None:
        recorder.insert_events(
            [
                StoredEvent(stream, version, "ItemAdded", json.dumps(DATA).encode())
                for version in range(1, events + 1)
            ]
        )

    def read(stream: str) -> int:
        found = recorder.select_events(stream)
        return len([json.loads(event.state) for event in found])

    answer_in_threads(append, read)


main(*sys.argv[1:])
