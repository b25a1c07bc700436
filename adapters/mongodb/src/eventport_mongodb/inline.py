"""Inline handlers: what runs in the transaction of a commit, after its events were inserted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from pymongo.errors import PyMongoError

from eventport.adapter import Commit, Committed, InlineHandlers, call_inline, new_events
from eventport.transactions import Transaction

from eventport_mongodb.asking import Asker
from eventport_mongodb.documents_of_models import ModelCollection, MongoTransaction
from eventport_mongodb.log import Log
from eventport_mongodb.translation import is_aborted, is_connection_lost


Within: TypeAlias = Callable[[Any], Awaitable[None]]
"""Called with the session whose transaction is open."""


class InlineProjections:
    """The handlers of one store.

    Args:
        log: The events.
        asker: Asks the server; a handler may take half of its timeout.
        models: The documents.
    """

    def __init__(self, log: Log, asker: Asker, models: ModelCollection) -> None:
        self.handlers = InlineHandlers[MongoTransaction]()
        """In the order in which they run."""
        self._log = log
        self._seconds = asker.timeout / 2
        self._models = models

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.handlers)

    async def prepare(self) -> None:
        """Make what cannot be made in a transaction."""
        await self._models.prepare()

    def within(self, commit: Commit, committed: Committed) -> Within:
        """Return what calls the handlers of a commit in its transaction."""

        async def run(session: Any) -> None:
            connection = MongoTransaction(self._log.database, session)
            transaction = Transaction(connection, self._models.within(session))
            for events in new_events([commit], [committed]):
                for handler in self.handlers:
                    await call_inline(handler, events, transaction, self._seconds, _judge)

        return run


def _judge(error: Exception) -> str | Exception:
    """Let out what makes the whole transaction be tried again."""
    if isinstance(error, PyMongoError) and (is_aborted(error) or is_connection_lost(error)):
        raise error
    return error


def only_first(planned: Sequence[Any], inline: InlineProjections) -> Sequence[Any]:
    """Return what is written in one transaction: with handlers, one commit."""
    return planned[:1] if inline else planned
