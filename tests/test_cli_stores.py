"""`eventport stores` lists the adapters that are installed, with their options."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from eventport.cli.app import app


def test_installed_adapters_are_listed() -> None:
    done = CliRunner().invoke(app, ["stores"])
    assert done.exit_code == 0
    options = "busy_timeout, create, synchronous"
    assert f"sqlite:// (eventport-sqlite) options: {options}\n" in done.stdout
    lines = CliRunner().invoke(app, ["stores", "--json"]).stdout.splitlines()
    found = {one["scheme"]: one for one in map(json.loads, lines)}
    assert found["sqlite"]["options"] == options.split(", ")
    assert {"memory", "sqlite", "postgres", "mongodb", "esdb"} <= found.keys()
