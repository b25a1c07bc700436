"""From a URL, or a name in a file, to an open store."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import tomllib

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, TypeAlias, cast
from urllib.parse import quote, unquote_plus

import msgspec

from eventport.adapter import AfterCommitHook, BaseEventStore
from eventport.errors import ConfigurationError, NotSupportedError
from eventport.inline import InlineStore
from eventport.protocols import EventStore


ENTRY_POINT_GROUP: Final = "eventport.adapters"
"""Adapters register here: the name is a URL scheme, the object is an `Opener`."""

Opener: TypeAlias = Callable[..., Coroutine[Any, Any, EventStore]]
"""Opens a store: called with a URL and with options, which are its keyword-only parameters.

Options from a URL or a file are converted to the parameters' annotated types.
"""

_KNOWN_SCHEMES: Final = {
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
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
_URL: Final = re.compile(r"[^:/?#]+://.*", re.DOTALL)
_USERINFO: Final = re.compile(r"(?s)(?P<before>[^:/?#]+://)(?P<userinfo>[^/?#]*)(?P<after>@.*)")
# What hides too much is better than what hides too little: up to the last @, whatever is between.
_PASSWORD: Final = re.compile(r"(?s)^(?P<user>(?:[^:/?#@]+://)?[^:]*):.*@")
_SECRET: Final = re.compile(r"(?is)((?:pass|pwd|secret|token|key|credential)[^=&]*=)[^&]*")


@asynccontextmanager
async def connect(
    target: str | None = None,
    /,
    *,
    config: str | os.PathLike[str] | None = None,
    after_commit: Iterable[AfterCommitHook] = (),
    inline: Iterable[Callable[..., object]] = (),
    **options: Any,
) -> AsyncGenerator[EventStore, None]:
    """Open a store, and close it when the block ends.

    Args:
        target: A URL such as ``sqlite:///orders.db``, or the name of a store in the configuration
            file. None stands for what ``EVENTPORT_URL`` holds, or else for the store named
            ``default``. ``${NAME}`` in a URL is replaced by that environment variable.
        config: The file to look names up in. By default ``eventport.toml`` in the current
            directory, or else the table ``[tool.eventport]`` of ``pyproject.toml`` there.
        after_commit: Hooks to register with the store; see `BaseEventStore.after_commit`.
        inline: Handlers that run inside the transactions of the commits, on the backends that
            have such; see their stores' method `inline`.
        options: Options of the adapter; they override those of the URL and of the file.

    Raises:
        ConfigurationError: what is written there does not lead to a store; the message names the
            value and the remedy, and never holds a password.
        NotSupportedError: the store cannot call such hooks or handlers.
    """
    url, stored = resolve(target, config)
    scheme, opener = find_opener(url)
    accepted = accepted_options(scheme, opener)
    url, asked = split_query(url, accepted)
    merged = {**asked, **stored, **options}
    converted = {
        name: convert_option(scheme, name, value, accepted) for name, value in merged.items()
    }
    async with await opener(url, **converted) as store:
        for hook in after_commit:
            if not isinstance(store, BaseEventStore):
                message = f"{type(store).__name__} has no after-commit hooks"
                raise NotSupportedError(message)
            store.after_commit(hook)
        for handler in inline:
            if not isinstance(store, InlineStore):
                message = (
                    f"{type(store).__name__} cannot run inline projections: SQLite and Postgres "
                    "stores can; elsewhere use a subscription"
                )
                raise NotSupportedError(message)
            store.inline(handler)
        yield store


def redact(url: str) -> str:
    """Return a URL without the secrets in it, to be shown."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\g<user>:***@", url))


def unknown_option(scheme: str, name: str, accepted: Iterable[str]) -> ConfigurationError:
    """Make the error for an option that an adapter does not have, with the closest that it has."""
    accepted = sorted(accepted)
    return ConfigurationError(
        f"{scheme} stores have no option {name!r}{_did_you_mean(name, accepted)}; "
        f"they have: {', '.join(accepted) or 'none'}"
    )


def resolve(
    target: str | None, config: str | os.PathLike[str] | None
) -> tuple[str, dict[str, Any]]:
    """Find the URL that is meant, and the options that go with it."""
    if target is None:
        target = os.environ.get("EVENTPORT_URL") if config is None else None
        if not target:
            return _look_up("default", config)
    if not isinstance(cast("object", target), str):
        # Its value is not shown: it might be some object that knows a password.
        kind = type(target).__name__
        message = f"a store is given as a URL or as a name in eventport.toml, both str, not {kind}"
        raise ConfigurationError(message)
    if "://" in target or _VARIABLE.match(target):
        return _expand(target), {}
    return _look_up(target, config)


def _look_up(name: str, config: str | os.PathLike[str] | None) -> tuple[str, dict[str, Any]]:
    path, tables = _read_stores(config)
    if path is None:
        message = (
            f"no store named {redact(name)!r}: there is neither eventport.toml nor a "
            f"pyproject.toml with [tool.eventport] in {Path.cwd()}; write the former, or name a "
            "URL such as sqlite:///orders.db, in the call or in EVENTPORT_URL"
        )
        raise ConfigurationError(message)
    if name not in tables:
        message = (
            f"no store named {redact(name)!r} in {path}{_did_you_mean(name, tables)}; "
            f"it has: {', '.join(sorted(tables)) or 'none'}"
        )
        raise ConfigurationError(message)
    table = tables[name]
    url = table.get("url") if isinstance(table, Mapping) else None
    if not isinstance(url, str):
        message = f'{path}: [stores.{name}] needs a url, such as url = "sqlite:///orders.db"'
        raise ConfigurationError(message)
    return _expand(url), {key: value for key, value in table.items() if key != "url"}


def _read_stores(
    config: str | os.PathLike[str] | None,
) -> tuple[Path | None, Mapping[str, Any]]:
    """Read the tables of stores from the file that has them."""
    if config is not None:
        candidates = [Path(config)]
        if not candidates[0].is_file():
            message = f"there is no configuration file {candidates[0]}"
            raise ConfigurationError(message)
    else:
        candidates = [
            path for path in map(Path, ("eventport.toml", "pyproject.toml")) if path.is_file()
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
        message = f"{path}: {key} must be a table, such as [stores.orders] is one"
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
        return found

    def quoted(match: re.Match[str]) -> str:
        return quote(value(match), safe="")

    before, after = "", url
    if match := _USERINFO.fullmatch(url):
        before = match["before"] + _VARIABLE.sub(quoted, match["userinfo"])
        after = match["after"]
    base, mark, query = after.partition("?")
    expanded = before + _VARIABLE.sub(value, base) + mark + _VARIABLE.sub(quoted, query)
    if not _URL.fullmatch(expanded):
        message = f"{redact(url)!r} is not a URL, such as sqlite:///orders.db"
        raise ConfigurationError(message)
    return expanded


def find_opener(url: str) -> tuple[str, Opener]:
    """Return the scheme of a URL, and what opens its stores."""
    scheme = url.partition("://")[0].lower()
    installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if scheme in installed:
        return scheme, load(installed[scheme])
    remedy, meant = "", scheme
    if scheme not in _KNOWN_SCHEMES:
        meant = _closest(scheme, {*installed, *_KNOWN_SCHEMES})
        remedy = f"; did you mean {meant!r}?" if meant else ""
    if meant in _KNOWN_SCHEMES and meant not in installed:
        remedy += f"; python -m pip install 'eventport[{_KNOWN_SCHEMES[meant]}]'"
    message = (
        f"nothing is installed for {scheme}:// "
        f"(installed: {', '.join(sorted(installed)) or 'none'}){remedy}"
    )
    raise ConfigurationError(message)


def load(entry: EntryPoint) -> Opener:
    """Import what an entry point names."""
    try:
        return cast("Opener", entry.load())
    except Exception as exc:  # importing runs code of others, which may raise anything
        message = f"the adapter for {entry.name}:// ({entry.value}) cannot be imported: {exc}"
        raise ConfigurationError(message) from exc


def accepted_options(scheme: str, opener: Opener) -> dict[str, Any]:
    """Return the options of an adapter and their types: its keyword-only parameters."""
    try:
        parameters = inspect.signature(opener, eval_str=True).parameters.values()
    except NameError as exc:
        message = f"the adapter for {scheme}:// has an annotation that means nothing: {exc}"
        raise ConfigurationError(message) from exc
    return {
        p.name: Any if p.annotation is p.empty else p.annotation
        for p in parameters
        if p.kind is p.KEYWORD_ONLY
    }


def split_query(url: str, accepted: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Take the adapter's options out of a URL; what is left is the driver's business."""
    base, _, query = url.partition("?")
    ours: dict[str, str] = {}
    rest: list[str] = []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if (name := unquote_plus(name)) in accepted:
            ours[name] = unquote_plus(value)
        else:
            rest.append(part)  # as it was written: each driver has its own idea of quoting
    left = "&".join(rest)
    return f"{base}?{left}" if left else base, ours


def convert_option(scheme: str, name: str, value: Any, accepted: Mapping[str, Any]) -> Any:
    """Return an option's value as its parameter's annotation demands."""
    if name not in accepted:
        raise unknown_option(scheme, name, accepted)
    try:
        return msgspec.convert(value, accepted[name], strict=False)
    except msgspec.ValidationError as exc:
        shown = redact(f"{name}={value!r}")
        message = f"{scheme} option {shown}: {exc}"
        raise ConfigurationError(message) from exc


def _did_you_mean(name: str, candidates: Iterable[str]) -> str:
    found = _closest(name, candidates)
    return f"; did you mean {found!r}?" if found else ""


def _closest(name: str, candidates: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, list(candidates), 1)), "")
