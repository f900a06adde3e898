"""A real browser without a window, for tests; what it asks for and complains about is kept."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")


@dataclass
class Opened:
    """A page that is open, with everything it asked for and complained about so far."""

    page: "Page"
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def browser() -> "Iterator[Browser]":
    """Start a browser: playwright's own if it is there, else the machine's; skip the test if there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        own = Path(started.chromium.executable_path)
        found = str(own) if own.is_file() else next(filter(None, map(shutil.which, BROWSERS)), None)
        if found is None:
            pytest.skip(f"no browser: neither playwright's own nor any of {', '.join(BROWSERS)}")
        # As root, as in a container, chromium does not start with its sandbox.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        launched = started.chromium.launch(executable_path=found, args=arguments)
        try:
            yield launched
        finally:
            launched.close()


def opened(launched: "Browser", path: Path, **context: Any) -> Opened:
    """Open a file; `context` is how big the screen is, the language and the like."""
    page = launched.new_page(**context)
    result = Opened(page)
    page.on("request", lambda request: result.requests.append(request.url))
    page.on("console", lambda message: result.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: result.complaints.append(str(error)))
    page.on("dialog", lambda dialog: result.complaints.append(f"dialog: {dialog.message}"))
    page.goto(path.as_uri())
    return result
