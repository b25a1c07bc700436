"""Finds what leads nowhere in a built site: links, anchors, and files of other servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Link(NamedTuple):
    """What an element of a page refers to."""

    target: str
    needed: bool
    """Whether a browser fetches it to show the page."""


class Page(HTMLParser):
    """What a page offers, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[Link] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002  # any
        """Note anchors and links."""
        values = dict(attrs)
        needed = "src" in values or values.get("rel") in {"stylesheet", "icon", "preload"}
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        self.links += [
            Link(value, needed) for name in ("href", "src") if (value := values.get(name))
        ]


def problems(site: Path) -> Iterator[str]:
    """Describe everything in a site that leads nowhere, or asks another server for something."""
    files = sorted(site.rglob("*.html"))
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in files}
    for path, page in pages.items():
        if path.name != "404.html":  # it is shown at any address
            for link in page.links:
                if wrong := _wrong(link, path, pages):
                    yield f"{path.relative_to(site)}: {wrong}"


def _wrong(link: Link, path: Path, pages: Mapping[Path, Page]) -> str | None:
    parts = urlsplit(link.target)
    if parts.scheme or parts.netloc:
        return f"needs {link.target}" if link.needed and parts.scheme != "data" else None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.exists():
        return f"leads to {link.target}, which is not there"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return f"leads to {link.target}, which has no such heading"
    return None
