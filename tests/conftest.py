"""What the tests of the core share: they run on asyncio and on trio, and never hang."""

from __future__ import annotations

import signal

from collections.abc import Generator
from types import FrameType

import pytest

from hypothesis import HealthCheck, settings

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
