"""From a URL, or a name in a file, to an open store."""

from __future__ import annotations

import os

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from eventport._concurrency.blocks import entered_as
from eventport._config.options import accepted_options
from eventport._config.plugins import Located, locate
from eventport._config.targets import resolve
from eventport.callbacks import AfterCommitHook, HookStore, InlineStore
from eventport.errors import NotSupportedError
from eventport.protocols import EventStore
from eventport.transactions import InlineHandler


_CREATE_NOTHING: Final[Mapping[str, Any]] = {"create": False, "migrate": "explicit"}
"""The options that keep adapters which have them from creating files, tables or indexes."""


@entered_as("async with connect(...) as store:")
async def connect(
    target: str | None = None,
    /,
    *,
    config: str | os.PathLike[str] | None = None,
    after_commit: Iterable[AfterCommitHook] = (),
    inline: Iterable[InlineHandler] = (),
    **options: Any,
) -> AsyncGenerator[EventStore, None]:
    """Open a store, and close it when the block ends.

    Args:
        target: A URL such as ``sqlite:///orders.db``, or the name of a store in the configuration
            file. None means the value of ``EVENTPORT_URL``, or else the store named
            ``default``. ``${NAME}`` in a URL is replaced by that environment variable.
        config: The file to look names up in. By default ``eventport.toml`` in the current
            directory, or else the table ``[tool.eventport]`` of ``pyproject.toml`` there, or else
            those of the directories above it. Relative paths in it start from its directory.
        after_commit: Hooks to register with the store; see `HookStore.after_commit`.
        inline: Handlers that run inside the transactions of the commits, on backends that support
            them; see the method `inline` of their stores.
        options: Options of the adapter; they override those of the URL and of the file.

    Raises:
        ConfigurationError: target, options or file do not lead to a store; the message names the
            value and the remedy, and never holds a password.
        NotSupportedError: the store cannot call such hooks or handlers.
    """
    found = find(target, config=config, **options)
    async with await found.adapter.open(found.url, **found.options) as store:
        for hook in after_commit:
            if not isinstance(store, HookStore):
                message = f"{type(store).__name__} has no after-commit hooks"
                raise NotSupportedError(message)
            store.after_commit(hook)
        for handler in inline:
            if not isinstance(store, InlineStore):
                message = (
                    f"{type(store).__name__} cannot run inline handlers, because its backend has "
                    "no transaction that could hold a read model beside the events: memory, "
                    "SQLite, PostgreSQL and MongoDB have; elsewhere run a projection"
                )
                raise NotSupportedError(message)
            store.inline(handler)
        yield store


def connect_existing(target: str | None) -> AbstractAsyncContextManager[EventStore]:
    """Do as `connect` does, but create nothing, as far as the adapter knows how not to."""
    accepted = accepted_options(find(target).adapter.open)
    return connect(
        target, **{name: _CREATE_NOTHING[name] for name in _CREATE_NOTHING if name in accepted}
    )


def find(
    target: str | None = None, *, config: str | os.PathLike[str] | None = None, **options: Any
) -> Located:
    """Find a store without opening it; see `connect`."""
    url, stored, folder = resolve(target, config)
    return locate(url, {**stored, **options}, folder)
