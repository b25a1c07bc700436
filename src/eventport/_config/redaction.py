"""Hiding what is secret in a URL that is to be shown."""

from __future__ import annotations

import re

from typing import Final


# What hides too much is better than what hides too little: up to the last @, whatever is between.
_PASSWORD: Final = re.compile(r"(?s)^(?P<user>(?:[^:/?#@]+://)?[^:]*):.*@")
_SECRET: Final = re.compile(r"(?is)((?:pass|pwd|secret|token|key|credential)[^=&]*=)[^&]*")


def redact(url: str) -> str:
    """Return a URL without the secrets in it, to be shown."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\g<user>:***@", url))
