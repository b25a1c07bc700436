"""The options of stores: declared once, as keyword-only parameters with types and bounds."""

from __future__ import annotations

import difflib
import functools
import inspect

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin
from urllib.parse import unquote_plus

import msgspec

from eventport._config.urls import clean, explain, redact
from eventport.errors import ConfigurationError


P = ParamSpec("P")
T = TypeVar("T")


def accepted_options(function: Callable[..., object]) -> dict[str, Any]:
    """Return the options that a function takes and their types: its keyword-only parameters."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return {
        p.name: Any if p.annotation is p.empty else p.annotation
        for p in parameters
        if p.kind is p.KEYWORD_ONLY
    }


def checks_options(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Decorate what opens a store: options out of their bounds raise `ConfigurationError`.

    The bounds are those of the annotations, such as ``Annotated[float, Meta(gt=0, le=60)]``.
    """
    accepted: dict[str, Any] = {}

    @functools.wraps(function)
    async def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        accepted.update(accepted or accepted_options(function))
        for name, value in kwargs.items():
            if name in accepted:
                convert_option(name, value, accepted, strict=True)
        return await function(*args, **kwargs)

    return checked


def split_query(url: str, accepted: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Take the adapter's options out of a URL; the rest of the query is the driver's."""
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


def convert_option(
    name: str, value: Any, accepted: Mapping[str, Any], *, strict: bool = False
) -> Any:
    """Convert an option's value to its annotated type; text from a URL may become a number."""
    if isinstance(value, str):
        value = clean(value, f"option {name}")
    try:
        return msgspec.convert(value, accepted[name], strict=strict)
    except msgspec.ValidationError as exc:
        shown = redact(f"{name}={value!r}")
        message = f"option {shown}: {explain(exc, f'{name}={value}')}"
        message += _choices(accepted[name])
        raise ConfigurationError(message) from exc


def _choices(annotation: Any) -> str:
    """Return a remark about the values that an option takes, if they are few."""
    if get_origin(annotation) is not Literal:
        return ""
    return f"; it takes {' or '.join(map(repr, get_args(annotation)))}"


def unknown_option(scheme: str, name: str, accepted: Iterable[str]) -> ConfigurationError:
    """Make the error for an unknown option; it suggests the closest one that exists."""
    accepted = sorted(accepted)
    return ConfigurationError(
        f"{scheme} stores have no option {name!r}{did_you_mean(name, accepted)}; "
        f"they have: {', '.join(accepted) or 'none'}"
    )


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return a hint at the closest of the candidates, or an empty text."""
    found = closest(name, candidates)
    return f"; did you mean {found!r}?" if found else ""


def closest(name: str, candidates: Iterable[str]) -> str:
    """Return the closest of some names, or an empty text."""
    return next(iter(difflib.get_close_matches(name, list(candidates), 1)), "")
