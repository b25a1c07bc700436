"""Proves that the programs and the queries of the page about MongoDB do what it says."""

from __future__ import annotations

import json
import re

from pathlib import Path
from typing import Any

from anyio import to_thread
from pymongo.asynchronous.collection import AsyncCollection
from tests.doc_examples import run_page

from eventport import NewEvent

from eventport_mongodb import MongoDBEventStore


Raw = AsyncCollection[dict[str, Any]]

PAGE = Path(__file__).parents[3] / "docs" / "mongodb.md"
QUERY = re.compile(
    r"^db\.events\.(find|aggregate)\((.*?)\)(?:\.sort\((.*?)\)\.limit\((\d+)\))?$",
    re.MULTILINE | re.DOTALL,
)


def value(javascript: str) -> Any:
    """Read what the shell would take, with plain keys."""
    return json.loads(re.sub(r"(?<=[{ ])(\$?\w+):", r'"\1":', javascript))


async def test_the_programs_run(url: str, tmp_path: Path) -> None:
    def run() -> int:
        return run_page(PAGE, tmp_path, languages=["python"], environment={"SHOP_URL": url})

    assert await to_thread.run_sync(run) == 2


async def test_the_queries_answer_what_they_say(store: MongoDBEventStore, raw: Raw) -> None:
    for number in range(3):
        placed = NewEvent("OrderPlaced", {"customer": "ada", "total": 40 * number})
        await store.append(f"order-{number}", [placed, NewEvent("OrderShipped", {})])
    large, count, newest = QUERY.findall(PAGE.read_text(encoding="utf-8"))
    found = await raw.find(value(large[1])).to_list()
    assert {one["stream"] for one in found} == {"order-1", "order-2"}
    assert await (await raw.aggregate(value(count[1]))).to_list() == [
        {"_id": "OrderPlaced", "count": 3},
        {"_id": "OrderShipped", "count": 3},
    ]
    (last,) = (
        await raw.find(value(newest[1])).sort(value(newest[2])).limit(int(newest[3])).to_list()
    )
    assert last["version"] + last["count"] - 1 == 2
