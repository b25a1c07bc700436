"""The specification as a page: every clause, in words."""

from __future__ import annotations

from typing import Final

from eventport_conformance.clause import GROUPS, Clause, all_clauses


_INTRODUCTION: Final = """\
# What every event store does

A store is *conformant* if it passes all clauses on this page. Each has an id, one sentence, and a
test in the distribution `eventport-conformance`, which adapters of this project and of others run
alike. The page is generated from these tests with `eventport-conformance spec`.

Some words that all clauses use:

- A **stream** is a sequence of events under a name. Its **version**, or head, is the version of its
  newest event; a stream without events does not exist and has version 0.
- An **expectation** is what a caller says about a stream's head: an exact version, where 0 means
  the same as `no_stream`, or `no_stream`, `stream_exists` or `any`.
- A **conflict** is an expectation that does not hold. It raises `ConcurrencyError`, and nothing
  else does.
- A **position** is an event's place in the order of the whole store.
- A **retry** is an append with an exact expectation whose events are stored already, with these
  ids, at these versions.
- An append is **kept whole** if its events are stored together and once when it succeeds. When it
  raises `StoreUnavailableError` they are stored together and once, or not at all.

What not every store can do is named in brackets after the sentence: *sessions* over several
streams, the *global order*, *push*, being *shared* by several stores, being *durable*, the *times*
of copies, and after-commit *hooks*. A store that cannot do it says why, and has to pass the clauses
about refusing it, which are marked with *without*. Clauses about other processes, lost connections,
servers that die, hang or err, and streams that other programs delete need optional harness methods;
the report lists the missing ones. No clause is ever skipped.
"""


def render_spec() -> str:
    """Return the page in Markdown."""
    parts = [_INTRODUCTION]
    for group, title in GROUPS.items():
        clauses = [clause for clause in all_clauses() if clause.group == group]
        lines = [f"- **{one.id}** {one.sentence}{_condition(one)}" for one in clauses]
        parts.append(f"## {group}: {title}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _condition(clause: Clause) -> str:
    words = [feature.replace("_", " ") for feature in clause.needs]
    if clause.unless is not None:
        words.append(f"without {clause.unless.replace('_', ' ')}")
    return f" *({', '.join(words)})*" if words else ""
