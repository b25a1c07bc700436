"""In what the servers differ that the double stands for."""

from __future__ import annotations

import re
import unicodedata

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias


Version: TypeAlias = Literal["23.10", "25.1", "26.0", "26.1"]


@dataclass(frozen=True)
class Rules:
    """What a server can do, and how it says that it cannot."""

    sessions: bool
    """Whether it has `AppendSession`."""
    records: bool
    """Whether it has `AppendRecords`."""
    unicode_types: bool
    """Whether its multi-stream calls take letters and digits of any language in types."""
    max_append_size: int | None
    """The most bytes of data in an append to one stream."""
    invalid_position: str
    """What it says of a position in `$all` at which no event begins."""
    empty_on_tombstone: bool
    """Whether it accepts an append of nothing to a tombstone."""

    def type_problem(self, name: str) -> str | None:
        """Return what its multi-stream calls have against an event type; None if nothing."""
        problems: list[str] = []
        if not name:
            problems.append("Schema name must not be empty")
        if self.unicode_types:
            if unicodedata.normalize("NFC", name) != name:
                problems.append("Schema name must be in Unicode NFC (Normalization Form C)")
            fits = all(c in "_.$:-" or c.isalpha() or c.isdecimal() for c in name)
            letters = "unicode letters, digits"
        else:
            fits = _ASCII.fullmatch(name) is not None
            letters = "alphanumeric characters"
        if not fits:
            problems.append(
                f"Schema name can only contain {letters}, underscores, dashes, periods, colons, "
                f"and dollar signs. Attempted Value: {name}"
            )
        return "\n -- ".join(problems) or None


_ASCII: Final = re.compile(r"[a-zA-Z0-9_.$:-]*")
_NEWER: Final = "InvalidPosition >> Log record at actual pos 35803 has non-positive length: 0."

RULES: Final[dict[Version, Rules]] = {
    "23.10": Rules(
        sessions=False,
        records=False,
        unicode_types=False,
        max_append_size=1024 * 1024,
        invalid_position="Error",
        empty_on_tombstone=False,
    ),
    "25.1": Rules(
        sessions=True,
        records=False,
        unicode_types=False,
        max_append_size=None,
        invalid_position=_NEWER,
        empty_on_tombstone=True,
    ),
    "26.0": Rules(
        sessions=True,
        records=True,
        unicode_types=False,
        max_append_size=None,
        invalid_position=_NEWER,
        empty_on_tombstone=True,
    ),
    "26.1": Rules(
        sessions=True,
        records=True,
        unicode_types=True,
        max_append_size=None,
        invalid_position=_NEWER,
        empty_on_tombstone=True,
    ),
}
