"""The page of results speaks of the clauses and groups that there are now."""

from __future__ import annotations

import json
import re

from pathlib import Path

from eventport_conformance.clause import GROUPS, all_clauses


DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_not_older_than_the_suite() -> None:
    rows = re.findall(
        r"^\| ([^|*]+) \|(.+)\|$", (DOCS / "conformance.md").read_text(), re.MULTILINE
    )
    counts = {title: re.findall(r"(\d+)/(\d+)", cells) for title, cells in rows}
    for group, title in GROUPS.items():
        # The most able of these stores has to fulfil all but refusals, and what takes push or an
        # optional method of the harness: no store has all of those.
        due = [
            one
            for one in all_clauses()
            if one.group == group
            and one.unless is None
            and "push" not in one.needs
            and not one.uses
        ]
        assert max((int(of) for _, of in counts[title]), default=0) >= len(due), title
        assert all(held == of for held, of in counts[title]), title


def test_the_badge_counts_all_stores_on_the_page() -> None:
    page = (DOCS / "conformance.md").read_text()
    badge = json.loads((DOCS / "conformance-badge.json").read_text())
    verdicts = re.findall(r"\*\*(conformant|failed|partial|not-run)\*\*", page)
    assert badge["message"] == f"{len(verdicts)} of {len(verdicts)} stores conformant"
