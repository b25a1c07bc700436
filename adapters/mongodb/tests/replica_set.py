"""A replica set of three members, whose primary can be killed, frozen and made to step down."""

from __future__ import annotations

import time

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from adapters.mongodb.tests.servers import START_SECONDS, Server
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from eventport_conformance.chaos import Found


MEMBERS: Final = 3
_SETTINGS: Final = {
    "electionTimeoutMillis": 2000,
    "heartbeatIntervalMillis": 500,
    "catchUpTimeoutMillis": 2000,
}


class ReplicaSet:
    """Three servers of our own, of which two are a majority.

    Args:
        folder: Where their data is.
    """

    def __init__(self, folder: Path) -> None:
        self.members: Sequence[Server] = [
            Server(folder / str(number), member=True) for number in range(MEMBERS)
        ]

    def start(self, addresses: Sequence[str] | None = None) -> None:
        """Start them and let them elect a primary.

        Args:
            addresses: How they find each other and clients find them, if not by their own.
        """
        hosts = addresses or [member.address for member in self.members]
        for member in self.members:
            member.start()
        config = {
            "_id": "rs0",
            "members": [{"_id": number, "host": host} for number, host in enumerate(hosts)],
            "settings": _SETTINGS,
        }
        self.run_on(self.members[0], "replSetInitiate", config)
        self.url = f"mongodb://{','.join(hosts)}/?replicaSet=rs0"
        self.primary()

    def kill(self) -> None:
        """End them all."""
        for member in self.members:
            member.kill()

    def primary(self) -> Server:
        """Wait until there is a primary that can be written to, and return it."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for member in self.members:
                if member.answers and self._is_primary(member):
                    return member
            time.sleep(0.05)
        message = f"no primary was elected:\n{self.members[0].log()}"
        raise RuntimeError(message)

    def describe(self) -> str:
        """Say how each member sees the set, for a test that fails."""
        return "\n".join(f"{one.address}: {self._status_by(one)}" for one in self.members)

    def step_down(self, member: Server) -> None:
        """Let a primary become a secondary, and stay one for some seconds."""
        self.run_on(member, "replSetStepDown", 5, secondaryCatchUpPeriodSecs=1, force=True)

    def step_up(self, member: Server) -> None:
        """Let a secondary become the primary, and wait until it is."""
        deadline = time.monotonic() + START_SECONDS
        while not self._is_primary(member) and time.monotonic() < deadline:
            with suppress(PyMongoError):
                self.run_on(member, "replSetStepUp")
            time.sleep(0.1)

    def run_on(self, member: Server, command: str, value: Any = 1, **options: Any) -> Any:
        """Run an administrative command on one member."""
        with MongoClient[Any](member.url, directConnection=True, timeoutMS=60_000) as client:
            return client.admin.command(command, value, **options)

    def _status_by(self, member: Server) -> object:
        if not member.answers:
            return "frozen" if member.running else "down"
        try:
            members = self.run_on(member, "replSetGetStatus")["members"]
        except PyMongoError as exc:
            return exc
        return [(one["name"], one["stateStr"], one.get("optimeDate")) for one in members]

    def _is_primary(self, member: Server) -> bool:
        try:
            with MongoClient[Any](member.url, directConnection=True, timeoutMS=2000) as client:
                return bool(client.admin.command("hello")["isWritablePrimary"])
        except PyMongoError:
            return False


def stored_in(url: str) -> list[Found]:
    """Return all events that a majority has, as a bare driver finds them; positions have no gap."""
    with MongoClient[Any](url, uuidRepresentation="standard") as client:
        events = client.get_default_database().get_collection(
            "events", read_concern=ReadConcern("majority")
        )
        found = [
            Found(one["_id"] + place, one["stream"], one["version"] + place, str(event["id"]))
            for one in events.find().sort("_id")
            for place, event in enumerate(one["events"])
        ]
    assert [event.position for event in found] == list(range(1, len(found) + 1)), "a gap"
    return found
