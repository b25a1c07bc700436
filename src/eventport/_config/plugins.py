"""Adapters that are installed, by the scheme of their URLs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, Protocol

from eventport._config.options import (
    accepted_options,
    closest,
    convert_option,
    split_query,
    unknown_option,
)
from eventport.errors import ConfigurationError
from eventport.protocols import EventStore
from eventport.transactions import DocumentReader


ENTRY_POINT_GROUP: Final = "eventport.adapters"
"""Adapters register here: the name is a URL scheme, the object is an `Adapter`."""

EXTRAS: Final[Mapping[str, str]] = {
    "memory": "memory",
    "sqlite": "sqlite",
    "postgres": "postgres",
    "postgresql": "postgres",
    "mongodb": "mongodb",
    "mongodb+srv": "mongodb",
    "esdb": "eventstoredb",
    "esdb+discover": "eventstoredb",
    "kurrentdb": "eventstoredb",
    "kurrentdb+discover": "eventstoredb",
    "kdb": "eventstoredb",
    "kdb+discover": "eventstoredb",
}
"""Which extra of eventport installs the adapter of a scheme: a hint when it is missing."""


class SchemaMaker(Protocol):
    """Makes the schema of one kind of store.

    Options are keyword-only parameters, of the same names and meaning as those of `Adapter.open`.
    """

    @property
    def sql(self) -> Callable[..., str]:
        """Returns the SQL from the version ``since`` (0: no schema) to the newest one."""
        ...

    @property
    def upgrade(self) -> Callable[..., Awaitable[tuple[int, int]]]:
        """Takes a URL, upgrades the schema, and returns the versions before and after."""
        ...


@dataclass(frozen=True)
class Adapter:
    """What an adapter registers in the entry-point group ``eventport.adapters``."""

    open: Callable[..., Awaitable[EventStore]]
    """Opens a store: takes a URL, and options as keyword-only parameters.

    Options from a URL or a file are converted to the parameters' annotated types and bounds.
    """
    checkpoints: Callable[..., AbstractAsyncContextManager[Any]] | None = None
    """Opens a checkpoint store, if this kind of store keeps checkpoints natively.

    Takes a URL and some of the same options, and returns an async context manager.
    """
    read_models: Callable[..., AbstractAsyncContextManager[DocumentReader]] | None = None
    """Opens the documents of read models, to be read, as `checkpoints` opens checkpoints."""
    schema: SchemaMaker | None = None
    """Makes the schema without opening a store, for the kinds that allow it."""
    relative_to: Callable[[str, Path], str] | None = None
    """Returns a URL whose relative path starts from a directory, for stores in files.

    That is the directory of the configuration file, which may be above the current one.
    """


@dataclass(frozen=True)
class Located:
    """A store that was found but is not open yet."""

    scheme: str
    adapter: Adapter
    url: str
    """Without the adapter's own options."""
    options: Mapping[str, Any]
    """The options, checked and converted."""

    def known_to(self, function: Callable[..., object]) -> dict[str, Any]:
        """Return the options that another function of the same adapter takes."""
        accepted = accepted_options(function)
        return {name: value for name, value in self.options.items() if name in accepted}


def locate(url: str, options: Mapping[str, Any], folder: Path | None = None) -> Located:
    """Find the adapter of a URL, and check the options; those given override the URL's.

    Args:
        url: Of the store.
        options: Those given.
        folder: Where relative paths in the URL start; None for the current directory.

    Raises:
        ConfigurationError: no adapter is installed for it, or an option is wrong.
    """
    scheme, adapter = _find_adapter(url)
    try:
        accepted = accepted_options(adapter.open)
    except NameError as exc:
        message = f"the adapter for {scheme}:// has an annotation that cannot be resolved: {exc}"
        raise ConfigurationError(message) from exc
    if folder is not None and adapter.relative_to and folder.absolute() != Path.cwd():
        url = adapter.relative_to(url, folder)
    left, asked = split_query(url, accepted)
    converted: dict[str, Any] = {}
    for name, value in {**asked, **options}.items():
        if name not in accepted:
            raise unknown_option(scheme, name, accepted)
        converted[name] = convert_option(name, value, accepted)
    return Located(scheme, adapter, left, converted)


def _find_adapter(url: str) -> tuple[str, Adapter]:
    scheme = url.partition("://")[0].lower()
    installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if scheme in installed:
        return scheme, load_adapter(installed[scheme])
    remedy, meant = "", scheme
    if scheme not in EXTRAS:
        meant = closest(scheme, {*installed, *EXTRAS})
        remedy = f"; did you mean {meant!r}?" if meant else ""
    if meant in EXTRAS and meant not in installed:
        remedy += f"; python -m pip install 'eventport[{EXTRAS[meant]}]'"
    message = (
        f"nothing is installed for {scheme}:// "
        f"(installed: {', '.join(sorted(installed)) or 'none'}){remedy}"
    )
    raise ConfigurationError(message)


def load_adapter(entry: EntryPoint) -> Adapter:
    """Import what an entry point names."""
    try:
        found = entry.load()
    except Exception as exc:  # importing runs code of others, which may raise anything
        message = f"the adapter for {entry.name}:// ({entry.value}) cannot be imported: {exc}"
        raise ConfigurationError(message) from exc
    if not isinstance(found, Adapter):
        message = (
            f"the adapter for {entry.name}:// ({entry.value}) must be an Adapter, not "
            f"{type(found).__name__}: it was made for another version of eventport"
        )
        raise ConfigurationError(message)
    return found
