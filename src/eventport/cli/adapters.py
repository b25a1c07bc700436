"""`eventport stores`: which adapters are installed, their URLs, and their options."""

from __future__ import annotations

from importlib.metadata import entry_points

import msgspec

from eventport._config.options import accepted_options
from eventport._config.plugins import ENTRY_POINT_GROUP, load_adapter
from eventport.cli.endings import ending
from eventport.cli.options import Lines


def show_stores(*, json: Lines = False) -> None:
    """List the kinds of stores that are installed: how their URLs begin, and their options."""
    with ending():
        for entry in sorted(entry_points(group=ENTRY_POINT_GROUP)):
            options = sorted(accepted_options(load_adapter(entry).open))
            package = entry.dist.name if entry.dist is not None else ""
            one = {"scheme": entry.name, "package": package, "options": options}
            text = f"{entry.name}:// ({package}) options: {', '.join(options) or 'none'}"
            print(msgspec.json.encode(one).decode() if json else text)  # noqa: T201  # its purpose
