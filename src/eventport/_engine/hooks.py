"""After-commit hooks: functions of the user that are called once after each commit."""

from __future__ import annotations

import logging

from asyncio import CancelledError
from typing import Final

from anyio import get_cancelled_exc_class

from eventport._concurrency.cancelling import is_being_cancelled
from eventport._engine.codec import decode_commit
from eventport._engine.commits import Commit, Committed
from eventport._logs import about
from eventport.callbacks import AfterCommitHook


_log: Final = logging.getLogger("eventport")


class Hooks:
    """The hooks of one store, in the order in which they run; false if there are none.

    Args:
        store: The store, which log records name.
    """

    def __init__(self, store: object) -> None:
        self._store = store
        self._hooks: list[AfterCommitHook] = []

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._hooks)

    def add(self, hook: AfterCommitHook) -> AfterCommitHook:
        """Add a hook, and return it."""
        self._hooks.append(hook)
        return hook

    async def call(self, commit: Commit, committed: Committed) -> None:
        """Call them with the events of a commit, as far as they can be read.

        They are not called if an earlier try had written it, or if no event can be read any more.
        """
        if committed.deduplicated:
            return
        events = decode_commit(commit, committed)
        for hook in self._hooks if events else ():
            try:
                await hook(events)
            except (Exception, CancelledError, get_cancelled_exc_class()):
                # It runs shielded, so a cancellation in here is what the hook let out, unless
                # the event loop is being closed.
                if is_being_cancelled():
                    raise
                extra = about(events[-1], store=self._store)
                _log.exception("after-commit hook %r failed; the commit stands", hook, extra=extra)
