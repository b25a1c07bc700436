"""`connect`: from a URL, a name or nothing to a store, and a clear error for all that is wrong."""
# ruff: noqa: ASYNC240  # nothing else runs in the event loop while a test looks at its files

from __future__ import annotations

import json
import logging
import sqlite3
import stat
import tomllib
import traceback

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

import pytest

from msgspec import Meta

from eventport import (
    ConfigurationError,
    EventportError,
    EventStore,
    IncompatibleStoreError,
    NewEvent,
    NotSupportedError,
    RecordedEvent,
    connect,
)
from eventport._config.plugins import ENTRY_POINT_GROUP, EXTRAS
from eventport.adapter import Adapter, checks_options, redact
from eventport.protocols import AfterCommitHook

from eventport_memory import MemoryEventStore
from eventport_sqlite import SQLiteEventStore


ADAPTERS = Path(__file__).parents[1] / "adapters"

SECRET = "hunter2"

THIRD_PARTY = """
from typing import Literal
from eventport.adapter import Adapter
from eventport_memory import MemoryEventStore

last = {}

async def open_store(url: str, *, size: int = 1, fast: bool = False, name: str | None = None,
                     mode: Literal["a", "b"] = "a", ratio: float = 0.5, anything=None):
    last.clear()
    last.update(url=url, size=size, fast=fast, name=name, mode=mode, ratio=ratio, anything=anything)
    return MemoryEventStore()

ADAPTER = Adapter(open=open_store)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # all that aiosqlite can do


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a directory of its own, and no default store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENTPORT_URL", raising=False)


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """Install an adapter of somebody else for ``other://``, and some that are broken."""
    site = tmp_path / "site"
    info = site / "eventport_other-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: eventport-other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[eventport.adapters]\n"
        "other = eventport_other:ADAPTER\n"
        "missing = eventport_not_there:open_store\n"
        "attribute = eventport_other:nothing\n"
        "broken = eventport_broken:open_store\n"
        "plain = eventport_other:open_store\n"
        "unclear = eventport_unclear:ADAPTER\n"
    )
    (site / "eventport_other.py").write_text(THIRD_PARTY)
    (site / "eventport_broken.py").write_text("raise RuntimeError('no such CPU')\n")
    (site / "eventport_unclear.py").write_text(
        "from __future__ import annotations\n"
        "from eventport.adapter import Adapter\n"
        "async def open_store(url: str, *, n: Nothing): ...\n"
        "ADAPTER = Adapter(open=open_store)\n"
    )
    monkeypatch.syspath_prepend(site)

    def last() -> dict[str, Any]:
        import eventport_other  # type: ignore[import-not-found]  # noqa: PLC0415

        called: dict[str, Any] = eventport_other.last
        return called

    return last


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


# Schemes and adapters.


def registered() -> dict[str, str]:
    """Return which folder of `adapters` registers which schemes, as their projects say."""
    return {
        scheme: file.parent.name
        for file in ADAPTERS.glob("*/pyproject.toml")
        for scheme in tomllib.loads(file.read_text())["project"]["entry-points"][ENTRY_POINT_GROUP]
    }


def test_the_hint_what_to_install_names_what_the_adapters_register() -> None:
    assert dict(EXTRAS) == registered()
    project = tomllib.loads((ADAPTERS.parent / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS.values()) == set(project["optional-dependencies"]) - {"cli"}


@pytest.mark.parametrize(("scheme", "extra"), EXTRAS.items())
async def test_a_scheme_without_its_adapter_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, scheme: str, extra: str
) -> None:
    monkeypatch.setattr("eventport._config.plugins.entry_points", lambda **_: ())
    assert await refusal(f"{scheme.upper()}://u:{SECRET}@h") == (
        f"nothing is installed for {scheme}:// (installed: none); "
        f"python -m pip install 'eventport[{extra}]'"
    )


async def test_an_unknown_scheme_lists_what_is_installed_and_what_is_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = await refusal(f"sqllite://u:{SECRET}@h")
    assert message.startswith("nothing is installed for sqllite:// (installed: ")
    assert "memory, " in message
    assert message.endswith("did you mean 'sqlite'?")
    monkeypatch.setattr("eventport._config.plugins.entry_points", lambda **_: ())
    message = await refusal("mongo://h")
    assert message.endswith("did you mean 'mongodb'?; python -m pip install 'eventport[mongodb]'")


async def test_an_adapter_of_somebody_else_is_found(
    third_party: Callable[[], dict[str, Any]],
) -> None:
    async with connect("OTHER://host/x") as store:
        assert isinstance(store, MemoryEventStore)
    assert third_party()["url"] == "OTHER://host/x"
    assert "other" in await refusal("nope://x")  # among the installed ones


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize(
    ("scheme", "reason"),
    [
        ("missing", "(eventport_not_there:open_store) cannot be imported: No module named"),
        ("attribute", "(eventport_other:nothing) cannot be imported: "),
        ("plain", "(eventport_other:open_store) must be an Adapter, not function"),
        ("broken", "(eventport_broken:open_store) cannot be imported: no such CPU"),
        ("unclear", "has an annotation that cannot be resolved: name 'Nothing' is not defined"),
    ],
)
async def test_an_adapter_that_is_broken_is_named(scheme: str, reason: str) -> None:
    message = await refusal(f"{scheme}://u:{SECRET}@h")
    assert message.startswith(f"the adapter for {scheme}:// ")
    assert reason in message


# Options.


async def test_options_of_a_url_are_converted_and_the_rest_is_left_as_it_was(
    third_party: Callable[[], dict[str, Any]],
) -> None:
    async with connect("other://h/x?a=%2F+1&size=3&fast=true&b&name=a%20b+c&mode=b&ratio=2"):
        pass
    assert third_party() == {
        "url": "other://h/x?a=%2F+1&b",
        "size": 3,
        "fast": True,
        "name": "a b c",
        "mode": "b",
        "ratio": 2.0,
        "anything": None,
    }


async def test_options_of_a_file_and_of_the_call_are_converted(
    third_party: Callable[[], dict[str, Any]],
) -> None:
    write(
        "eventport.toml",
        '[stores.o]\nurl = "other://h?size=1&name=url"\nsize = "2"\nratio = 1\nname = "file"\n',
    )
    thing = object()
    async with connect("o", size="3", anything=thing):
        pass
    called = third_party()
    # What is closest to the call wins.
    assert (called["size"], called["name"], called["ratio"]) == (3, "file", 1.0)
    assert called["anything"] is thing


@pytest.mark.usefixtures("third_party")
async def test_an_unknown_option_gets_the_closest_one() -> None:
    expected = (
        "other stores have no option 'siez'; did you mean 'size'?; "
        "they have: anything, fast, mode, name, ratio, size"
    )
    write("eventport.toml", '[stores.o]\nurl = "other://h"\nsiez = 2\n')
    assert await refusal("o") == expected
    assert await refusal("other://h", siez=SECRET) == expected
    assert "did you mean 'synchronous'?" in await refusal("sqlite:///a.db?synchronus=full")
    assert "did you mean 'busy_timeout'?" in await refusal("sqlite:///a.db", busytimeout=1)
    assert not Path("a.db").exists()


async def test_an_option_for_a_store_that_has_none_says_so() -> None:
    assert await refusal("memory://", size=1) == (
        "memory stores have no option 'size'; they have: none"
    )


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": "x"}, "option size='x': Expected `int`, got `str`"),
        ({"size": 1.5}, "option size=1.5: Expected `int`, got `float`"),
        ({"fast": "perhaps"}, "option fast='perhaps': Expected `bool`, got `str`"),
        ({"mode": "c"}, "option mode='c': Invalid enum value 'c'; it takes 'a' or 'b'"),
        ({"size": f"postgres://u:{SECRET}@h"}, "size='postgres://u:***@h'"),
    ],
)
async def test_an_option_of_the_wrong_type_is_named(options: dict[str, Any], reason: str) -> None:
    assert reason in await refusal("other://h", **options)


@pytest.mark.parametrize(
    "url", ["sqlite:///a.db?busy_timeout=soon", "sqlite:///a.db?synchronous=off"]
)
async def test_sqlite_refuses_options_that_mean_nothing(url: str) -> None:
    assert (await refusal(url)).startswith("option ")
    assert not Path("a.db").exists()


# Secrets.


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


# SQLite files.


@pytest.mark.parametrize("url", ["sqlite:///relative.db", "sqlite:///{}/absolute.db"])
async def test_a_url_names_a_file_as_it_does_for_sqlalchemy(tmp_path: Path, url: str) -> None:
    url = url.format(tmp_path)
    async with connect(url) as store:
        await store.append("s", [NewEvent("T", 1)])
    assert [path.name for path in tmp_path.iterdir()] == [url.rpartition("/")[2]]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
async def test_a_url_without_a_file_is_a_database_in_memory(tmp_path: Path, url: str) -> None:
    async with connect(url) as store:
        await store.append("s", [NewEvent("T", 1)])
        assert (await store.read("s")).version == 1
    assert list(tmp_path.iterdir()) == []


async def test_a_url_with_a_host_is_refused() -> None:
    assert await refusal("sqlite://orders.db") == (
        "sqlite://orders.db names a host: a file is written sqlite:///NAME"
    )


def make_database(name: str, *statements: str) -> bytes:
    db = sqlite3.connect(name)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()
    return Path(name).read_bytes()


@pytest.mark.parametrize("content", [b"not a database", b"\0" * 4096, b"SQLite format 3\0garbage"])
async def test_a_file_that_is_no_database_is_not_touched(content: bytes) -> None:
    Path("s.db").write_bytes(content)
    assert "s.db" in await refusal("sqlite:///s.db")
    assert Path("s.db").read_bytes() == content
    assert [path.name for path in Path().iterdir()] == ["s.db"]


async def test_a_database_of_another_program_is_not_touched() -> None:
    before = make_database(
        "s.db", "CREATE TABLE customers (name)", "INSERT INTO customers VALUES (1)"
    )
    message = await refusal("sqlite:///s.db")
    assert "s.db belongs to another program (it holds customers)" in message
    assert Path("s.db").read_bytes() == before
    assert [path.name for path in Path().iterdir()] == ["s.db"]


async def test_a_database_of_a_newer_version_is_not_touched() -> None:
    async with connect("sqlite:///s.db") as store:
        await store.append("s", [NewEvent("T", 1)])
    before = make_database("s.db", "UPDATE eventport_schema SET version = 99")
    with pytest.raises(IncompatibleStoreError, match="version 99"):
        await connect("sqlite:///s.db").__aenter__()
    assert Path("s.db").read_bytes() == before
    assert [path.name for path in Path().iterdir()] == ["s.db"]


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert await refusal(f"sqlite:///{tmp_path}") == (
        f"{tmp_path} is a directory: name a file in it"
    )


async def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    assert await refusal("sqlite:///nope/s.db") == (
        f"the directory of nope/s.db does not exist: create {tmp_path / 'nope'}"
    )
    assert list(tmp_path.iterdir()) == []


async def test_a_read_only_file_is_refused() -> None:
    async with connect("sqlite:///s.db"):
        pass
    file = Path("s.db")
    before = file.read_bytes()
    file.chmod(stat.S_IRUSR)
    assert await refusal("sqlite:///s.db") == (
        "s.db is read-only: an event store needs to write to it"
    )
    assert file.read_bytes() == before


# Hooks, and the end.


async def test_hooks_are_registered(third_party: Callable[[], dict[str, Any]]) -> None:
    seen: list[str] = []

    async def hook(events: Sequence[RecordedEvent]) -> None:
        seen.extend(event.type for event in events)

    async with connect("memory://", after_commit=[hook]) as store:
        await store.append("s", [NewEvent("A", 1)])
    assert seen == ["A"]


async def test_hooks_need_a_store_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []

    class Foreign:
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            closed.append(True)

    async def open_store(url: str) -> Any:
        return Foreign()

    class Entry:
        name = "foreign"
        value = "x"

        def load(self) -> Any:
            return Adapter(open=open_store)

    monkeypatch.setattr("eventport._config.plugins.entry_points", lambda **_: [Entry()])

    async def hook(events: Sequence[RecordedEvent]) -> None:
        raise AssertionError

    with pytest.raises(NotSupportedError, match="Foreign has no after-commit hooks"):
        await connect("foreign://", after_commit=[hook]).__aenter__()
    assert closed == [True]
    async with connect("foreign://") as store:
        assert isinstance(store, Foreign)


class Foreign:
    """A store by hand, which has hooks of its own."""

    def __init__(self) -> None:
        self.hooks: list[object] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def after_commit(self, hook: AfterCommitHook, /) -> AfterCommitHook:
        self.hooks.append(hook)
        return hook


async def test_hooks_are_registered_with_a_store_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_store(url: str) -> Any:
        return Foreign()

    entry = SimpleNamespace(name="foreign", value="x", load=lambda: Adapter(open=open_store))
    monkeypatch.setattr("eventport._config.plugins.entry_points", lambda **_: [entry])

    async def hook(events: Sequence[RecordedEvent]) -> None:
        raise AssertionError

    async with connect("foreign://", after_commit=[hook]) as store:
        assert isinstance(store, Foreign)
        assert store.hooks == [hook]


@pytest.mark.parametrize(("pause", "reason"), [(0, "> 0.0"), (61.0, "<= 60"), ("1", "got `str`")])
async def test_bounds_hold_for_those_who_open_a_store_themselves(pause: Any, reason: str) -> None:
    @checks_options
    async def open_store(
        url: str, *, pause: Annotated[float, Meta(gt=0, le=60)] = 1, other: object = None
    ) -> float:
        return pause

    assert await open_store("x", pause=60, other=pause) == 60
    with pytest.raises(ConfigurationError, match=f"option pause={pause!r}: .*{reason}"):
        await open_store("x", pause=pause)


async def test_the_store_is_closed_when_the_block_ends() -> None:
    kept: EventStore
    async with connect("sqlite:///s.db") as kept:
        pass
    with pytest.raises(EventportError, match="has been closed"):
        await kept.read("s")


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
