"""Makes schemas without opening a store: for administrators of a database."""

from __future__ import annotations

from eventport._config.connecting import find
from eventport.errors import NotSupportedError


class StoreSchema:
    """The schema of the store that a URL or a name in the configuration stands for.

    Raises:
        ConfigurationError: see `connect`.
        NotSupportedError: opening stores of this kind is enough.
    """

    def __init__(self, target: str | None = None) -> None:
        self._found = find(target)
        maker = self._found.adapter.schema
        if maker is None:
            message = f"{self._found.scheme}:// stores need no preparation: opening one is enough"
            raise NotSupportedError(message)
        self._maker = maker

    def sql(self, since: int = 0) -> str:
        """See `SchemaMaker.sql`."""
        return self._maker.sql(since=since, **self._found.known_to(self._maker.sql))

    async def upgrade(self) -> tuple[int, int]:
        """See `SchemaMaker.upgrade`."""
        options = self._found.known_to(self._maker.upgrade)
        return await self._maker.upgrade(self._found.url, **options)
