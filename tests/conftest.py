"""What the tests of the core share: they run on asyncio and on trio, and never hang."""

from __future__ import annotations

import signal
import subprocess

from collections.abc import Generator
from pathlib import Path
from types import FrameType

import pytest

from hypothesis import HealthCheck, settings
from tests.cli_files import ENVIRONMENT, EVENTPORT, SECONDS, Command

from eventport_conformance.waiting import HANG_SECONDS


# A busy machine is slow to make examples, and slow to run them: that is no failure.
settings.register_profile("no clocks", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clocks")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test twice; a module that is about asyncio alone has its own fixture."""
    backend: str = request.param
    return backend


@pytest.fixture
def in_time() -> Generator[None]:
    """Let a lost wake-up fail instead of hang, even inside of what no cancellation reaches."""

    def fail(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError("this test hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(int(HANG_SECONDS))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def ctrl_c() -> Generator[None]:
    """Let commands be interrupted even if the tests run in the background of a shell script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def eventport(tmp_path: Path) -> Command:
    """Run the real command in a directory of its own, with a store `s.db` by default."""

    def run(
        *args: str, stdin: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [EVENTPORT, *args],
            cwd=tmp_path,
            env={**ENVIRONMENT, "EVENTPORT_URL": "sqlite:///s.db", **variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return run
