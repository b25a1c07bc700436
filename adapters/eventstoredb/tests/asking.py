"""Asks a server questions in its own protocol, and puts its answers in a few words."""

from __future__ import annotations

import re

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID, uuid4

from adapters.eventstoredb.tests.double.stubs import aio, v1, v2

from eventport.adapter import EncodedEvent

from eventport_eventstoredb.errors import of_append, translate
from eventport_eventstoredb.messages import (
    AllRead,
    append_request,
    read_all_request,
    read_request,
)
from eventport_eventstoredb.vendor import load_library


ANY: Final = -2
NO_STREAM: Final = -1
EXISTS: Final = -4

_OPTIONS: Final = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_WORDS: Final = {
    "StreamDeletedError": "deleted",
    "NotSupportedError": "bad request",
    "PayloadTooLargeError": "too large",
}


def event(
    id_: UUID | None = None, data: str = "{}", type_: str = "T", metadata: str = "{}"
) -> EncodedEvent:
    return EncodedEvent(type_, data, metadata, id_ or uuid4(), size=len(data) + len(metadata))


class Asker:
    """Speaks to a server, with no client between."""

    def __init__(self, channel: Any) -> None:
        self.library = load_library()
        self.streams = v1.grpc.StreamsStub(channel)
        self.sessions: Any = v2.stub(channel) if v2 is not None else None
        self.position = 0
        """Where the last event of the last append is."""
        self._names = 0

    def name(self, start: str = "s") -> str:
        self._names += 1
        return f"{start}-{self._names}-{uuid4().hex[:6]}"

    async def append(self, stream: str, expected: int, events: Sequence[EncodedEvent]) -> str:
        request = append_request(self.library, stream, expected, events, uuid4(), 20)
        call = self.streams.BatchAppend(iter([request]))
        try:
            response = await call.read()
        except aio.AioRpcError as exc:
            return _word(translate(self.library, exc, stream))
        call.cancel()
        if response.WhichOneof("result") == "error":
            found = of_append(self.library, response.error, stream)
            if isinstance(found, Exception):
                return _word(found)
            return f"refused at v{found.version}"
        self.position = response.success.position.commit_position
        return f"ok v{response.success.current_revision + 1}"

    async def written(self, *events: EncodedEvent) -> str:
        """Make a stream of these events, or of two."""
        stream = self.name()
        await self.append(stream, NO_STREAM, events or [event(), event()])
        return stream

    async def read(
        self,
        stream: str,
        revision: int | None = None,
        count: int = 100,
        *,
        backwards: bool = False,
    ) -> str:
        request = read_request(self.library, stream, revision, count, backwards=backwards)
        return await self._revisions(self.streams.Read(request))

    async def events(self, stream: str) -> list[Any]:
        request = read_request(self.library, stream, None, 100, backwards=False)
        return [response.event.event async for response in self.streams.Read(request)]

    async def read_all(
        self, stream: str, position: int | None = None, *, backwards: bool = False
    ) -> str:
        query = AllRead(position, 100, re.escape(stream), by_stream=True, backwards=backwards)
        return await self._revisions(self.streams.Read(read_all_request(self.library, query)))

    async def follow(self, stream: str, position: int, until: int) -> str:
        query = AllRead(position, 1, re.escape(stream), by_stream=True)
        request = read_all_request(self.library, query)
        request.options.subscription.SetInParent()
        return await self._revisions(self.streams.Read(request), until)

    async def _revisions(self, call: Any, until: int | None = None) -> str:
        found: list[int] = []
        try:
            async for response in call:
                if response.WhichOneof("content") == "stream_not_found":
                    return "not found"
                if response.WhichOneof("content") == "event":
                    found.append(response.event.event.stream_revision)
                    if found[-1] == until:
                        break
        except aio.AioRpcError as exc:
            if dict(tuple(exc.trailing_metadata() or ())).get("exception") == "stream-deleted":
                return "deleted"
            reason = re.search("Result: (Error|InvalidPosition)", exc.details() or "")
            return " ".join([exc.code().name, *(reason.groups() if reason else ())])
        call.cancel()
        return str(found)

    async def delete(self, stream: str) -> str:
        return await self._remove(self.streams.Delete, v1.streams.DeleteReq(), stream)

    async def tombstone(self, stream: str) -> str:
        return await self._remove(self.streams.Tombstone, v1.streams.TombstoneReq(), stream)

    async def _remove(self, method: Callable[[Any], Awaitable[Any]], request: Any, s: str) -> str:
        request.options.stream_identifier.stream_name = s.encode()
        request.options.any.SetInParent()
        try:
            await method(request)
        except aio.AioRpcError as exc:
            if "is deleted" in exc.details():
                return "deleted"
            missing = exc.code().name == "NOT_FOUND" or exc.details().endswith("version: -1")
            return "not found" if missing else exc.details()
        return "ok"

    async def set_metadata(self, stream: str, text: str) -> None:
        assert (await self.append(f"$${stream}", ANY, [event(data=text)])).startswith("ok")


@asynccontextmanager
async def asking(port: int) -> AsyncGenerator[Asker]:
    async with aio.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS) as channel:
        yield Asker(channel)


def _word(exc: Exception) -> str:
    kind = type(exc).__name__
    return _WORDS.get(kind, f"{kind}: {exc}")
