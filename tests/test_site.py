"""What the site is checked for: links that lead nowhere, and files of other servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from links import problems


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<a href="../other/">x</a><a href="../other/#there">x</a><a href="#h">x</a>', []),
        ('<a href="https://example.com/">x</a><img src="data:image/png;base64,AA">', []),
        (
            '<a href="../nowhere/">x</a>',
            ["page/index.html: leads to ../nowhere/, which is not there"],
        ),
        (
            '<a href="../other/#gone">x</a>',
            ["page/index.html: leads to ../other/#gone, which has no such heading"],
        ),
        ('<a href="#gone">x</a>', ["page/index.html: leads to #gone, which has no such heading"]),
        (
            '<script src="https://example.com/x.js"></script>',
            ["page/index.html: needs https://example.com/x.js"],
        ),
        (
            '<link rel="stylesheet" href="https://example.com/x.css">',
            ["page/index.html: needs https://example.com/x.css"],
        ),
        (
            '<link rel="canonical" href="https://example.com/page/">',
            [],
        ),
    ],
)
def test_what_leads_nowhere_is_found(tmp_path: Path, html: str, expected: list[str]) -> None:
    for name, text in (("page", f'<h1 id="h">x</h1>{html}'), ("other", '<h2 id="there">x</h2>')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(text)
    assert list(problems(tmp_path)) == expected
