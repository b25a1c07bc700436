"""No error and no log shows a password of a URL."""
# nothing else runs in the event loop while a test looks at its files

from __future__ import annotations

import logging

import pytest

from tests.configuration.refusing import SECRET, refusal, write

from eventport.adapter import redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgres://u:{SECRET}@h/db", "postgres://u:***@h/db"),
        (f"postgres://u:{SECRET}/@:#?x@h/db", "postgres://u:***@h/db"),
        (f"postgres://u://{SECRET}@h", "postgres://u:***@h"),
        (f"postgres://:{SECRET}@h", "postgres://:***@h"),
        (f"postgres://u@corp:{SECRET}@h", "postgres://u@corp:***@h"),
        (f"postgres:/u:{SECRET}@h", "postgres:***@h"),
        (f"u:{SECRET}@h", "u:***@h"),
        (f"postgres://h/db?password={SECRET}&x=1", "postgres://h/db?password=***&x=1"),
        (f"esdb://h?tls=true&userCertKey={SECRET}", "esdb://h?tls=true&userCertKey=***"),
        (f"mongodb://h/?PWD={SECRET}", "mongodb://h/?PWD=***"),
        (f"x://h/?api_token={SECRET}&sslpassword={SECRET}", "x://h/?api_token=***&sslpassword=***"),
        ("sqlite:///orders.db", "sqlite:///orders.db"),
        ("postgres://h:5432/db?pool=2", "postgres://h:5432/db?pool=2"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    "target",
    [
        f"postgres://u:{SECRET}@h/db",
        f"postgres:/u:{SECRET}@h/db",
        f"u:{SECRET}@h",
        f"memory://u:{SECRET}@h",
        f"memory://?password={SECRET}",
        f"sqlite://u:{SECRET}@h/db",
        f"sqlite:///x.db?password={SECRET}",
        f"://u:{SECRET}@h",
    ],
)
async def test_no_error_and_no_log_tells_a_password(
    caplog: pytest.LogCaptureFixture, target: str
) -> None:
    caplog.set_level(logging.DEBUG)
    await refusal(target)
    write("eventport.toml", '[stores.other]\nurl = "memory://"\n')
    await refusal(target)
    assert SECRET not in caplog.text
