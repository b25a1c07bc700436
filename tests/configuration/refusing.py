"""Files of configuration, and the messages with which `connect` refuses them."""

from __future__ import annotations

import traceback

from pathlib import Path
from typing import Any

import pytest

from eventport import (
    EventportError,
    connect,
)


SECRET = "hunter2"


def write(name: str, text: str) -> None:
    Path(name).write_text(text, encoding="utf-8")


async def refusal(*args: Any, **options: Any) -> str:
    """Return the message with which `connect` refuses, once it is clear that it tells no secret."""
    with pytest.raises(EventportError) as caught:
        async with connect(*args, **options):
            pass
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in shown
    return str(caught.value)
