"""Runs LangGraph's conformance suite for checkpointers, and a graph, on stores of eventport."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, TypedDict

import pytest

from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES
from langgraph.graph import END, START, StateGraph
from langgraph_on_eventport import EventportSaver

from eventport import connect


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/events.db?synchronous=normal"])
async def test_it_passes_the_conformance_suite(url: str, tmp_path: Path) -> None:
    async def saver() -> AsyncGenerator[EventportSaver]:
        async with connect(url.format(folder=tmp_path)) as store:
            yield EventportSaver(store)

    report = await validate(checkpointer_test(name=url)(saver))
    failures = {name: result.failures for name, result in report.results.items()}
    assert report.passed_all(), failures
    assert all(report.results[one.value].tests_passed for one in ALL_CAPABILITIES)


class Count(TypedDict):
    count: int


async def test_an_agent_goes_on_in_another_process(tmp_path: Path) -> None:
    async def add(state: Count) -> Count:
        return {"count": state["count"] + 1}

    builder = StateGraph(Count)
    builder.add_node("add", add)
    builder.add_edge(START, "add")
    builder.add_edge("add", END)
    config: Any = {"configurable": {"thread_id": "1"}}
    url = f"sqlite:///{tmp_path}/events.db"
    async with connect(url) as store:
        graph: Any = builder.compile(checkpointer=EventportSaver(store))
        assert await graph.ainvoke({"count": 1}, config) == {"count": 2}
    async with connect(url) as store:
        graph = builder.compile(checkpointer=EventportSaver(store))
        assert (await graph.aget_state(config)).values == {"count": 2}
        assert len([one async for one in graph.aget_state_history(config)]) == 3
