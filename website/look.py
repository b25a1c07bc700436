"""Looks at the built site in a browser, on a phone and on a desk; `nox -s look` runs it.

It uses a Chromium or Chrome that is installed, and fails if a page is wider than the window, if
the search finds nothing, dark mode stays light, code cannot be copied, or the browser asks any
other server for anything.
"""

from __future__ import annotations

import shutil
import sys
import threading

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright


SITE: Final = Path(__file__).parents[1] / "site"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZES: Final = {"phone": (390, 844), "desk": (1280, 900)}
TOO_WIDE: Final = """() => {
    const width = document.documentElement.clientWidth;
    const scrolls = "pre, .highlight, .md-typeset__scrollwrap, .md-typeset__table";
    const wide = [...document.querySelectorAll("article *")].filter(one =>
        !one.closest(scrolls) && one.getBoundingClientRect().right > width + 1);
    return document.documentElement.scrollWidth > width ? ["the page"]
        : wide.slice(0, 3).map(one => one.tagName + " " + one.textContent.slice(0, 40));
}"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def served() -> Iterator[str]:
    """Serve the site on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def problems_of_pages(browser: Browser, base: str) -> Iterator[str]:
    """Open every page at every width."""
    for name, (width, height) in SIZES.items():
        page = browser.new_page(viewport={"width": width, "height": height})
        asked: set[str] = set()
        page.on("request", lambda request, asked=asked: asked.add(request.url))
        errors: list[str] = []
        page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
        for file in sorted(SITE.rglob("index.html")):
            place = str(file.parent.relative_to(SITE)).removeprefix(".")
            page.goto(f"{base}{place}/" if place else base, wait_until="networkidle")
            yield from (
                f"{place} on a {name}: {one} is too wide" for one in page.evaluate(TOO_WIDE)
            )
        yield from errors
        yield from (url for url in asked if not url.startswith((base, "data:", "blob:")))
        page.close()


def problems_of_use(page: Page, base: str) -> Iterator[str]:
    """Copy a program, switch to dark, search."""
    page.goto(base)
    program = page.locator(".highlight").nth(1)
    program.hover()
    program.locator("button").first.click()
    if not page.evaluate("navigator.clipboard.readText()").startswith("import asyncio"):
        yield "a program cannot be copied"
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.body.getAttribute('data-md-color-scheme') === 'slate'")
    page.keyboard.press("/")
    page.wait_for_timeout(500)
    page.keyboard.type("ConcurrencyError")
    page.get_by_text("eventport.ConcurrencyError").first.wait_for()


def main() -> None:
    """Look at everything."""
    installed = [path for name in BROWSERS if (path := shutil.which(name))]
    if not installed or not SITE.exists():
        sys.exit(f"build the site by `nox -s docs`, and install one of {', '.join(BROWSERS)}")
    with sync_playwright() as playwright, served() as base:
        browser = playwright.chromium.launch(executable_path=installed[0], args=["--no-sandbox"])
        found = list(problems_of_pages(browser, base))
        context = browser.new_context()
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        found += problems_of_use(context.new_page(), base)
        browser.close()
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
