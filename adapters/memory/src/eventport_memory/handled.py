"""Commits in memory with inline handlers, which share the commit's fate."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from anyio import Lock

from eventport.adapter import Commit, Failed, InlineHandlers, Outcome, call_inline, new_events
from eventport.errors import InlineProjectionError, NotSupportedError
from eventport.read_models import MemoryDocuments
from eventport.transactions import Transaction

from eventport_memory.log import Log


_handling: Final[ContextVar[object]] = ContextVar("eventport_memory_handling", default=None)
"""The commit whose inline handlers have called what runs here."""


class HandledCommits:
    """Runs the handlers of each commit, one commit after the other.

    Args:
        log: Where the events go.
        documents: The documents that handlers change.
        handlers: What runs with each commit.
    """

    def __init__(
        self, log: Log, documents: MemoryDocuments, handlers: InlineHandlers[None]
    ) -> None:
        self._log = log
        self._documents = documents
        self._handlers = handlers
        self.turn: Final = Lock()
        """Held while a commit's handlers run."""
        self._handling: object = None
        """Stands for the commit whose handlers are running."""

    async def apply(self, commit: Commit) -> Outcome:
        """Apply a commit once its handlers have succeeded; nothing is visible before that."""
        async with self.turn:
            outcome, stored = self._log.prepare(commit)
            self._handling = object()
            token = _handling.set(self._handling)
            try:
                with self._documents.transaction() as documents:
                    for events in new_events([commit], [outcome]):
                        for handler in self._handlers:
                            await call_inline(handler, events, Transaction(None, documents))
                    # Nothing is awaited between this and the end of the block.
                    self._log.add(stored)
            except InlineProjectionError as exc:
                return Failed(exc)
            finally:
                self._handling = None
                _handling.reset(token)
            return outcome

    def check_caller(self) -> None:
        """Raise `NotSupportedError` inside a handler, which must not wait for its own commit."""
        if self._handling is not None and self._handling is _handling.get():
            message = (
                "an inline handler cannot append to its own store in memory, for whose commit it "
                "would wait: append in a projection"
            )
            raise NotSupportedError(message)
