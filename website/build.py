"""Builds the site into `site/`, without a network: pages, reference, and a check of every link.

The pages are those of `docs/` and of the repository; nothing is written twice. What the generator
warns of is an error, and so is a dead link, a missing anchor, or a public name without a reference.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from links import problems


ROOT: Final = Path(__file__).parents[1]
STAGE: Final = ROOT / "build" / "website"
PICTURES: Final = ROOT / "docs/pictures"
SOURCE: Final = "https://github.com/eventport/eventport/blob/main/"
ROOT_PAGES: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
MODULES: Final = (
    "eventport",
    "eventport.typed",
    "eventport.commands",
    "eventport.command_log",
    "eventport.context",
    "eventport.folding",
    "eventport.aggregates",
    "eventport.keys",
    "eventport.snapshots",
    "eventport.projections",
    "eventport.reactors",
    "eventport.read_models",
    "eventport.telemetry",
    "eventport.testing",
    "eventport.testing.fixtures",
    "eventport.adapter",
    "eventport_memory",
    "eventport_sqlite",
    "eventport_postgres",
    "eventport_mongodb",
    "eventport_eventstoredb",
    "eventport_conformance",
)
"""What programs, tests and adapters import; each gets a page of the reference."""


def public_names(module: str) -> list[str]:
    """Return what a module exports: its `__all__`, or else what it defines itself."""
    found = importlib.import_module(module)
    names: list[str] | None = getattr(found, "__all__", None)
    own = [
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
        if type(value).__name__ not in {"TypeVar", "ParamSpec"}
    ]
    return own if names is None else names


def place_page(source: Path, target: Path) -> None:
    """Copy a page; its links lead to pages of the site, or else to the source."""
    text = source.read_text(encoding="utf-8")
    # Every second part is a block of code, which stays as it is.
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [adapted(part, source.parent) for part in parts[::2]]
    # A block that is a file has its name as a title.
    parts[1::2] = [
        re.sub(r"^```(\w+) +(\S+)\n", r'``` { .\1 title="\2" }\n', p) for p in parts[1::2]
    ]
    target.write_text("".join(parts), encoding="utf-8")


def adapted(prose: str, folder: Path) -> str:
    """Return prose with links for the site; a list needs no blank line before it elsewhere."""

    def led(match: re.Match[str]) -> str:
        place, mark, heading = match[1].partition("#")
        if "://" in place or not place:
            return match[0]
        file = (folder / place).resolve()
        path = str(file.relative_to(ROOT))
        if file.parent == ROOT / "docs" and file.suffix == ".md":
            return f"]({file.name}{mark}{heading})"
        if file.parent == PICTURES:
            return f"]({PICTURES.name}/{file.name})"
        return f"]({ROOT_PAGES.get(path, SOURCE + path)}{mark}{heading})"

    prose = re.sub(r"\]\(([^)\s]+)\)", led, prose)
    return re.sub(r"^(?![-*|>#\s])(.+)\n(?=- )", r"\1\n\n", prose, flags=re.MULTILINE)


def place_reference(folder: Path) -> Iterator[dict[str, str]]:
    """Write a page for each public module, and return their places in the navigation."""
    folder.mkdir()
    for module in MODULES:
        blocks = [f"::: {module}.{name}" for name in public_names(module)]
        lead = (importlib.import_module(module).__doc__ or "").strip()
        text = "\n\n".join([f"# {module}", lead, *blocks])
        (folder / f"{module}.md").write_text(text + "\n", encoding="utf-8")
        yield {module: f"reference/{module}.md"}


def place_configuration(reference: list[dict[str, str]]) -> None:
    """Write the generator's configuration; pages that its navigation forgets come at its end."""
    text = (ROOT / "website/zensical.toml").read_text(encoding="utf-8")
    nav: list[dict[str, Any]] = tomllib.loads(text)["project"]["nav"]
    pages = {path.name for path in (STAGE / "docs").glob("*.md")}
    named = {
        page
        for section in nav
        for part in section.values()
        for one in part
        for page in one.values()
    }
    nav = [
        {
            title: [
                one for one in part if all(page in pages or "://" in page for page in one.values())
            ]
        }
        for section in nav
        for title, part in section.items()
    ]
    if rest := sorted(pages - named):
        nav.append({"More": [{title_of(STAGE / "docs" / page): page} for page in rest]})
    nav.append({"Reference": reference})
    text = re.sub(
        r"^nav = \[.*?^\]$", lambda _: f"nav = {toml(nav)}", text, flags=re.MULTILINE | re.DOTALL
    )
    (STAGE / "zensical.toml").write_text(text, encoding="utf-8")


def toml(value: Any) -> str:
    """Write lists, tables and texts on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{toml(key)} = {toml(one)}' for key, one in value.items())} }}"
    return json.dumps(value)


def title_of(page: Path) -> str:
    """Return the first heading of a page."""
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def main() -> None:
    """Build, check, and put the site in its place."""
    shutil.rmtree(STAGE, ignore_errors=True)
    (STAGE / "docs").mkdir(parents=True)
    for page in (ROOT / "docs").glob("*.md"):
        place_page(page, STAGE / "docs" / page.name)
    for name, target in ROOT_PAGES.items():
        place_page(ROOT / name, STAGE / "docs" / target)
    shutil.copytree(PICTURES, STAGE / "docs" / PICTURES.name)
    shutil.copy(ROOT / "website/site.css", STAGE / "docs")
    place_configuration(list(place_reference(STAGE / "docs/reference")))
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    subprocess.run(command, check=True, cwd=STAGE)
    found = list(problems(STAGE / "site"))
    for module in MODULES:
        html = (STAGE / "site/reference" / module / "index.html").read_text(encoding="utf-8")
        names = [name for name in public_names(module) if f'id="{module}.{name}"' not in html]
        found += [f"{module}.{name} has no reference" for name in names]
    if found:
        sys.exit("\n".join(found))
    shutil.rmtree(ROOT / "site", ignore_errors=True)
    shutil.copytree(STAGE / "site", ROOT / "site")


if __name__ == "__main__":
    main()
