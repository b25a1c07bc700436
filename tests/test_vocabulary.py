"""The words of the project: no phrase that an English reader has to read twice.

Each idiom below stood in these texts once, was understood only by those who wrote it, and has a
plain replacement. What is searched: pages, docstrings, comments, string literals (so messages, and
the sentences of clauses) and SQL. A failure lists every place of one area of the repository, with
the words to use instead. There is no list of exceptions.
"""

from __future__ import annotations

import io
import re
import tokenize

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest


ROOT: Final = Path(__file__).parents[1]
FLAGS: Final = re.IGNORECASE | re.MULTILINE


class Idiom(NamedTuple):
    """A phrase to avoid, as a regular expression in which a space stands for any blanks."""

    wrong: str
    instead: str
    examples: tuple[str, ...]
    """Texts that it must find."""
    fine: str = ""
    """Correct English that looks alike; it is passed over where it begins first."""
    counterexamples: tuple[str, ...] = ()
    """Texts that it must not find."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """The whole expression; only its group ``wrong`` counts."""
        parts = [self.fine] if self.fine else []
        text = "|".join([*parts, f"(?P<wrong>{self.wrong})"])
        return re.compile(text.replace(" ", r"\s+"), FLAGS)


IDIOMS: Final = (
    Idiom(
        r"\blines? (?:is|are|was|were|be|been|being) cut\b|\bcut(?:s|ting)? (?:(?:the|a|an|its|"
        r"their|all|some|of the) )?lines?\b",
        "connection dropped; drop connections",
        ("the line is cut", "Cut the lines", "a proxy cuts\nlines", "a cut of the line"),
        counterexamples=("the connection dropped", "head cuts output", "a shortcut"),
    ),
    Idiom(
        r"\bbehind (?:[\w']+ ){0,3}positions?\b|\b(?:starts?|begins?|appears?|comes?|reads?|those)"
        r" behind\b",
        "after a position; at or below a position",
        ("events behind a global position", "Start behind this", "to start behind"),
        counterexamples=("the projection is 3 events behind", "after a position", "behind it"),
    ),
    Idiom(
        r"\b(?:tells?|telling) (?:whether|if|which|how|what|when|where|why)\b",
        "return whether; say whether; show which",
        ("Tell whether it holds", "the count tells how often"),
        r"\b(?:to|can|cannot|could|must) tell (?:whether|if|which)\b",
        ("nobody can tell whether it was", "tells you whether it is right", "Return whether"),
    ),
    Idiom(
        r"\b(?:is|are|was|were|be|been|being) told\b|\btold by\b|\bas told\b",
        "is given; is reported; is identified by; learns",
        ("it is told by its message", "what connect was told", "an error is told in one line"),
        r"\bbe told apart\b",
        ("they can be told apart",),
    ),
    Idiom(
        r"\btells? (?:a part|nothing|anything|of|any)\b|\btells(?=[.,;:])",
        "reveal; say; report",
        ("a piece tells nothing", "it waits and tells."),
        counterexamples=("which tells them apart", "tells you how"),
    ),
    Idiom(
        r"\bat the (?:most|least)\b",
        "at most; at least",
        ("twice at the most", "at the\nleast"),
        r"\bat the (?:most|least) (?:recent|common|recently|important)\b",
        ("at most 500", "at the most recent version"),
    ),
    Idiom(
        r"\bbe (?:it|they)\b",
        "whether ... or not; either ... or",
        ("be it a URL or a name", "be it without anything"),
        r"\b(?:must|may|can|could|will|would|should|might|to) be it\b",
        ("maybe it is", "whether or not"),
    ),
    Idiom(
        r"\blook(?:s|ed|ing)? again\b|\bagain and again\b|\bby looking\b",
        "poll; repeatedly",
        ("subscriptions look again and again", "not only by looking again", "found by looking:"),
        counterexamples=("try again", "subscriptions poll"),
    ),
    Idiom(
        r"\blook(?:s|ed|ing)? (?:at )?(?:whether|if)\b",
        "check whether",
        ("before it is looked whether to go on", "a look at whether"),
        counterexamples=("look at the head",),
    ),
    Idiom(
        r"\b(?:looked|looks|looking) through\b",
        "scan",
        ("how far it was looked through",),
        counterexamples=("scanned up to a position",),
    ),
    Idiom(
        r"\b(?:holds?|held|holding) of\b",
        "a store passes a clause; is true for",
        ("a clause holds of a store", "clauses that hold of it"),
        r"\b(?:gets?|got|getting|takes?|took|taking|loses?|lost|catch|catches) hold of\b",
        ("get hold of the connection", "the clause holds"),
    ),
    Idiom(
        r"\bwhoever\b|(?:^|[.:;] |\"\"\"|`` )(?-i:Who) (?!else\b)[a-z']+ [^?.\0]*[.:]|"
        r"[:;] who (?:[a-z']+ ){1,4}(?:can|may|must|needs|has)\b",
        "a caller that; the process that; whoever -> the code that",
        (
            "closed by whoever opened it",
            "It ends. Who handles all has caught up.",
            "bytes are counted before: who gets them may look at once",
        ),
        counterexamples=(
            "## Who proves the suite?",
            "a caller that holds it",
            "for those who may not",
            "Who holds it?",
            "The log: who wanted what, and which events came of it.",
        ),
    ),
    Idiom(
        r"\bfor ever\b",
        "forever",
        ("it waits for ever", "for\never"),
        counterexamples=("for every event", "forever"),
    ),
    Idiom(
        r"\bapart\b",
        "separately; separate; in its own ...",
        ("killed in a test apart", "made apart from opening", "so that rivals get apart"),
        r"\b(?:tell|tells|told|telling|take|takes|taking|taken|took|keep|keeps|kept|set|know|far|"
        r"seconds?|days?) (?:[\w'`]+ ){0,6}apart\b|, apart from\b",
        (
            "the type tells them apart",
            "drivers take apart in the same way",
            "two days apart",
            "no pause is longer, apart from the random part",
        ),
    ),
    Idiom(
        r"\bthe ways? of (?:an?|the|each) (?:append|read|commit|subscription|event|write|call)s?\b",
        "the path of",
        ("the way of an append", "The way of a commit: submit"),
        counterexamples=("the path of an append", "in the way of others"),
    ),
    Idiom(
        r"\b(?:more|so|how|as) seldom\b",
        "less often; how rarely",
        ("ever more seldom", "how seldom to poll"),
        counterexamples=("it is seldom needed",),
    ),
    Idiom(
        r"\b(?:within|after|for|in|than|until) so many [a-z]+",
        "this many; a number of",
        ("after so many idle polls", "within so many seconds"),
        counterexamples=("there are so many",),
    ),
    Idiom(
        r"\bmend(?:s|ed|ing)?\b",
        "fix; correct",
        ("mend the handler and run it again",),
        counterexamples=("we recommend it", "amended"),
    ),
    Idiom(
        r"\b(?:works?|worked|working) off\b",
        "handle; process",
        ("when everything has been worked off",),
        counterexamples=("works on Linux",),
    ),
    Idiom(
        r"\bin silence\b",
        "silently",
        ("or turns it into something else in\nsilence",),
        counterexamples=("silently", "after a silence"),
    ),
    Idiom(
        r"\bonly in mind\b|\bsays too much\b|\bneeds? a hand\b|\blent one\b|\bBe the function\b|"
        r"\btaken a place\b|\bbefore worthless\b",
        "see the table of the style notes: say what happens in plain words",
        ("None if a session has it only in mind", "somebody has taken a place, but"),
        counterexamples=("commits take place", "keep that in mind"),
    ),
)

AT_MOST: Final = next(idiom for idiom in IDIOMS if idiom.instead.startswith("at most"))

AREAS: Final = {
    "README, CHANGELOG, CONTRIBUTING": ["*.md"],
    "docs (core)": [
        f"docs/{name}.md"
        for name in (
            "guide",
            "configuration",
            "command-line",
            "architecture",
            "write-an-adapter",
            "conformance",
            "sqlite",
        )
    ],
    "docs (toolkit)": [
        f"docs/{name}.md"
        for name in (
            "tutorial",
            "typed-events",
            "commands",
            "aggregates",
            "*projections",
            "reactors",
        )
    ],
    "docs/postgres": ["docs/postgres.md"],
    "docs/mongodb": ["docs/mongodb.md"],
    "docs/eventstoredb": ["docs/eventstoredb.md"],
    "docs/spec": ["docs/spec.md"],
    "src (port)": [
        f"src/eventport/{name}.py"
        for name in (
            "__init__",
            "__main__",
            "protocols",
            "events",
            "results",
            "expectations",
            "errors",
            "validation",
            "conflicts",
        )
    ],
    "src/_engine": ["src/eventport/_engine/**/*.py", "src/eventport/adapter/*.py"],
    "src/_config": ["src/eventport/_config/**/*.py"],
    "src/_concurrency": ["src/eventport/_concurrency/**/*.py"],
    "src/cli": ["src/eventport/cli/**/*.py"],
    "src/projections": ["src/eventport/projections/**/*.py"],
    "src/reactors": ["src/eventport/reactors/**/*.py"],
    "src/aggregates": ["src/eventport/aggregates/**/*.py"],
    **{
        f"adapters/{name}": [f"adapters/{name}/*.md", f"adapters/{name}/src/**/*"]
        for name in ("memory", "sqlite", "postgres", "mongodb", "eventstoredb")
    },
    "conformance (clauses)": ["conformance/src/*/clauses/**/*.py"],
    "conformance (proof)": ["conformance/src/*/proof/**/*.py"],
    "conformance (rest)": ["conformance/*.md", "conformance/src/*/*.py"],
    "examples": ["examples/**/*.py", "examples/**/*.md"],
}
"""Parts of the repository, each with patterns of its files: a failure shows what is left in one."""

REST: Final = "src (toolkit) and all others"
"""The area of what the patterns above do not name, so that nothing is left out."""

SEARCHED: Final = (
    "*.md",
    "docs/*.md",
    "adapters/*/*.md",
    "conformance/*.md",
    "examples/**/*.md",
    "src/**/*.py",
    "adapters/*/src/**/*.py",
    "adapters/*/src/**/*.sql",
    "conformance/src/**/*.py",
    "examples/**/*.py",
)


def _areas() -> dict[str, list[Path]]:
    left = {path for pattern in SEARCHED for path in ROOT.glob(pattern)}
    areas: dict[str, list[Path]] = {}
    for area, patterns in AREAS.items():
        matched = left & {path for pattern in patterns for path in ROOT.glob(pattern)}
        areas[area] = sorted(matched)
        left -= matched
    areas[REST] = sorted(left)
    return areas


FILES: Final = _areas()


def prose(path: Path) -> str:
    """Return a file's text; of Python, the comments and strings, each character in its place.

    Code becomes characters that match nothing, so that a phrase may go on from one line of a
    comment, or one literal, to the next, but not from one argument to another.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    lines = [["\0"] * len(line) for line in text.split("\n")]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in {tokenize.STRING, tokenize.COMMENT}:
            row, column = token.start
            for offset, line in enumerate(_unmarked(token).split("\n")):
                start = 0 if offset else column
                lines[row - 1 + offset][start : start + len(line)] = line
    return "\n".join(
        _with_blanks(line, text) for line, text in zip(lines, text.split("\n"), strict=True)
    )


def _unmarked(token: tokenize.TokenInfo) -> str:
    """Blank out what marks a comment or a literal, so that neighbours read as one text."""
    marks = r"^#+|^[a-zA-Z]*(?:\"\"\"|'''|\"|')|(?:\"\"\"|'''|\"|')$"
    return re.sub(marks, lambda match: " " * len(match[0]), token.string)


def _with_blanks(line: list[str], text: str) -> str:
    return "".join(" " if char.isspace() else kept for kept, char in zip(line, text, strict=True))


def hits(path: Path) -> Iterator[str]:
    """Find every idiom in a file."""
    text = prose(path)
    for idiom in IDIOMS:
        for match in idiom.pattern.finditer(text):
            if match["wrong"] is not None:
                line = text.count("\n", 0, match.start("wrong")) + 1
                found = " ".join(match["wrong"].split())
                yield f"{path.relative_to(ROOT)}:{line}: {found!r}; write: {idiom.instead}"


@pytest.mark.parametrize("area", FILES)
def test_no_text_uses_an_idiom_that_stumbles(area: str) -> None:
    found = [hit for path in FILES[area] for hit in hits(path)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("area", FILES)
def test_every_area_has_files(area: str) -> None:
    assert FILES[area]


@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda idiom: idiom.instead)
def test_an_idiom_is_found_and_correct_english_is_not(idiom: Idiom) -> None:
    def finds(text: str) -> bool:
        return any(match["wrong"] is not None for match in idiom.pattern.finditer(text))

    assert [text for text in idiom.examples if not finds(text)] == []
    assert [text for text in idiom.counterexamples if finds(text)] == []


def test_a_phrase_is_found_across_lines_of_comments_and_literals(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text('# twice at the\n# most\nx = f("at the ", "most", "at the "\n      "least")\n')
    found = [match["wrong"].split() for match in AT_MOST.pattern.finditer(prose(file))]
    assert found == [["at", "the", "most"], ["at", "the", "least"]]
