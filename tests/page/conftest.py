"""A real headless Chromium. These tests run with `make test-page`, which installs what they need."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update"]  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "no Chromium: install the package chromium, or give its path in CHROMIUM"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


class Opened:
    """A page made by konv, opened from disk; `close` fails on any console error or network request."""

    def __init__(self, browser: Browser, path: Path, **context) -> None:
        self.context = browser.new_context(**context)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.complaints.append(m.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda r: r.url.startswith(("file:", "data:")) or self.complaints.append(r.url))
        self.page.goto(path.as_uri())

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []


@pytest.fixture
def open_page(browser, tmp_path):
    opened: list[Opened] = []

    def open_text(text: str, **context) -> Page:
        path = tmp_path / f"page{len(opened)}.html"
        path.write_text(text, encoding="utf-8")
        opened.append(Opened(browser, path, **context))
        return opened[-1].page

    yield open_text
    for one in opened:
        one.close()
