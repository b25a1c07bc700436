"""UmaDB: a stream is a tag, and an append fails if there is an event with it."""

from __future__ import annotations

import json
import sys

from answering import DATA, answer_in_threads
from umadb import AppendCondition, Client, Event, Query, QueryItem


def main(url: str) -> None:
    """Take part."""
    client = Client(url)

    def query(stream: str) -> Query:
        return Query([QueryItem(tags=[stream])])

    def append(stream: str, events: int) -> None:
        made = [Event("ItemAdded", json.dumps(DATA).encode(), [stream]) for _ in range(events)]
        client.append(made, AppendCondition(query(stream)))

    def read(stream: str) -> int:
        return len([json.loads(found.event.data) for found in client.read(query(stream))])

    answer_in_threads(append, read)


main(*sys.argv[1:])
