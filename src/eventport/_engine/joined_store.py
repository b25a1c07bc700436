"""A store inside a transaction of the caller's."""

from __future__ import annotations

from typing import Never

from eventport._engine.engine import Engine
from eventport._engine.store import Store
from eventport.callbacks import AfterCommitHook
from eventport.errors import NotSupportedError


class JoinedStore(Store):
    """A `Store` whose commits belong to a transaction of the caller's.

    It cannot know when that transaction is committed, so it has neither after-commit hooks nor
    subscriptions. Closing it leaves the transaction alone.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, batching="never")

    def after_commit(self, hook: AfterCommitHook, /) -> Never:
        """Refuse: only the owner of the transaction knows when it is committed."""
        message = f"{hook!r} cannot be called: only the owner of the transaction sees it commit"
        raise NotSupportedError(message)

    def subscribe(self, **_: object) -> Never:
        """Refuse: a subscription in a transaction would keep it open forever."""
        message = "a subscription needs a store of its own, not one inside a transaction"
        raise NotSupportedError(message)
