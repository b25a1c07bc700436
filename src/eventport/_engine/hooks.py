"""After-commit hooks: functions of the user that are called once after each commit."""

from __future__ import annotations

import logging

from typing import Final

from anyio import get_cancelled_exc_class

from eventport._engine.codec import decode_commit
from eventport._engine.commits import Commit, Committed
from eventport.protocols import AfterCommitHook


_log: Final = logging.getLogger("eventport")


class Hooks:
    """The hooks of one store, in the order in which they run; false if there are none."""

    def __init__(self) -> None:
        self._hooks: list[AfterCommitHook] = []

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._hooks)

    def add(self, hook: AfterCommitHook) -> AfterCommitHook:
        """Add a hook, and return it."""
        self._hooks.append(hook)
        return hook

    async def call(self, commit: Commit, committed: Committed) -> None:
        """Call them with the events of a commit, unless an earlier try had written it."""
        if committed.deduplicated:
            return
        events = decode_commit(commit, committed)
        for hook in self._hooks:
            try:
                await hook(events)
            # It runs shielded: a cancellation in here is the hook's own.
            except (Exception, get_cancelled_exc_class()):  # noqa: BLE001
                _log.exception("after-commit hook %r failed; the commit stands", hook)
