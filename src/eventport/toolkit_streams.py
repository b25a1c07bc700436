"""The names of the streams that the toolkit itself keeps: snapshots, claimed keys, commands."""

from __future__ import annotations

import hmac
import re

from hashlib import sha256
from typing import Final, cast

from eventport.errors import InvalidStreamNameError
from eventport.validation import MAX_NAME_BYTES, show


PREFIX: Final = "eventport/"
"""How the name of every stream of the toolkit begins; leave such names to it."""

_HASH_BYTES: Final = 1 + 64  # the mark and a SHA-256 in hexadecimal digits
# What would make two lists of parts look alike, and what no name may contain.
_ambiguous: Final = re.compile(r"[%/~\x00-\x1f\x7f-\x9f]")


def toolkit_stream(kind: str, *parts: str) -> str:
    """Name a stream of the toolkit, so that different parts never make the same name.

    ``toolkit_stream("snapshot", "order/1")`` is ``"eventport/snapshot/order%2F1"``. The end of a
    name that would be too long is replaced by ``~`` and a SHA-256 of the whole name.

    Args:
        kind: What the stream is for, in one plain word.
        parts: What it belongs to: any text.
    """
    for part in parts:
        if not isinstance(cast("object", part), str):
            message = f"a part of a stream's name must be text, not {show(part)}"
            raise InvalidStreamNameError(message)
    name = PREFIX + "/".join([kind, *(_ambiguous.sub(_escape, part) for part in parts)])
    try:
        raw = name.encode()
    except UnicodeEncodeError as exc:
        message = f"stream name {show(name)} contains a lone surrogate, which is not Unicode text"
        raise InvalidStreamNameError(message) from exc
    if len(raw) <= MAX_NAME_BYTES:
        return name
    kept = raw[: MAX_NAME_BYTES - _HASH_BYTES].decode(errors="ignore")
    return f"{kept}~{sha256(raw).hexdigest()}"


def is_toolkit_stream(name: str) -> bool:
    """Return whether a stream is one of the toolkit's own."""
    return name.startswith(PREFIX)


def digest(text: str, secret: bytes | None = None) -> str:
    """Return what stands for personal data: its SHA-256, or with a secret its HMAC-SHA256."""
    raw = text.encode(errors="surrogatepass")  # only its hash is kept, so it may be anything
    return sha256(raw).hexdigest() if secret is None else hmac.digest(secret, raw, "sha256").hex()


def _escape(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"
