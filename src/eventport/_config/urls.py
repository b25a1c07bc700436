"""URLs of stores: checks them, and shows them without any part of a password."""

from __future__ import annotations

import re

from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, unquote_plus

from eventport.errors import ConfigurationError, InvalidArgumentTypeError
from eventport.validation import control_character


_PARTS: Final = re.compile(r"(?s)(?P<scheme>[^:/?#]+)://(?P<authority>[^/?#]*)(?P<rest>.*)")
_HOST: Final = re.compile(r"(\[[\w:.%-]*\]|[^:\[\]]*)(:\d+)?")
# Hide too much rather than too little: everything up to the last @.
_PASSWORD: Final = re.compile(
    r"(?s)^(?P<user>(?:[^:/?#@]+://)?[^:]*):(?P<password>.*)@"
    r"|^(?P<alone>[^:/?#@]+://[^:/?#]*):(?!\d+([/?#,]|$))(?P<rest>.*)"
)
_VALUE: Final = re.compile(r"((?:^|[?&])[^=&?]*=)([^&]*)")
_SECRET: Final = re.compile(r"(?i)pass|pwd|secret|token|key|credential|auth")
_SHORTEST: Final = 3
"""A shorter piece of a secret reveals nothing."""


def redact(url: str) -> str:
    """Return a URL without the secrets in it, to be shown."""
    shown = _VALUE.sub(
        lambda match: f"{match[1]}***" if _SECRET.search(match[0]) else match[0], url
    )
    return _PASSWORD.sub(_without_password, shown)


def check_url(url: object) -> str:
    """Return a URL that every driver parses in the same way, or raise an error.

    A driver that parses it differently may take part of a password for a host, a port or a path,
    and quote it. So the message quotes nothing of the URL but its scheme.

    Raises:
        ConfigurationError: it has a character that must be percent-encoded, or no valid port.
        InvalidArgumentTypeError: it is no text.
    """
    if not isinstance(url, str):
        message = f"a URL must be text, not {type(url).__name__}"
        raise InvalidArgumentTypeError(message)
    url = clean(url, "a URL")
    parts = _PARTS.fullmatch(url)
    if parts is None or not parts["authority"]:
        return url
    user, _, hosts = parts["authority"].rpartition("@")
    if "@" in parts["rest"] or {"@", "[", "]"} & set(user):
        problem = "has one of / ? # @ [ ] in its user or password, or @ after its host"
    elif not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        problem = "has a port that is not a number, or an invalid host"
    else:
        return url
    message = (
        f"the {parts['scheme']}:// URL {problem}: percent-encode what belongs to a name or to a "
        "password (/ is %2F, ? is %3F, # is %23, @ is %40, : is %3A, [ is %5B, ] is %5D)"
    )
    raise ConfigurationError(message)


def clean(text: str, what: str) -> str:
    """Return a text from outside without the blanks and newlines around it.

    Raises:
        ConfigurationError: there is a control character in it.
    """
    text = text.strip()
    if control := control_character(text):
        message = f"{what} contains the control character {control!r}: remove it"
        raise ConfigurationError(message)
    return text


def explain(exc: BaseException, url: str) -> str:
    """Return the text of an error about a URL, or its class if the text reveals a secret."""
    text = str(exc)
    for secret in _secrets(url):
        pieces = {secret[at : at + _SHORTEST] for at in range(len(secret) - _SHORTEST + 1)}
        if any(piece in text or repr(piece)[1:-1] in text for piece in pieces):
            return type(exc).__name__
    return text or type(exc).__name__


def _secrets(url: str) -> Iterator[str]:
    """Yield what `redact` hides, both as written and percent-decoded."""
    found = [match["password"] or match["rest"] or "" for match in _PASSWORD.finditer(url)]
    found += [match[2] for match in _VALUE.finditer(url) if _SECRET.search(match[0])]
    for secret in found:
        yield from (secret, unquote(secret), unquote_plus(secret))


def _without_password(match: re.Match[str]) -> str:
    return f"{match['user']}:***@" if match["alone"] is None else f"{match['alone']}:***"
