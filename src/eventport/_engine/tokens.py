"""Tokens: what a reader of a query has seen, as text that means nothing to anybody else."""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from typing import Final

import msgspec

from eventport._engine.commits import Seen
from eventport.errors import InvalidArgumentError, InvalidArgumentTypeError
from eventport.validation import show


_KIND: Final = "e1"
"""The version of the form, before a dot."""

_decoders: Final = {_KIND: msgspec.json.Decoder(Seen).decode}


def make_token(seen: Seen) -> str:
    """Return the token that stands for what was seen."""
    raw = msgspec.json.encode((seen.floor, sorted(seen.positions)))
    return f"{_KIND}.{urlsafe_b64encode(raw).decode().rstrip('=')}"


def read_token(token: object) -> Seen:
    """Return what a token stands for, or raise `InvalidArgumentError`."""
    if not isinstance(token, str):
        message = f"since must be the token of a query's result, not {show(token)}"
        raise InvalidArgumentTypeError(message)
    try:
        kind, _, text = token.partition(".")
        padding = "=" * (-len(text) % 4)
        return _decoders[kind](b64decode(text + padding, altchars=b"-_", validate=True))
    except (KeyError, ValueError, msgspec.MsgspecError) as exc:
        message = f"since must be the token of a query's result, not {show(token)}"
        raise InvalidArgumentError(message) from exc
