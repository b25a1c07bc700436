"""The library for zstd: part of Python 3.14, or the one that the extra installs."""

from __future__ import annotations

import sys

from importlib import import_module
from typing import Any, Final


zstd: Final[Any] = import_module(
    "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
)
