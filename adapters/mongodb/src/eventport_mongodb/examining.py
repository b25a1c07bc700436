"""What an operator should know about a server: versions, members, journal, and its clock."""

from __future__ import annotations

import time

from collections.abc import Mapping
from datetime import UTC
from typing import Any, Final

from pymongo.errors import OperationFailure

from eventport.adapter import Remark, fact, remark_on_clock

from eventport_mongodb.log import INDEX, Log


_SAFE_MEMBERS: Final = 3
_FULL: Final = 0.8
"""The share of all connections from which on new ones may soon be refused."""


async def examine(log: Log) -> list[Remark]:
    """Look at the server of a collection, as far as its user may."""
    admin = log.client.admin
    sent = time.time()
    hello: Mapping[str, Any] = await admin.command("hello")
    received = time.time()
    built: Mapping[str, Any] = await admin.command("buildInfo")
    found = [
        fact("server", f"MongoDB {built['version']}"),
        fact("schema", f"layout {INDEX}, the newest one"),
        *_members(hello),
        *await _server(admin),
    ]
    if (clock := hello.get("localTime")) is not None:
        # The client decides whether its times have a zone; the server's are all in UTC.
        found.append(remark_on_clock(clock.replace(tzinfo=UTC).timestamp(), sent, received))
    return found


def _members(hello: Mapping[str, Any]) -> list[Remark]:
    """Say which members have to have a commit before it is acknowledged."""
    if hello.get("msg") == "isdbgrid":
        return [fact("durability", "a sharded cluster; ask each shard about its members")]
    if "setName" not in hello:
        text = "this server stands alone: no other one has the events if its disk is lost"
        remedy = "start it with --replSet, and add two members"
        return [Remark("warning", "durability", text, remedy)]
    members, arbiters = len(hello.get("hosts", ())), len(hello.get("arbiters", ()))
    text = (
        f"the replica set {hello['setName']} has {members} members with data, {arbiters} arbiters; "
        "a commit is acknowledged when most have it in their journals (w=majority, j=true)"
    )
    if members >= _SAFE_MEMBERS:
        return [fact("durability", text)]
    remedy = "add members, until three have data: then one of them may fail"
    return [Remark("warning", "durability", text, remedy)]


async def _server(admin: Any) -> list[Remark]:
    """Say what needs the right to see the server's status."""
    try:
        status: Mapping[str, Any] = await admin.command("serverStatus")
    except OperationFailure:
        remedy = "grant it the role clusterMonitor, if it should know more"
        return [Remark("info", "limits", "the user may not see the server's status", remedy)]
    engine = status.get("storageEngine", {})
    found: list[Remark] = []
    if not engine.get("persistent", True):
        text = f"the storage engine {engine.get('name')} keeps nothing on the disk"
        found.append(Remark("error", "durability", text, "use wiredTiger"))
    connections = status.get("connections", {})
    used, free = connections.get("current", 0), connections.get("available", 0)
    text = f"{used} of {used + free} connections are in use"
    if free and used < _FULL * (used + free):
        return [*found, fact("limits", text)]
    remedy = "raise the server's maxIncomingConnections, or lower maxPoolSize in the URLs"
    return [*found, Remark("warning", "limits", text, remedy)]
