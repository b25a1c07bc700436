"""eventsourcing 9.5.6 on Postgres: an insert of a large event that never returns, now and then.

`insert_events` sends its statements in a pipeline of psycopg and waits in `pipeline.sync()`. With
an event of half a megabyte, the server sometimes waits for the rest of the statement while psycopg
waits for the server (SIZ-03). Run it with the URL of a server; it makes the table `large_events`.
"""

from __future__ import annotations

import os
import sys

from threading import Thread
from urllib.parse import parse_qs, urlsplit

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore


ROUNDS, SECONDS = 500, 60.0


def main(url: str) -> None:
    """Insert large events until one insert hangs."""
    parts = urlsplit(url)
    datastore = PostgresDatastore(
        dbname=parts.path[1:],
        host=parts.hostname or parse_qs(parts.query)["host"][0],
        port=parts.port or 5432,
        user=parts.username or "postgres",
        password=parts.password or "",
        schema="public",
        originator_id_type="text",
    )
    recorder = PostgresApplicationRecorder(datastore, events_table_name="large_events")
    recorder.create_table()
    state = bytes(range(256)) * 2048
    for round_ in range(ROUNDS):
        event = StoredEvent(f"order-{os.getpid()}", round_ + 1, "Large", state)
        insert = Thread(target=recorder.insert_events, args=([event],), daemon=True)
        insert.start()
        insert.join(SECONDS)
        if insert.is_alive():
            print(f"FAIL: insert {round_ + 1} has not returned after {SECONDS:g} seconds")
            os._exit(1)
    print("PASS")
    datastore.close()


main(sys.argv[1])
