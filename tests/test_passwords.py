"""Proves that no part of a password is told, whatever is wrong with a URL, on any backend."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eventport import ConfigurationError, EventportError, connect
from eventport.adapter import check_url, explain, redact


SCHEMES = ("postgres", "mongodb", "esdb", "kurrentdb", "sqlite", "memory", "other")
LETTERS = "QXZJqxzj"
PLACES = (
    "{scheme}://app:{password}@127.0.0.1:1/db",
    "{scheme}://app:{password}@127.0.0.1:1",
    "{scheme}://:{password}@127.0.0.1:1/db?tls=false",
    "{scheme}:/app:{password}@127.0.0.1:1/db",
    "app:{password}@127.0.0.1:1/db",
    "{scheme}://127.0.0.1:1/db?password={password}",
    "{scheme}://127.0.0.1:1/db?authMechanismProperties=AWS_SESSION_TOKEN:{password}",
    "{scheme}://127.0.0.1:1/db?authMechanismProperties=AWS_SESSION_TOKEN:{password},X:{password}",
)
PASSWORDS = st.text(alphabet=LETTERS + "777" + "/?#@:[]%&=+ ,;\\'\"\n", min_size=3, max_size=14)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pieces(password: str) -> set[str]:
    """Give the parts of a password that no message has by chance."""
    found = {password[at : at + 3] for at in range(len(password) - 2)}
    return {piece for piece in found if sum(one in LETTERS for one in piece) > 1}


def told(text: str, password: str) -> set[str]:
    return {piece for piece in pieces(password) if piece in text}


async def everything_about(url: str, caplog: pytest.LogCaptureFixture, **options: Any) -> str:
    """Open a store in vain, and return all that can be read about it."""
    caplog.clear()
    with pytest.raises(EventportError) as caught:
        async with connect(url, **options) as store:
            return f"{store!r} {caplog.text}"
    shown = "".join(traceback.format_exception(caught.value, chain=True))
    # The lines of the source code in it are those of this test, too.
    lines = [line for line in shown.splitlines() if not line.startswith("    ")]
    return f"{lines} {caught.value!r} {redact(url)} {caplog.text}"


async def check(url: str, password: str, caplog: pytest.LogCaptureFixture) -> None:
    slow = url.partition("://")[0] in {"mongodb", "esdb", "kurrentdb", "postgres"}
    text = await everything_about(url, caplog, **({"timeout": 0.05} if slow else {}))
    assert not told(text, password), (url, text)


@pytest.mark.parametrize("scheme", SCHEMES)
# PyMongo leaves a socket behind now and then when it is given no time to connect.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(place=st.sampled_from(PLACES), password=PASSWORDS)
@example(place=PLACES[0], password="QXzj7/x")
@example(place=PLACES[0], password="QXzj7#x")
@example(place=PLACES[0], password="QXzj7?x")
@example(place=PLACES[0], password="777/QXZJ")
@example(place=PLACES[0], password="QXZ@JQX/ZJQ")
@example(place=PLACES[0], password="[QXZJ]")
@example(place=PLACES[6], password="QXZJQ")
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_no_url_tells_a_part_of_its_password(
    caplog: pytest.LogCaptureFixture, scheme: str, place: str, password: str
) -> None:
    caplog.set_level(logging.DEBUG)
    if "={password}" in place or ":{password},X" in place or place.endswith("TOKEN:{password}"):
        # Nobody can know that what comes after an & is not an option of its own.
        password = quote(password, safe="/?:@+,; '\"[]\\\n")
    await check(place.format(scheme=scheme, password=password), password, caplog)


@given(scheme=st.sampled_from(SCHEMES), place=st.sampled_from(PLACES[:5]), password=PASSWORDS)
def test_what_is_said_of_a_url_tells_no_part_of_its_password(
    scheme: str, place: str, password: str
) -> None:
    url = place.format(scheme=scheme, password=password)
    assert not told(redact(url), password)
    for piece in pieces(password):
        assert explain(ValueError(f"invalid literal for int(): {piece!r}"), url) == "ValueError"
    said = ""
    try:
        check_url(url)
    except ConfigurationError as exc:
        said = f"{exc} {exc!r}"
    assert not told(said, password)


@pytest.mark.parametrize("scheme", ["postgres", "mongodb", "esdb"])
@pytest.mark.parametrize(
    "password", ["Hunter2/x", "Hunter2#x", "Hunter2?x", "1234/x", "[Hunter2", "Hunt@er2"]
)
async def test_a_raw_password_is_asked_to_be_percent_encoded(scheme: str, password: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encode") as caught:
        async with connect(f"{scheme}://app:{password}@host/db"):
            pass
    assert str(caught.value).startswith(f"the {scheme}:// URL has ")
    assert "host/db" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:p%2Fw@h1:5432,h2:5433/db?host=/tmp",
        "postgresql://postgres:@/postgres?host=/tmp/x@y",
        "postgres://u:p:word@[::1]:5432/db",
        "mongodb+srv://u:p@h.example/db?replicaSet=rs0",
        "esdb+discover://admin:changeit@h:2113?tls=false",
        "sqlite:////home/me@work/orders.db",
        "memory://",
        "sqlite:///a:b.db",
    ],
)
def test_urls_that_are_right_stay_as_they_are(url: str) -> None:
    if "x@y" in url:
        with pytest.raises(ConfigurationError, match="@ after its host"):
            check_url(url)
    else:
        assert check_url(f" {url}\r\n") == url


async def test_a_url_without_its_host_is_not_shown() -> None:
    url = "postgres://app:Hunter2"
    assert redact(url) == "postgres://app:***"
    with pytest.raises(ConfigurationError, match="port that is not a number"):
        check_url(url)


@pytest.mark.parametrize("control", ["\n", "\t", "\0", "\x7f", "\x9b"])
def test_control_characters_are_refused(control: str) -> None:
    with pytest.raises(ConfigurationError, match="control character"):
        check_url(f"postgres://u:p@h/d{control}b")


def test_errors_that_tell_nothing_are_shown() -> None:
    url = "postgres://u:Hunter2@h/db?sslpassword=Abcdef"
    assert explain(ValueError("no such mode"), url) == "no such mode"
    for text in ("cannot use 'unt'", "cannot use 'bcd'"):
        assert explain(ValueError(text), url) == "ValueError"


def test_the_command_line_tells_no_password(tmp_path: Path) -> None:
    for url in ("postgres://app:Hunter2/x@host/db", "mongodb://app:Hunter2/x@host/db"):
        done = subprocess.run(
            [Path(sys.executable).with_name("eventport"), "export", "--store", url],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "percent-encode" in done.stderr
        assert not {"Hun", "nter", "er2"} & {
            done.stderr[at : at + 3] for at in range(len(done.stderr))
        }
