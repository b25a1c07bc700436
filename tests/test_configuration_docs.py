"""The page about configuration lists the URLs and the options of every adapter, and no others."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib

from pathlib import Path

import pytest

from eventport.adapter import Adapter


ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/configuration.md").read_text()
PLUGINS = sorted(ROOT.glob("adapters/*/src/*/plugin.py"))
PROJECTS = sorted(ROOT.glob("adapters/*/pyproject.toml"))


def documented_options(adapter: str) -> dict[str, str]:
    """Return the options in the table of the page, with their defaults."""
    return dict(re.findall(rf"^\| {adapter} \| `(\w+)` \| `(.+?)` \|", PAGE, re.MULTILINE))


def shown(default: object) -> str:
    """Return a default as the page and a URL write it."""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.parts[-4])
def test_the_page_lists_the_options_of_an_adapter(plugin: Path) -> None:
    adapter = importlib.import_module(f"{plugin.parent.name}.plugin").ADAPTER
    assert isinstance(adapter, Adapter)
    parameters = inspect.signature(adapter.open).parameters.values()
    options = {p.name: shown(p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert documented_options(plugin.parts[-4]) == options


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_the_page_shows_a_url_of_every_scheme(project: Path) -> None:
    entries = tomllib.loads(project.read_text())["project"]["entry-points"]["eventport.adapters"]
    schemes = set(re.findall(r"`([\w+]+)://", PAGE.partition("\n## Environment")[0]))
    assert set(entries) <= schemes
