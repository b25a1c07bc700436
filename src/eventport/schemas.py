"""Schemas that are made apart from opening a store: for those who may not, or do not want to."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Final, Protocol, cast

from eventport.configuration import (
    accepted_options,
    convert_option,
    find_opener,
    load,
    resolve,
    split_query,
)
from eventport.errors import NotSupportedError


ENTRY_POINT_GROUP: Final = "eventport.schemas"
"""Adapters with a schema register here: the name is a URL scheme, the object a `SchemaMaker`."""


class SchemaMaker(Protocol):
    """Makes the schema of one kind of store.

    Options are keyword-only parameters, of the same names and meaning as those of the opener.
    """

    def sql(self, *, since: int = 0, **options: Any) -> str:
        """Return what leads from a version, 0 for nothing, to the newest."""
        ...

    async def upgrade(self, url: str, **options: Any) -> tuple[int, int]:
        """Bring the schema to the newest version; return the one that was there, and that."""
        ...


class StoreSchema:
    """The schema of the store that a URL or a name in the configuration stands for.

    Raises:
        ConfigurationError: see `connect`.
        NotSupportedError: stores of this kind need no such care.
    """

    def __init__(self, target: str | None = None) -> None:
        url, stored = resolve(target, None)
        scheme, opener = find_opener(url)
        accepted = accepted_options(scheme, opener)
        self._url, asked = split_query(url, accepted)
        self._options = {
            name: convert_option(scheme, name, value, accepted)
            for name, value in {**asked, **stored}.items()
        }
        found = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
        if scheme not in found:
            message = f"{scheme}:// stores have no schema to care for: opening one is enough"
            raise NotSupportedError(message)
        self._scheme = scheme
        self._maker = cast("SchemaMaker", load(found[scheme]))

    def sql(self, since: int = 0) -> str:
        """See `SchemaMaker.sql`."""
        return self._maker.sql(since=since, **self._known(self._maker.sql))

    async def upgrade(self) -> tuple[int, int]:
        """See `SchemaMaker.upgrade`."""
        return await self._maker.upgrade(self._url, **self._known(self._maker.upgrade))

    def _known(self, method: Any) -> dict[str, Any]:
        """Leave out the options that matter to an open store only."""
        known = accepted_options(self._scheme, method)
        return {name: value for name, value in self._options.items() if name in known}
