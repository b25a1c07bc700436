"""The pages about configuration and the command line: each example does what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doc_examples import run_page


DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    ("page", "examples"),
    [("configuration.md", 10), ("command-line.md", 26), ("moving.md", 12), ("projections.md", 7)],
)
def test_the_examples_of_a_page_do_what_it_says(tmp_path: Path, page: str, examples: int) -> None:
    assert run_page(DOCS / page, tmp_path, environment={"EVENTPORT_URL": ""}) == examples


@pytest.mark.parametrize(
    "wrong",
    [
        "```python\nraise SystemExit(1)\n```",
        "```python\nprint(1)\n```\n\n```text\n2\n```",
        "```console\n$ echo 1\n2\n```",
        "```console\n$ echo 1\n```",
        "```console\n$ true\n1\n```",
        "```console\n$ echo 1\n1\n$ nope\n```",
    ],
)
def test_an_example_that_does_something_else_is_found(tmp_path: Path, wrong: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n{wrong}\n")
    with pytest.raises(AssertionError, match=r"page\.md:3"):
        run_page(page, tmp_path)


def test_what_a_page_may_say(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```json a.json\n{}\n```\n```console\n$ cat a.json\n{}\n$ echo a b c\na ... c\n```\n"
        "```python\nimport sys; print(open('a.json').read(), end='')\n```\n```text\n{}\n```\n"
        "```sh\nexit 1\n```\n```python\nassert True\n```\n"
    )
    assert run_page(page, tmp_path) == 4
    assert run_page(page, tmp_path, languages=["python"]) == 2
