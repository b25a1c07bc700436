"""The pytest plugin."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("eventport conformance")
    group.addoption("--conformance-seed", type=int, default=0)
