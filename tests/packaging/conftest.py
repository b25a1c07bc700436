"""What the tests of the distributions share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.building import uv


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build everything, each wheel from its sdist."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--all-packages", "--out-dir", folder)
    return folder
