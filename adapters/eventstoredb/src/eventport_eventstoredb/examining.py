"""What an operator should know about a server, as far as its protocol and the URL say it."""

from __future__ import annotations

from typing import Final

from eventport.adapter import Remark, fact

from eventport_eventstoredb.client import MultiStreamMode
from eventport_eventstoredb.vendor import Connector


_SEVERAL: Final[dict[MultiStreamMode | None, str]] = {
    "records": "commits over several streams go by AppendRecords",
    "streams": "commits over several streams go by AppendSession",
    None: "a commit goes to one stream",
}


def examine(connector: Connector, mode: MultiStreamMode | None) -> list[Remark]:
    """Say how the store reaches its server, and what to look up in the server's settings.

    Args:
        connector: The vendor's client.
        mode: How the server commits several streams.
    """
    # No call of the protocol says whether a node flushes what it acknowledges.
    durability = (
        "the protocol does not say how nodes keep their data: see in their settings that neither "
        "MemDb nor UnsafeDisableFlushToDisk is on, and that the cluster has three nodes"
    )
    found = [
        fact("server", f"{connector.library.title}; {_SEVERAL[mode]}"),
        fact("durability", durability),
    ]
    if not connector.is_private:
        text = "the connection is not encrypted: others can read events and passwords on the way"
        remedy = "give the nodes certificates, and take tls=false out of the URL"
        found.append(Remark("warning", "encryption", text, remedy))
    if not connector.reads_leader:
        text = "a node that is not the leader may answer reads: it may lack what was just appended"
        remedy = "take nodePreference out of the URL"
        found.append(Remark("warning", "reads", text, remedy))
    return found
