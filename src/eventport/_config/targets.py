"""Resolves what a caller names, a URL or a store in a file, to a URL and its options."""

from __future__ import annotations

import os
import re
import tomllib

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote

from eventport._config.options import did_you_mean
from eventport._config.urls import check_url, clean, redact
from eventport.errors import ConfigurationError
from eventport.validation import control_character


_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
_URL: Final = re.compile(r"[^:/?#]+://.*", re.DOTALL)
_USERINFO: Final = re.compile(r"(?s)(?P<before>[^:/?#]+://)(?P<userinfo>[^/?#]*)(?P<after>@.*)")


class Target(NamedTuple):
    """What a name or a URL stands for."""

    url: str
    options: dict[str, Any]
    """Those that the file adds."""
    folder: Path | None = None
    """Where the file is, from which relative paths in the URL count; None without a file."""


def resolve(target: str | None, config: str | os.PathLike[str] | None) -> Target:
    """Return what a target stands for."""
    if target is None:
        target = os.environ.get("EVENTPORT_URL", "").strip() if config is None else ""
        if not target:
            return _look_up("default", config)
    if not isinstance(cast("object", target), str):
        # Its value is not shown: it might be some object that knows a password.
        kind = type(target).__name__
        message = f"a store must be a URL or a name in eventport.toml, as text, not {kind}"
        raise ConfigurationError(message)
    target = clean(target, "the URL or name of a store")
    if "://" in target or _VARIABLE.match(target):
        return Target(_expand(target), {})
    return _look_up(target, config)


def lives_in_memory(target: str | None) -> bool:
    """Return whether a store ends with the process that opens it."""
    url = resolve(target, None).url
    return url.startswith(("memory:", "sqlite://?")) or url in {"sqlite://", "sqlite:///:memory:"}


def _look_up(name: str, config: str | os.PathLike[str] | None) -> Target:
    path, tables = _read_stores(config)
    if path is None:
        message = (
            f"no store named {redact(name)!r}: there is neither eventport.toml nor a "
            f"pyproject.toml with [tool.eventport] in {Path.cwd()} or above; create one, or give a "
            "URL such as sqlite:///orders.db in the call or in EVENTPORT_URL"
        )
        raise ConfigurationError(message)
    if name not in tables:
        message = (
            f"no store named {redact(name)!r} in {path}{did_you_mean(name, tables)}; "
            f"it has: {', '.join(sorted(tables)) or 'none'}"
        )
        raise ConfigurationError(message)
    found = tables[name]
    table = cast("Mapping[str, Any]", found if isinstance(found, Mapping) else {})
    url = table.get("url")
    if not isinstance(url, str):
        message = f'{path}: [stores.{name}] needs a url, such as url = "sqlite:///orders.db"'
        raise ConfigurationError(message)
    url = clean(url, f"{path}: the url of [stores.{name}]")
    options = {key: value for key, value in table.items() if key != "url"}
    return Target(_expand(url), options, path.parent)


def _read_stores(
    config: str | os.PathLike[str] | None,
) -> tuple[Path | None, Mapping[str, Any]]:
    """Read the tables of stores from the configuration file, and return its path."""
    if config is not None:
        candidates = [Path(config)]
        if not candidates[0].is_file():
            message = f"there is no configuration file {candidates[0]}"
            raise ConfigurationError(message)
    else:
        here = Path()
        candidates = [
            path
            for folder in (here, *here.absolute().parents)
            for path in (folder / "eventport.toml", folder / "pyproject.toml")
            if path.is_file()
        ]
    for path in candidates:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            message = f"{path} cannot be read: {exc}"
            raise ConfigurationError(message) from exc
        if path.name == "pyproject.toml":
            tool = _table(path, content, "tool")
            if config is None and "eventport" not in tool:
                continue
            content = _table(path, tool, "eventport")
        return path, _table(path, content, "stores")
    return None, {}


def _table(path: Path, parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Take a table out of what a file holds; one that is not there counts as empty."""
    found = parent.get(key, {})
    if not isinstance(found, dict):
        message = f"{path}: {key} must be a table, as [stores.orders] is"
        raise ConfigurationError(message)
    return cast("dict[str, Any]", found)


def _expand(url: str) -> str:
    """Replace ``${NAME}``.

    In user, password and query values are quoted, so that they may hold any character; elsewhere
    they are taken as they are, so that they may be a path, a host with a port, or a whole URL.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            message = f"the environment variable {match[1]} is not set; {redact(url)} needs it"
            raise ConfigurationError(message)
        found = found.strip("\r\n\t")  # files of secrets end with a newline
        if control := control_character(found):
            message = (
                f"the environment variable {match[1]} contains the control character {control!r}"
            )
            raise ConfigurationError(message)
        return found

    def quoted(match: re.Match[str]) -> str:
        return quote(value(match), safe="")

    before, after = "", url
    if match := _USERINFO.fullmatch(url):
        before = match["before"] + _VARIABLE.sub(quoted, match["userinfo"])
        after = match["after"]
    base, mark, query = after.partition("?")
    expanded = (before + _VARIABLE.sub(value, base) + mark + _VARIABLE.sub(quoted, query)).strip()
    if not _URL.fullmatch(expanded):
        message = f"{redact(url)!r} is not a URL, such as sqlite:///orders.db"
        raise ConfigurationError(message)
    return check_url(expanded)
