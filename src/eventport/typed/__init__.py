"""Typed events: classes of the program's own in place of names and JSON, version by version.

``event_types`` maps classes to names, ``streams`` reads and appends instances, ``conversion``
turns them into JSON and back, ``sameness`` compares what came back, ``fitting`` finds what need
not be compared, ``tagging`` makes tags of fields, and ``shape`` notices that a class has changed.
"""

from __future__ import annotations

from eventport.context import SCHEMA_VERSION
from eventport.typed.event_types import EventTypes, Upcaster
from eventport.typed.refusals import EventDataError, EventVersionError, UnknownEventTypeError
from eventport.typed.streams import TypedStore, TypedStreams, TypedSubscription
from eventport.typed.tagging import Tag


__all__ = [
    "SCHEMA_VERSION",
    "EventDataError",
    "EventTypes",
    "EventVersionError",
    "Tag",
    "TypedStore",
    "TypedStreams",
    "TypedSubscription",
    "UnknownEventTypeError",
    "Upcaster",
]
