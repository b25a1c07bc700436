"""Where a store is: files, their names in URLs, and how long to wait for them."""

from __future__ import annotations

import os

from pathlib import Path
from typing import Annotated, TypeAlias, cast

from msgspec import Meta

from eventport import ConfigurationError, InvalidArgumentTypeError
from eventport.adapter import check_url, redact, unknown_option

from eventport_sqlite.connection import MEMORY


BusyTimeout: TypeAlias = Annotated[float, Meta(ge=0, le=86_400)]
"""Seconds that a commit waits for others; SQLite counts milliseconds in 32 bits."""


def path_in(url: str) -> str:
    """Return the file that a URL names, or the name of a database in memory."""
    rest = check_url(url).partition("://")[2]
    name, _, query = rest.partition("?")
    if query:
        option = query.partition("=")[0]
        raise unknown_option("sqlite", option, ("busy_timeout", "create", "synchronous"))
    if name and not name.startswith("/"):
        message = f"{redact(url)} names a host: a file is written sqlite:///NAME"
        raise ConfigurationError(message)
    return name[1:] or MEMORY


def relative_to(url: str, folder: Path) -> str:
    """Return a URL whose relative path starts from a directory; see `Adapter.relative_to`."""
    base, mark, query = url.partition("?")
    scheme, slashes, name = base.partition(":///")
    if not slashes or not name or name.startswith("/") or name == MEMORY:
        return url
    return f"{scheme}:///{folder.absolute() / name}{mark}{query}"


def check_path(path: object) -> str:
    """Return the name of a file, or raise `InvalidArgumentTypeError`."""
    if isinstance(path, str | os.PathLike):
        return os.fsdecode(cast("str | os.PathLike[str]", path))
    message = f"path must be text or a path, not {path!r}"
    raise InvalidArgumentTypeError(message)
