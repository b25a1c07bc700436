"""`eventport doctor`: what an operator should know about a store, and what to do about it."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import typer

from eventport._config.connecting import connect_existing
from eventport.cli import projecting
from eventport.cli.endings import UNSOUND, ending, say
from eventport.cli.options import Checkpoints, OneObject, Projections, Store
from eventport.diagnosis import Diagnosis, Remark, diagnose


def examine_store(
    *,
    store: Store = None,
    projections: Projections = None,
    checkpoints: Checkpoints = None,
    json: OneObject = False,
) -> None:
    """Report versions, rights, limits and unsafe settings, and what to do about them.

    Nothing is written. The exit code is 3 if there is anything to do.
    """

    async def work() -> Diagnosis:
        async with connect_existing(store) as source:
            found = await diagnose(source)
        for name in projections or ():
            found.remarks.extend(_about(await projecting.status(name, store, checkpoints)))
        return found

    with ending():
        found = anyio.run(work)
        if json:
            print(msgspec.json.encode(found).decode())  # noqa: T201  # what it is for
        else:
            _report(found)
    if not found.is_well:
        raise typer.Exit(UNSOUND)


def _about(status: dict[str, Any]) -> list[Remark]:
    """Say how far a projection is, and what it could not handle."""
    name, lag, letters = status["projection"], status["lag"], len(status["dead_letters"])
    where = f"{name} is at position {status['position']}, {lag} behind"
    found = [Remark("info", "projections", where)]
    if status["position"] > status["head"]:
        text = f"{name} is at position {status['position']}, beyond the head {status['head']}"
        remedy = "the store was restored or replaced: build a new generation of the projection"
        found = [Remark("error", "projections", text, remedy)]
    elif idle := [
        part for part in status.get("parts", [status]) if part["lag"] and not part["runner"]
    ]:
        what = f"{len(idle)} of its parts" if "parts" in status else "it"
        text, remedy = f"{where}, and nothing runs {what}", "start `eventport projection run`"
        found = [Remark("warning", "projections", text, remedy)]
    if letters:
        text = f"{name} has {letters} dead letters: events that it could not handle"
        remedy = "correct the handler, then retry them: `eventport projection dead-letters`"
        found.append(Remark("warning", "projections", text, remedy))
    return found


def _report(found: Diagnosis) -> None:
    for one in found.remarks:
        print(f"{one.level}: {one.topic}: {one.text}")  # noqa: T201  # what it is for
        if one.remedy:
            print(f"  {one.remedy}")  # noqa: T201  # as above
    wrong = sum(one.level != "info" for one in found.remarks)
    say(f"{found.store}: {f'{wrong} to do' if wrong else 'well'}")
