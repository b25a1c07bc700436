"""Writes `docs/performance.md` from the results of `contest.py` and `growth.py`."""

from __future__ import annotations

import json
import sys

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final


HERE: Final = Path(__file__).parent
GROWN: Final = HERE.parents[1] / "growth.json"
PAGE: Final = HERE.parents[2] / "docs/performance.md"

PROSE: Final = HERE / "prose.md"
TABLES: Final = "<!-- tables -->"
GROWTH: Final = "<!-- growth -->"


def cell(rate: Mapping[str, float], ours: Mapping[str, float]) -> str:
    """Return what stands in one cell."""
    numbers = f"{rate['median']:,.0f} ({rate['low']:,.0f}-{rate['high']:,.0f})"
    ratio = rate["median"] / ours["median"]
    return numbers if rate is ours else f"{numbers}, {ratio:.2f} x"


def table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of a group, ours first."""
    ours = results[0]["rates"]
    lines = ["| store | " + " | ".join(ours) + " |", "|---" * (len(ours) + 1) + "|"]
    for result in results:
        cells = [cell(rate, ours[shape]) for shape, rate in result["rates"].items()]
        version = "".join(result["packages"][:1]).rpartition("=")[2].rpartition("@")[2]
        lines.append(f"| {result['name']} {version} | " + " | ".join(cells) + " |")
    return lines


def page(found: Mapping[str, Any]) -> str:
    """Return the page."""
    settings = ", ".join(f"{name} {value}" for name, value in found["settings"].items())
    lines = [f"Python {found['python']}, {found['cpus']} processors, {found['rounds']} rounds."]
    lines += [f"Settings: {settings}; UmaDB with its defaults.", ""]
    titles = {"server": "On a server", "SQLite": "On a file"}
    for group, title in titles.items():
        results = [result for result in found["results"] if result["group"] == group]
        lines += [f"## {title}", "", *table(results), ""]
    for name, reason in found["missing"].items():
        lines += [f"Not measured: {name} ({reason}).", ""]
    return PROSE.read_text(encoding="utf-8").replace(TABLES, "\n".join(lines).rstrip())


def growth(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return the tables about how cost grows."""
    lines: list[str] = []
    for title in next(iter(found.values())):
        counts = list(next(iter(found.values()))[title])
        lines += [f"**{title[0].upper()}{title[1:]}**", ""]
        lines += ["| store | " + " | ".join(f"{int(count):,}" for count in counts) + " |"]
        lines += ["|---" * (len(counts) + 1) + "|"]
        for backend, rows in found.items():
            first, *_ = rates = list(rows[title].values())
            cells = [f"{rate:,.0f} ({rate / first:.2f} x)" for rate in rates]
            lines.append(f"| {backend} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results.json"
    grown = "Not measured yet."
    if GROWN.exists():
        grown = growth(json.loads(GROWN.read_text(encoding="utf-8")))
    written = page(json.loads(source.read_text(encoding="utf-8"))).replace(GROWTH, grown)
    PAGE.write_text(written, encoding="utf-8")
