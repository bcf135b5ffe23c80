"""Pages in a real browser: Debian's chromium, driven by playwright."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

PHONE, DESKTOP = 390, 1280
"""Widths of the window in CSS pixels."""


def assert_fits(*paths: Path) -> None:
    """Assert that no page scrolls sideways on a phone or a desktop, in light and dark, and that no script fails.

    Skips the test where playwright or chromium is not installed.

    Args:
        paths: HTML files.
    """
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here; on Debian: apt-get install chromium")
    # In a thread of its own: playwright leaves an event loop running, which other tests and their fixtures trip over.
    with ThreadPoolExecutor(1) as thread:
        problems = thread.submit(_problems, chromium, paths).result()
    assert not problems


def _problems(chromium: str, paths: tuple[Path, ...]) -> list[str]:
    from playwright.sync_api import sync_playwright

    problems: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=120_000)
        for path in paths:
            for width in (PHONE, DESKTOP):
                for scheme in ("light", "dark"):
                    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                    where = f"{path.name} at {width} px, {scheme}"
                    page.on("pageerror", lambda error, where=where: problems.append(f"{where}: {error}"))
                    page.goto(path.resolve().as_uri())
                    wide = page.evaluate("document.scrollingElement.scrollWidth")
                    if wide > width:
                        widest = page.evaluate(WIDEST, width)
                        problems.append(f"{where}: scrolls sideways, it is {wide} px wide because of {widest}")
                    page.close()
        browser.close()
    return problems


WIDEST = """(width) => [...document.querySelectorAll("body *")]
    .filter(element => element.getBoundingClientRect().right > width + 1 && !element.closest(".scroll"))
    .slice(0, 5).map(element => element.outerHTML.slice(0, 120)).join(" | ")"""
