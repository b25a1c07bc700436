"""The command line: run the suite without pytest, and make pages of what came of it."""

from __future__ import annotations

import time

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from eventport.adapter import redact

from eventport_conformance.clause import GROUPS, Clause, MustFail, Runs, all_clauses, applies
from eventport_conformance.harness import BACKENDS, Backend, Harness, absent_hooks
from eventport_conformance.locating import find_harness
from eventport_conformance.matrix import render_badge, render_matrix
from eventport_conformance.report import (
    ClauseResult,
    Results,
    Run,
    Subject,
    from_json,
    to_json,
)
from eventport_conformance.running import Outcome, run_clause
from eventport_conformance.spec import render_spec


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_ReportFiles = Annotated[
    list[Path], typer.Argument(help="One conformance.json, or several.", exists=True)
]


@app.command()
def run(
    store: Annotated[
        str,
        typer.Option(
            help="A URL of an empty store, in which {new} becomes a new name for each clause; "
            "or module:Harness."
        ),
    ],
    loop: Annotated[
        list[str] | None, typer.Option(help="asyncio or trio, for a URL; may be repeated.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A clause or a group, such as SES; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of all that is random.")] = 0,
    report: Annotated[Path | None, typer.Option(help="Write a conformance.json.")] = None,
) -> None:
    """Run the suite on one store. The exit code is 0 only if the store is conformant."""
    console = Console()
    try:
        _check_arguments(only or [], report)
        harness = find_harness(store, _loops(loop or ["asyncio"]))
    except (ImportError, TypeError, ValueError) as exc:
        # This is about the command line: there is no store yet about which anything could be said.
        console.print(f"{type(exc).__name__}: {exc}", style="red", markup=False)
        raise typer.Exit(2) from exc
    started = time.monotonic()
    results = Results(Subject.of(harness))
    failures: list[Outcome] = []
    planned = list(_plan(harness, only or []))
    view = _View([clause for clause, _, _ in planned])
    with Live(view.render(), console=console, refresh_per_second=8) as live:
        for clause, backend, must_fail in planned:
            outcome = run_clause(harness, clause, backend, seed=seed, must_fail=must_fail)
            result = ClauseResult(
                clause.id, backend, outcome.result, outcome.reason, outcome.seconds
            )
            results.add(result, outcome.adapter, outcome.server, outcome.limitations)
            view.add(outcome)
            live.update(view.render())
            if outcome.result in {"failed", "not-run"}:
                failures.append(outcome)
            if outcome.result == "not-run":
                break  # a store that cannot be opened now would only be waited for again
    for outcome in failures:
        console.print(f"\n{outcome.details}", markup=False, highlight=False)
        alone = f"eventport-conformance run --store '{redact(store)}' --only {outcome.clause.id}"
        how = f"--loop {outcome.backend} --seed {seed}"
        console.print(f"  Alone:     {alone} {how}", markup=False, highlight=False)
    final = results.report()
    if report is not None:
        report.write_text(to_json([final], seed, time.monotonic() - started), encoding="utf-8")
    color = "green" if final.verdict == "conformant" else "red"
    console.print(f"\n{final.subject.name}: {final.summary()}, seed {seed}", style=color)
    raise typer.Exit(0 if final.verdict == "conformant" else 1)


@app.command()
def spec() -> None:
    """Print the specification: every clause, in Markdown."""
    typer.echo(render_spec(), nl=False)


@app.command()
def matrix(files: _ReportFiles) -> None:
    """Print which store passes which clauses, in Markdown."""
    typer.echo(render_matrix(_runs(files)), nl=False)


@app.command()
def badge(files: _ReportFiles) -> None:
    """Print a badge, in the form that shields.io reads."""
    typer.echo(render_badge(_runs(files)), nl=False)


def main() -> None:
    """Run the command line."""
    app()


def _runs(files: Sequence[Path]) -> list[Run]:
    try:
        return [from_json(file) for file in files]
    except (KeyError, TypeError, ValueError) as exc:
        typer.echo(f"this is no conformance.json: {exc}", err=True)
        raise typer.Exit(2) from exc


def _check_arguments(only: Sequence[str], report: Path | None) -> None:
    known = {one.id for one in all_clauses()} | set(GROUPS)
    for name in only:
        if name not in known:
            message = f"{name!r} is neither a clause, such as SES-01, nor a group: {set(GROUPS)}"
            raise ValueError(message)
    if report is not None and not report.absolute().parent.is_dir():
        message = f"the directory of {report} does not exist"
        raise ValueError(message)


def _loops(names: Sequence[str]) -> tuple[Backend, ...]:
    for name in names:
        if name not in BACKENDS:
            message = f"{name!r} is no event loop: choose from {', '.join(BACKENDS)}"
            raise ValueError(message)
    return tuple(cast("Sequence[Backend]", names))


def _plan(
    harness: type[Harness], only: Sequence[str]
) -> Iterator[tuple[Clause, Backend, MustFail | None]]:
    """Give what has to be run, in the order of the specification."""
    answers, absent = harness.capabilities.answers(), absent_hooks(harness)
    for clause in all_clauses():
        if only and not {clause.id, clause.group} & set(only):
            continue
        meaning = applies(clause, answers, absent)
        if isinstance(meaning, Runs | MustFail):
            must_fail = meaning if isinstance(meaning, MustFail) else None
            for backend in harness.backends:
                yield clause, backend, must_fail


class _View:
    """A table of groups that fills while the clauses run."""

    def __init__(self, clauses: Sequence[Clause]) -> None:
        self._due = {group: 0 for group in GROUPS if any(one.group == group for one in clauses)}
        for clause in clauses:
            self._due[clause.group] += 1
        self._held = dict.fromkeys(self._due, 0)
        self._other: dict[str, list[str]] = {group: [] for group in self._due}
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        )
        self._task = self._progress.add_task("clauses", total=len(clauses))

    def add(self, outcome: Outcome) -> None:
        clause = outcome.clause
        if outcome.result == "held":
            self._held[clause.group] += 1
        else:
            self._other[clause.group].append(f"{clause.id} {outcome.result}")
        self._progress.advance(self._task)

    def render(self) -> Group:
        table = Table(box=None)
        for title in ("group", "held", "of", ""):
            table.add_column(title, justify="right" if title in {"held", "of"} else "left")
        for group, due in self._due.items():
            other = ", ".join(self._other[group])
            table.add_row(GROUPS[group], str(self._held[group]), str(due), f"[red]{other}[/red]")
        return Group(table, self._progress)
