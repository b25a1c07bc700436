"""A transaction with nothing in it but one insert, which may have to be committed repeatedly."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pymongo import ReadPreference
from pymongo.errors import PyMongoError

from eventport.adapter import run_shielded

from eventport_mongodb.asking import Asker
from eventport_mongodb.driver import Document, settled
from eventport_mongodb.inline import Within
from eventport_mongodb.log import DURABLE, MAJORITY, Log


class Transaction:
    """Inserts documents all together.

    Args:
        log: Where to insert.
        asker: Asks the server.
    """

    def __init__(self, log: Log, asker: Asker) -> None:
        self._log = log
        self._asker = asker
        self._session: Any = None

    async def insert(self, documents: Sequence[Document], within: Within | None = None) -> None:
        """Begin, insert, and do what else is to be done within.

        After any error it has been given up, and nothing is written.

        A caller that is cancelled waits for the end of this: a transaction that is left alone
        would be in everybody's way until the server ends it, after a minute.

        Raises:
            PyMongoError: it did not succeed.
            InlineProjectionError: what was to be done within failed.
        """
        await run_shielded(self._insert, documents, within)

    async def commit(self) -> None:
        """Commit; the server knows whether it has done so before.

        Raises:
            PyMongoError: it has not, or that is not known.
        """
        await self._asker.once(self._session.commit_transaction)

    def leave(self) -> None:
        """Let go of the session, in the background."""
        if self._session is not None:
            self._asker.start(self._end, self._asker.seconds)

    async def _insert(self, documents: Sequence[Document], within: Within | None) -> None:
        # Motor's session has to be awaited, and its transaction does not; PyMongo is the opposite.
        opening: Any = self._log.client.start_session()
        self._session = session = await settled(opening)
        try:
            await settled(session.start_transaction(MAJORITY, DURABLE, ReadPreference.PRIMARY))
            await self._asker.once(self._log.insert, documents, session)
            if within is not None:
                await within(session)
        except BaseException:
            with suppress(PyMongoError):  # what cannot be aborted now ends by itself
                await self._asker.once(session.abort_transaction)
            self.leave()
            raise

    async def _end(self) -> None:
        await settled(self._session.end_session())
