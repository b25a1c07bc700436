"""`connect`: adapters by scheme, their options, hooks, and the end."""
# ruff: noqa: ASYNC240  # nothing else runs in the event loop while a test looks at its files

from __future__ import annotations

import tomllib

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Self

import pytest

from msgspec import Meta
from tests.configuration.refusing import SECRET, refusal, write

from eventport import (
    ConfigurationError,
    EventportError,
    EventStore,
    NewEvent,
    NotSupportedError,
    RecordedEvent,
    connect,
)
from eventport._config.plugins import ENTRY_POINT_GROUP, EXTRAS
from eventport.adapter import Adapter, checks_options
from eventport.callbacks import AfterCommitHook

from eventport_memory import MemoryEventStore


ADAPTERS = Path(__file__).parents[2] / "adapters"


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
    assert set(EXTRAS.values()) == set(project["optional-dependencies"]) - {
        "cli",
        "otel",
        "parquet",
        "zstd",
    }


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
