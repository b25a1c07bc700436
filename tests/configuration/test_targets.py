"""`connect`: where the URL of a store comes from, and what may be in it."""
# ruff: noqa: ASYNC240  # nothing else runs in the event loop while a test looks at its files

from __future__ import annotations

import json

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.configuration.refusing import SECRET, refusal, write

from eventport import (
    ConfigurationError,
    NewEvent,
    connect,
)

from eventport_memory import MemoryEventStore
from eventport_sqlite import SQLiteEventStore


# Where the URL comes from.


async def test_a_url_names_a_store() -> None:
    async with connect("memory://") as store:
        assert isinstance(store, MemoryEventStore)


async def test_a_name_is_looked_up_in_eventport_toml() -> None:
    write("eventport.toml", '[stores.orders]\nurl = "sqlite:///orders.db"\n')
    async with connect("orders") as store:
        assert repr(store) == "<SQLiteEventStore: orders.db>"


async def test_a_name_is_looked_up_in_pyproject_toml() -> None:
    write("pyproject.toml", '[tool.eventport.stores.orders]\nurl = "sqlite:///orders.db"\n')
    async with connect("orders") as store:
        assert isinstance(store, SQLiteEventStore)


async def test_eventport_toml_comes_before_pyproject_toml() -> None:
    write("pyproject.toml", '[tool.eventport.stores.orders]\nurl = "sqlite:///wrong.db"\n')
    write("eventport.toml", '[stores.orders]\nurl = "memory://"\n')
    async with connect("orders") as store:
        assert isinstance(store, MemoryEventStore)


async def test_another_file_can_be_named(tmp_path: Path) -> None:
    write("eventport.toml", '[stores.default]\nurl = "sqlite:///wrong.db"\n')
    (tmp_path / "conf").mkdir()
    write("conf/mine.toml", '[stores.default]\nurl = "memory://"\n')
    write("conf/pyproject.toml", '[tool.eventport.stores.default]\nurl = "memory://"\n')
    for file in (Path("conf/mine.toml"), "conf/pyproject.toml"):
        async with connect(config=file) as store:
            assert isinstance(store, MemoryEventStore)
    assert "no configuration file conf/nope.toml" in await refusal("x", config="conf/nope.toml")


async def test_a_pyproject_toml_that_was_named_is_the_one_that_lacks_the_store() -> None:
    write("pyproject.toml", "[tool.other]\n")
    assert await refusal("a", config="pyproject.toml") == (
        "no store named 'a' in pyproject.toml; it has: none"
    )


async def test_without_a_name_the_environment_decides_and_then_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(
        "eventport.toml",
        '[stores.default]\nurl = "sqlite:///d.db"\n[stores.other]\nurl = "sqlite:///o.db"\n',
    )
    monkeypatch.setenv("EVENTPORT_URL", "memory://")
    async with connect() as store:
        assert isinstance(store, MemoryEventStore)
    async with connect(config="eventport.toml") as store:
        assert repr(store) == "<SQLiteEventStore: d.db>"  # a file that is named is meant
    monkeypatch.setenv("EVENTPORT_URL", "other")
    async with connect() as store:
        assert repr(store) == "<SQLiteEventStore: o.db>"
    monkeypatch.setenv("EVENTPORT_URL", "")
    async with connect() as store:
        assert repr(store) == "<SQLiteEventStore: d.db>"


async def test_without_anything_it_says_what_to_write(tmp_path: Path) -> None:
    write("pyproject.toml", "[tool.other]\n")
    message = await refusal()
    assert message.startswith("no store named 'default': there is neither eventport.toml nor a ")
    assert str(tmp_path) in message
    assert "EVENTPORT_URL" in message


async def test_a_name_that_is_not_in_the_file_gets_the_closest_one() -> None:
    write("eventport.toml", '[stores.orders]\nurl = "memory://"\n[stores.carts]\nurl = "memory://"')
    assert await refusal("order") == (
        "no store named 'order' in eventport.toml; did you mean 'orders'?; it has: carts, orders"
    )
    assert await refusal("zzz") == "no store named 'zzz' in eventport.toml; it has: carts, orders"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[stores.a]\n", r"\[stores.a\] needs a url, such as"),
        ("[stores]\na = 7\n", r"\[stores.a\] needs a url"),
        ("[stores.a]\nurl = 7\n", r"\[stores.a\] needs a url"),
        (f'[stores.a]\nurl = "a:{SECRET}@b"\n', r"'a:\*\*\*@b' is not a URL"),
        ("stores = 7\n", "stores must be a table"),
        (f'stores = "x:{SECRET}@y"\n', "stores must be a table"),
        ("[[stores]]\n", "stores must be a table"),
        ("", "no store named 'a' in eventport.toml; it has: none"),
        ("[stores.a\n", "eventport.toml cannot be read: .*line 1"),
    ],
)
async def test_a_file_that_is_wrong_is_named(text: str, reason: str) -> None:
    write("eventport.toml", text)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        await connect("a").__aenter__()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tool = 7\n", "tool must be a table"),
        ("[tool]\neventport = 7\n", "eventport must be a table"),
        ("[tool.eventport]\nstores = 7\n", "stores must be a table"),
    ],
)
async def test_a_wrong_pyproject_toml_is_named(text: str, reason: str) -> None:
    write("pyproject.toml", text)
    assert await refusal("a") == f"pyproject.toml: {reason}, as [stores.orders] is"


async def test_a_file_that_is_not_text_is_named() -> None:
    Path("eventport.toml").write_bytes(b"\xff\xfe")
    assert "eventport.toml cannot be read" in await refusal("a")


@pytest.mark.parametrize("target", [7, b"postgres://u:hunter2@h", ["memory://"], Path("orders")])
async def test_a_target_that_is_not_text_is_refused(target: Any) -> None:
    message = await refusal(target)
    assert message.endswith(f"not {type(target).__name__}")


# Variables.


@pytest.mark.parametrize("password", ["plain", "@/:#%?&=+ ß", "%41", "${X}", "a@b:c/d"])
async def test_a_password_from_a_variable_may_hold_any_character(
    third_party: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("WHO", "me@home")
    monkeypatch.setenv("PGPASSWORD", password)
    monkeypatch.setenv("HOST", "db.example:5432")
    monkeypatch.setenv("PATH_", "a/b")
    async with connect("other://${WHO}:${PGPASSWORD}@${HOST}/${PATH_}?x=${PGPASSWORD}&size=2"):
        pass
    url = third_party()["url"]
    parts = urlsplit(url)
    assert (parts.hostname, parts.port, parts.path) == ("db.example", 5432, "/a/b")
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == ("me@home", password)
    assert unquote(parts.query) == f"x={password}"


async def test_a_variable_may_hold_the_whole_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_URL", "sqlite:///orders.db?synchronous=normal")
    write("eventport.toml", '[stores.orders]\nurl = "${ORDERS_URL}"\n')
    for target in ("orders", "${ORDERS_URL}"):
        async with connect(target) as store:
            assert repr(store) == "<SQLiteEventStore: orders.db>"


async def test_a_variable_that_is_no_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_URL", SECRET)
    assert await refusal("${ORDERS_URL}") == (
        "'${ORDERS_URL}' is not a URL, such as sqlite:///orders.db"
    )


@pytest.mark.parametrize(
    "url",
    ["postgres://me:${NOPE}@h/db", "postgres://${NOPE}@h", "sqlite:///x?a=${NOPE}", "${NOPE}"],
)
async def test_a_missing_variable_is_named(url: str) -> None:
    assert "the environment variable NOPE is not set" in await refusal(url)
    write("eventport.toml", f'[stores.a]\nurl = "{url}"\n')
    assert "the environment variable NOPE is not set" in await refusal("a")


async def test_a_missing_variable_does_not_give_the_others_away() -> None:
    message = await refusal(f"postgres://u:{SECRET}@${{NOPE}}/db?password={SECRET}")
    assert message.endswith("postgres://u:***@${NOPE}/db?password=*** needs it")


@pytest.mark.parametrize("around", ["{}\n", " {}\r\n", "\t{} "])
async def test_blanks_around_a_url_are_not_meant(
    monkeypatch: pytest.MonkeyPatch, around: str
) -> None:
    url = around.format("sqlite:///s.db")
    write("eventport.toml", f"[stores.s]\nurl = {json.dumps(url)}\n")
    monkeypatch.setenv("WHOLE", url)
    for target in (url, "s", " s\n", "${WHOLE}"):
        async with connect(target) as store:
            assert repr(store) == "<SQLiteEventStore: s.db>"
    for value in (url, around.format("s")):
        monkeypatch.setenv("EVENTPORT_URL", value)
        async with connect() as store:
            assert repr(store) == "<SQLiteEventStore: s.db>"
    monkeypatch.setenv("EVENTPORT_URL", around.format(""))
    assert "no store named 'default'" in await refusal()


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\0", "\x7f"])
async def test_a_control_character_inside_a_url_is_refused(tmp_path: Path, character: str) -> None:
    message = await refusal(f"sqlite:///a{character}b.db?password={SECRET}")
    assert f"contains the control character {character!r}: remove it" in message
    assert list(tmp_path.iterdir()) == []


# What surrounds a value that comes from a file or a secret.


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " {} ", "\n{}"])
async def test_blanks_and_newlines_around_a_url_or_a_name_are_taken_away(
    monkeypatch: pytest.MonkeyPatch, around: str
) -> None:
    url = "sqlite:///a.db"
    monkeypatch.setenv("DATABASE_URL", around.format(url))
    write("eventport.toml", '[stores.o]\nurl = """' + around.format(url) + '"""\n')
    monkeypatch.setenv("EVENTPORT_URL", around.format(url))
    for target in (None, around.format(url), around.format("o"), "${DATABASE_URL}"):
        async with connect(target) as store:
            assert repr(store) == "<SQLiteEventStore: a.db>"
    assert sorted(path.name for path in Path().iterdir()) == ["a.db", "eventport.toml"]


async def test_a_secret_that_ends_in_a_newline_is_the_password_without_it(
    third_party: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", " s3cret \n")
    async with connect("other://u:${PGPASSWORD}@h/x?name=%20a%0A"):
        pass
    called = third_party()
    assert (called["url"], called["name"]) == ("other://u:%20s3cret%20@h/x", "a")


@pytest.mark.usefixtures("third_party")
async def test_control_characters_inside_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", f"{SECRET}\n{SECRET}")
    write("eventport.toml", '[stores.o]\nurl = "other://h/x\\ty"\n')
    for target in (
        "other://h/\tx",
        "or\nders",
        "o",
        "other://u:${PGPASSWORD}@h",
        "other://h?name=a%09b",
    ):
        assert "contains the control character" in await refusal(target)
    assert "contains the control character" in await refusal("other://h", name="a\x1bb")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("file", ["eventport.toml", "pyproject.toml"])
async def test_the_file_is_found_from_below_and_its_paths_start_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    table = "tool.eventport.stores" if file == "pyproject.toml" else "stores"
    url = "sqlite:///orders.db?busy_timeout=2"
    (tmp_path / file).write_text(
        f'[{table}.orders]\nurl = "{url}"\n[{table}.default]\nurl="sqlite://"'
    )
    below = tmp_path / "src" / "shop"
    below.mkdir(parents=True)
    (below / "pyproject.toml").write_text("[project]\nname = 'shop'\n")  # says nothing of stores
    monkeypatch.chdir(below)
    async with connect("orders") as store:
        await store.append("s", [NewEvent("E", 1)])
    assert (tmp_path / "orders.db").exists()
    assert list(below.iterdir()) == [below / "pyproject.toml"]
    async with connect() as store:
        assert not (await store.read("s")).exists
    monkeypatch.chdir(tmp_path)
    async with connect("orders") as store:
        assert (await store.read("s")).exists
