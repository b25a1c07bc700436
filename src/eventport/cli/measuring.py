"""`eventport stats --bytes`: how much is in the categories, and in the largest streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from msgspec import to_builtins

from eventport.catalogue import StreamSize, category_of
from eventport.toolkit_streams import is_toolkit_stream


_LARGEST: Final = 10
"""How many streams are named."""

_COLUMNS: Final = "{:>10}  {:>12}  {:>16}  {}"


def measured(sizes: list[StreamSize]) -> tuple[dict[str, Any], list[str]]:
    """Return what was measured as an object for programs, and as lines for people.

    Args:
        sizes: All streams, the largest first.
    """
    own = [one for one in sizes if not is_toolkit_stream(one.stream)]
    toolkit = [one for one in sizes if is_toolkit_stream(one.stream)]
    by_category: dict[str, list[StreamSize]] = {}
    for one in own:
        by_category.setdefault(category_of(one.stream), []).append(one)
    categories = {name: _sum(some) for name, some in by_category.items()}
    ranked = sorted(categories.items(), key=lambda named: named[1]["bytes"], reverse=True)
    categories, total, rest = dict(ranked), _sum(own), _sum(toolkit)
    lines = [_COLUMNS.format("streams", "events", "bytes", "category")]
    lines += [_line(sums, name or "(no category)") for name, sums in categories.items()]
    lines.append(_line(total, "in all"))
    if toolkit:
        lines.append(_line(rest, "of the toolkit"))
    if largest := sizes[:_LARGEST]:
        lines += ["", _COLUMNS.format("", "events", "bytes", "largest streams")]
        lines += [
            _COLUMNS.format("", f"{one.events:,}", f"{one.bytes:,}", one.stream) for one in largest
        ]
    numbers = {**total, "categories": categories, "toolkit": rest, "largest": to_builtins(largest)}
    return numbers, lines


def _sum(sizes: Iterable[StreamSize]) -> Counter[str]:
    total = Counter(streams=0, events=0, bytes=0)
    for one in sizes:
        total.update(streams=1, events=one.events, bytes=one.bytes)
    return total


def _line(sums: Counter[str], name: str) -> str:
    return _COLUMNS.format(*(f"{sums[key]:,}" for key in ("streams", "events", "bytes")), name)
