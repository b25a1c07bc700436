"""A checkpointer for LangGraph on any store of eventport: a thread is a stream.

What happened to a thread is appended to its stream, and LangGraph's own saver in memory is what the
events are folded into; it answers all questions. So another process sees a thread as soon as it
asks, and the whole history of an agent stays, what was pruned or deleted included: deletions are
events, too. Data that must go for good needs a serde that encrypts, and a key to throw away.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from anyio import Lock
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventport import EventStore, NewEvent, RecordedEvent


SAVED: Final = "CheckpointSaved"
WRITTEN: Final = "WritesSaved"
REMOVED: Final = "CheckpointsRemoved"
DELETED: Final = "ThreadDeleted"


class EventportSaver(BaseCheckpointSaver[Any]):
    """Keeps checkpoints in a store; it has the asynchronous methods only."""

    def __init__(
        self,
        store: EventStore,
        *,
        prefix: str = "langgraph-",
        serde: SerializerProtocol | None = None,
    ) -> None:
        super().__init__(serde=serde)
        self._store = store
        self._prefix = prefix
        self._folded = InMemorySaver(serde=serde)
        self._versions: dict[str, int] = {}
        self._lock = Lock()

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        thread, namespace, parent = place(config)
        data = {
            "namespace": namespace,
            "parent": parent,
            "checkpoint": self._dump(checkpoint),
            "metadata": self._dump(get_checkpoint_metadata(config, metadata)),
            "versions": self._dump(new_versions),
        }
        await self._append(thread, SAVED, data)
        return config_of(thread, namespace, checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        thread, namespace, checkpoint = place(config)
        data = {
            "namespace": namespace,
            "checkpoint": checkpoint,
            "writes": [[channel, self._dump(value)] for channel, value in writes],
            "task": [task_id, task_path],
        }
        await self._append(thread, WRITTEN, data)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        await self._catch_up(place(config)[0])
        return self._folded.get_tuple(config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  # LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        for thread in [place(config)[0]] if config else await self._threads():
            await self._catch_up(thread)
        for found in list(self._folded.list(config, filter=filter, before=before, limit=limit)):
            yield found

    async def adelete_thread(self, thread_id: str) -> None:
        await self._append(thread_id, DELETED, {})

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        for thread in await self._threads():
            found = [one async for one in self.alist({"configurable": {"thread_id": thread}})]
            await self._remove(thread, [t for t in found if t.metadata.get("run_id") in run_ids])

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        events = self._store.iterate(self._prefix + source_thread_id)
        copies = [NewEvent(event.type, event.data) async for event in events]
        await self._store.append(self._prefix + target_thread_id, copies)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        for thread in thread_ids:
            found = [one async for one in self.alist({"configurable": {"thread_id": thread}})]
            newest: dict[str, str] = {}
            for one in found:
                _, namespace, checkpoint = place(one.config)
                newest[namespace] = max(newest.get(namespace, ""), str(checkpoint))
            kept = set(newest.items()) if strategy == "keep_latest" else set()
            await self._remove(thread, [one for one in found if place(one.config)[1:] not in kept])

    async def _remove(self, thread: str, found: Sequence[CheckpointTuple]) -> None:
        if found:
            places = [list(place(one.config)[1:]) for one in found]
            await self._append(thread, REMOVED, {"places": places})

    async def _append(self, thread: str, type_: str, data: dict[str, Any]) -> None:
        await self._store.append(self._prefix + thread, [NewEvent(type_, data)])

    async def _threads(self) -> list[str]:
        events = self._store.iterate_all(prefix=self._prefix)
        return list(dict.fromkeys([e.stream.removeprefix(self._prefix) async for e in events]))

    async def _catch_up(self, thread: str) -> None:
        """Fold what was appended to a thread since the last time, by this process or others."""
        async with self._lock:
            seen = self._versions.get(thread, 0)
            async for event in self._store.iterate(self._prefix + thread, from_version=seen + 1):
                self._fold(thread, event)
                self._versions[thread] = event.version

    def _fold(self, thread: str, event: RecordedEvent) -> None:
        data: Mapping[str, Any] = event.data
        if event.type == SAVED:
            config = config_of(thread, data["namespace"], data["parent"])
            parts = [self._load(data[name]) for name in ("checkpoint", "metadata", "versions")]
            self._folded.put(config, *parts)
        elif event.type == WRITTEN:
            config = config_of(thread, data["namespace"], data["checkpoint"])
            writes = [(channel, self._load(value)) for channel, value in data["writes"]]
            self._folded.put_writes(config, writes, *data["task"])
        elif event.type == REMOVED:
            for namespace, checkpoint in data["places"]:
                self._folded.storage[thread][namespace].pop(checkpoint, None)
                self._folded.writes.pop((thread, namespace, checkpoint), None)
        else:
            self._folded.delete_thread(thread)

    def _dump(self, value: Any) -> list[str]:
        kind, content = self.serde.dumps_typed(value)
        return [kind, b64encode(content).decode()]

    def _load(self, dumped: Sequence[str]) -> Any:
        kind, content = dumped
        return self.serde.loads_typed((kind, b64decode(content)))


def place(config: RunnableConfig) -> tuple[str, str, str | None]:
    """Return thread, namespace and checkpoint of a configuration."""
    given: Mapping[str, Any] = config["configurable"]
    return given["thread_id"], given.get("checkpoint_ns", ""), given.get("checkpoint_id")


def config_of(thread: str, namespace: str, checkpoint: str | None) -> RunnableConfig:
    """Return the configuration that leads to a checkpoint."""
    given = {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": checkpoint}
    return {"configurable": given}
