"""Writing, one batch after the other, and what is known of a batch that was lost."""

from __future__ import annotations

from collections.abc import Sequence

from bson.errors import BSONError
from pymongo.errors import PyMongoError

from eventport import EventportError
from eventport.adapter import Commit, Committed, Outcome

from eventport_mongodb.asking import Asker
from eventport_mongodb.batch import Batch, ReadStream
from eventport_mongodb.claiming import Claimer
from eventport_mongodb.heads import Heads
from eventport_mongodb.inline import InlineProjections
from eventport_mongodb.log import Log
from eventport_mongodb.translation import translate, translated


class Writer:
    """Writes commits, one batch at a time.

    The next `_id` is the last one plus its number of events. It can only be known from a document
    that can be seen, so no document appears before one that was seen, and no place stays empty.
    A writer that finds a place taken has lost a race: it reads what is new, and claims the next.

    Args:
        log: Where to write.
        heads: What is known of it.
        asker: Asks the server.
        read_stream: Finds the events of an earlier try.
        inline: What runs in the transactions of the commits.
    """

    def __init__(
        self,
        log: Log,
        heads: Heads,
        asker: Asker,
        read_stream: ReadStream,
        inline: InlineProjections,
    ) -> None:
        self._log = log
        self._heads = heads
        self._asker = asker
        self._claimer = Claimer(log, asker)
        self._read_stream = read_stream
        self._inline = inline
        self._batch: Batch | None = None
        """The batch that is being written, or the last one if it did not come to its end."""

    async def write(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Write a batch; see `Engine.commit`."""
        self._claimer.drop()
        self._batch = batch = Batch(
            self._log,
            self._heads,
            self._asker,
            self._claimer,
            self._read_stream,
            self._inline,
            commits,
        )
        is_known = False
        try:
            outcomes = await batch.run()
            is_known = True
        except (PyMongoError, BSONError, EventportError) as exc:
            error = exc if isinstance(exc, EventportError) else translate(exc, self._log.name)
            if not batch.has_written:
                raise error from exc.__cause__ if error is exc else exc
            return batch.fail_the_rest(error)
        finally:
            if not is_known:
                self._heads.forget()
            self._heads.trim()
        self._batch = None
        return outcomes

    def interrupt(self) -> None:
        """Let the batch that is being written end as soon as nothing of it is on its way."""
        if self._batch is not None:
            self._batch.is_unwanted = True

    async def find(self, commits: Sequence[Commit]) -> Sequence[Committed | None]:
        """Find commits of a lost batch; see `Remote.find`."""
        if self._batch is None:
            return [None] * len(commits)
        with translated(self._log.name):
            return await self._batch.find(commits)
