"""The service of docs/services.md, on a real server: workers, health, streams, and its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.doc_examples import blocks

from eventport_conformance.waiting import until_in_thread


PAGE = Path(__file__).parents[1] / "docs/services.md"
SECONDS = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The program of the page, in a directory."""
    for block in blocks(PAGE):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
    return tmp_path


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Service:
    """A running server, asked as a client asks it."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.process = process
        self.closing = ExitStack()

    def open(self, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        self.closing.callback(connection.close)
        connection.request(method, path, headers=headers)
        return self.closing.enter_context(connection.getresponse())

    def ask(self, method: str, path: str) -> tuple[int, Any]:
        response = self.open(method, path)
        content = response.read()
        return response.status, json.loads(content) if content else None

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/health/live")[0] == 200
        except OSError:
            return False

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


@contextmanager
def running(folder: Path, *arguments: str, app: str = "service:app") -> Generator[Service]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", app, "--port", str(port), *arguments],
        cwd=folder,
        env={**os.environ, "EVENTPORT_URL": "sqlite:///shop.db"},
    )
    service = Service(port, process)
    try:
        until_in_thread(service.answers, "the service answers")
        yield service
    finally:
        service.closing.close()
        process.kill()
        process.wait()


def message(stream: http.client.HTTPResponse) -> dict[str, str]:
    """Read one message of a stream; comments do not count."""
    fields: dict[str, str] = {}
    while (line := stream.readline().decode().rstrip("\n")) or not fields:
        name, colon, value = line.partition(": ")
        if name and colon:
            fields[name] = value
    return fields


@pytest.mark.parametrize("app", ["service:app", "litestar_service:app"])
def test_two_workers_keep_one_read_model_and_end_with_a_stream_open(folder: Path, app: str) -> None:
    with running(folder, "--workers", "2", app=app) as service:
        stream = service.open("GET", "/events")
        assert stream.readline() == b": listening\n"
        for number in range(1, 9):
            assert service.ask("PUT", f"/orders/{number}?customer=ada")[0] == 201
        assert service.ask("PUT", "/orders/1?customer=eve")[0] == 409
        first = message(stream)
        assert json.loads(first["data"])["stream"] == "order-1"
        resumed = service.open("GET", "/events", **{"Last-Event-ID": first["id"]})
        assert json.loads(message(resumed)["data"])["stream"] == "order-2"
        status, events = service.ask("GET", "/orders/1")
        assert (status, events[0]["data"]) == (200, {"customer": "ada"})
        assert service.ask("GET", "/orders/99")[0] == 404
        until_in_thread(lambda: orders_of_ada(folder) == 8, "the read model is up to date")
        if app == "service:app":
            assert service.ask("GET", "/health/ready")[0] == 200
        assert service.end() in {0, -signal.SIGTERM}
        assert stream.read() is not None  # the server has ended it


def orders_of_ada(folder: Path) -> int:
    with sqlite3.connect(folder / "shop.db") as db:
        rows = db.execute("SELECT name FROM sqlite_master WHERE name LIKE 'customers%'").fetchall()
        found = [db.execute(f"SELECT orders FROM {name}").fetchone() for (name,) in rows]
    db.close()
    return sum(row[0] for row in found if row)


def test_a_poison_event_leaves_a_living_service_that_is_not_ready(folder: Path) -> None:
    lines = '{"stream": "order-1", "type": "OrderPlaced", "data": {}}\n'
    eventport = Path(sys.executable).with_name("eventport")
    command = [str(eventport), "import", "-", "--store", "sqlite:///shop.db"]
    subprocess.run(command, cwd=folder, input=lines, check=True, text=True)
    with running(folder) as service:
        until_in_thread(lambda: service.ask("GET", "/health/ready")[0] == 503, "it is not ready")
        assert "ProjectionStoppedError" in service.ask("GET", "/health/ready")[1]["detail"]
        assert service.ask("GET", "/health/live")[0] == 200
        assert service.ask("PUT", "/orders/2?customer=bob")[0] == 201
        assert service.end() in {0, -signal.SIGTERM}
