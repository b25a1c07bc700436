"""URLs of PostgreSQL."""

from __future__ import annotations

from eventport import ConfigurationError, adapter
from eventport.adapter import redact


def check_url(url: object) -> str:
    """Return a URL of ours, or raise `ConfigurationError`."""
    url = adapter.check_url(url)
    if url.partition("://")[0].lower() not in {"postgres", "postgresql"}:
        message = f"{redact(url)!r} must begin with postgres:// or postgresql://"
        raise ConfigurationError(message)
    return url
