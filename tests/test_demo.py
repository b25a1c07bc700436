"""The order example: what it promises in its text is what a newcomer sees."""

from __future__ import annotations

import shutil
import subprocess
import sys

from pathlib import Path

from eventport_conformance.waiting import START_SECONDS


EXAMPLE = Path(__file__).parents[1] / "examples" / "orders"


def run(directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "main.py"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def stored(order: str, number: int) -> str:
    return f"""\
   1 OrderCreated {{'customer': 'Ann'}}
   2 ItemAdded {{'item': 'tea', 'quantity': 2, 'cents': 450}}
   3 ItemAdded {{'item': 'cup', 'quantity': 1, 'cents': 900}}
   4 ItemAdded {{'item': 'biscuits', 'quantity': 3, 'cents': 250}}
   5 OrderShipped {{'carrier': 'Cargo bike'}}
   {number} StockTaken {{'order': '{order}', 'items': {{'tea': 2, 'cup': 1, 'biscuits': 3}}}}

Folded: Ann gets 6 items for 25.50.
"""


def test_the_demo_tells_its_story_and_goes_on_when_run_again(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.db*"))
    for number, order in enumerate(("order-1", "order-2"), 1):
        output = run(tmp_path)
        assert output.startswith(
            f"<SQLiteEventStore: orders.db> holds {number - 1} orders; this run adds {order}."
        )
        conflict = f"ConcurrencyError: stream '{order}': expected 2, but it is at version 3\n"
        assert output.count(conflict) == 1
        assert [line.split("live: ")[1] for line in output.splitlines() if "live: " in line] == [
            f"{order} 1 OrderCreated",
            f"{order} 2 ItemAdded",
            f"{order} 3 ItemAdded",
            f"{order} 4 ItemAdded",
            f"{order} 5 OrderShipped",
            f"warehouse {number} StockTaken",
        ]
        assert output.endswith(stored(order, number))
    assert (tmp_path / "orders.db").is_file()
