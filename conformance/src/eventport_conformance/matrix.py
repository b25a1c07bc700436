"""The results of several stores on one page, and as a badge."""

from __future__ import annotations

import json

from collections.abc import Sequence
from typing import Final

from eventport_conformance.clause import GROUPS, Answered, all_clauses
from eventport_conformance.report import Run, StoreReport


_INTRODUCTION: Final = """\
# Conformance

Which store passes which clauses of the [specification](spec.md). A cell says how many clauses of a
group the store passes, of those that apply; a clause counts if it passes on every event loop that
the store runs on. The small numbers lead to the reasons why some clauses do not apply: what a store
cannot do, it has to refuse, and that is among the clauses counted.

The page is made from the report of a run with `eventport-conformance matrix`.
"""


def render_matrix(runs: Sequence[Run]) -> str:
    """Return the page in Markdown."""
    notes: dict[str, int] = {}
    reports = [report for run in runs for report in run.stores]
    of = [run for run in runs for _ in run.stores]
    names = [report.subject.name for report in reports]
    rows = [
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        f"| **verdict** | {' | '.join(f'**{report.verdict}**' for report in reports)} |",
        f"| adapter | {' | '.join(report.adapter or '-' for report in reports)} |",
        f"| server | {' | '.join(report.server or '-' for report in reports)} |",
        f"| event loops | {' | '.join(', '.join(one.subject.backends) for one in reports)} |",
        f"| suite | {' | '.join(run.suite for run in of)} |",
        f"| core | {' | '.join(run.core for run in of)} |",
        f"| Python | {' | '.join(run.python for run in of)} |",
        f"| seed | {' | '.join(str(run.seed) for run in of)} |",
    ]
    for group, title in GROUPS.items():
        cells = [_cell(report, group, notes) for report in reports]
        rows.append(f"| {title} | {' | '.join(cells)} |")
    footnotes = [f"{number}. {text}" for text, number in notes.items()]
    return "\n".join([_INTRODUCTION, *rows, "", *footnotes]) + "\n"


def render_badge(runs: Sequence[Run]) -> str:
    """Return a badge in the form that shields.io reads from an address."""
    reports = [report for run in runs for report in run.stores]
    good = sum(report.verdict == "conformant" for report in reports)
    badge = {
        "schemaVersion": 1,
        "label": "eventport",
        "message": f"{good} of {len(reports)} stores conformant",
        "color": "brightgreen" if good == len(reports) > 0 else "red",
    }
    return json.dumps(badge, indent=1) + "\n"


def _cell(report: StoreReport, group: str, notes: dict[str, int]) -> str:
    ids = [one.id for one in all_clauses() if one.group == group]
    meanings = {id_: meaning for id_, meaning in report.subject.applying().items() if id_ in ids}
    due = [id_ for id_, meaning in meanings.items() if not isinstance(meaning, Answered)]
    missing = {one.partition("[")[0] for one in report.missing}
    reasons = {
        f"{report.subject.name}: {meaning.reason}"
        for meaning in meanings.values()
        if isinstance(meaning, Answered)
    }
    numbers = sorted(notes.setdefault(reason, len(notes) + 1) for reason in sorted(reasons))
    marks = f"<sup>{', '.join(map(str, numbers))}</sup>" if numbers else ""
    held = sum(id_ not in missing for id_ in due)
    return (f"{held}/{len(due)}" if due else "-") + marks
