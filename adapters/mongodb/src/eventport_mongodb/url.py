"""What may be wrong with a URL, said without any part of a password."""

from __future__ import annotations

import re

from typing import Final
from urllib.parse import unquote_plus

from pymongo.errors import PyMongoError
from pymongo.uri_parser import split_options

from eventport import ConfigurationError
from eventport.adapter import redact


_ENCODE: Final = (
    "the URL of MongoDB cannot be read: it is mongodb://user:password@host:port/database?options, "
    "and in user, password and options : / ? # [ ] @ % & must be percent-encoded, as by "
    "urllib.parse.quote_plus()"
)


def check_url(url: str) -> set[str]:
    """Check what the driver would say too much of, or only warn of.

    Returns:
        The names of the options in it, in lower case.

    Raises:
        ConfigurationError: something is wrong; nothing of a password is in the message.
    """
    _, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    # What comes after the hosts has no at sign, so this one ends a password that is not encoded.
    if "@" in rest[len(authority) :] or authority.count("@") > 1:
        raise ConfigurationError(_ENCODE)
    options = re.split("[&;]", url.partition("?")[2])
    return {_check_option(url, option) for option in options if option}


def place_of(url: str) -> str:
    """Return a URL as errors name it: no password, and no options, which may be secret, too."""
    return redact(url).partition("?")[0]


def refused(url: str, exc: Exception) -> ConfigurationError:
    """Return an error that says what the driver has against a URL, unless it quotes secrets."""
    text = str(exc)
    if _quotes(text, _secrets(url)):
        return ConfigurationError(_ENCODE)
    return ConfigurationError(f"{place_of(url)}: {text}")


def _check_option(url: str, option: str) -> str:
    """Check one option, and return its name."""
    name, _, value = option.partition("=")
    try:
        # It does not warn of what it does not know, but raises.
        split_options(option, validate=True, warn=False)
    except (PyMongoError, TypeError, ValueError) as exc:
        text = str(exc)
        if _quotes(text, (value,)):
            text = "the driver does not take its value"
        message = f"{place_of(url)}: option {name}: {text}"
        raise ConfigurationError(message) from None
    return name.lower()


def _secrets(url: str) -> list[str]:
    """Return all in a URL that may be secret: user, password, and the values of options."""
    _, _, rest = url.partition("://")
    user = rest.rpartition("@")[0]
    values = [option.partition("=")[2] for option in re.split("[&;]", url.partition("?")[2])]
    return [user, *values]


def _quotes(text: str, secrets: list[str] | tuple[str, ...]) -> bool:
    """Return whether a text holds a part of a secret, whether that is percent-encoded or not."""
    parts = {
        part.lower()
        for secret in secrets
        for form in (secret, unquote_plus(secret))
        for part in (form, *re.split(r"[\W_]+", form))
        if len(part) > 1
    }
    return any(part in text.lower() for part in parts)
