"""Take the pictures of the page in `serve.md`, of a model that was trained on phantoms.

python docs/page_screenshots.py RUN

RUN was trained on phantoms and evaluated.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SAMPLE = 2
"""Number of the phantom that is shown."""
FINDING = 1
"""Rank of the finding whose map is shown."""
SHOTS: dict[str, tuple[str, dict[str, Any]]] = {
    "light": ("body", {"color_scheme": "light", "viewport": {"width": 1440, "height": 900}}),
    "dark": ("body", {"color_scheme": "dark", "viewport": {"width": 1440, "height": 900}}),
    "narrow": (".viewing", {"color_scheme": "light", "viewport": {"width": 360, "height": 1240}}),
}
"""Name to what stands at the top of the picture, and the settings of the browser."""
PAINTED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
WAIT_MS = 120_000


def take(url: str, folder: Path) -> None:
    """Write `serve-light.png`, `serve-dark.png` and `serve-narrow.png`.

    Args:
        url: of a server whose model was trained on phantoms.
        folder: where to.
    """
    from playwright.sync_api import sync_playwright

    folder.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"], timeout=WAIT_MS
        )
        for name, (top, settings) in SHOTS.items():
            page = browser.new_context(**settings, reduced_motion="reduce").new_page()
            page.set_default_timeout(WAIT_MS)
            page.goto(url)
            page.click(f"#samples li:nth-child({SAMPLE}) button:enabled")
            page.focus(f"#list li:nth-child({FINDING}) button")
            page.wait_for_function(PAINTED)
            page.evaluate(f"document.querySelector('{top}').scrollIntoView()")
            page.screenshot(path=folder / f"serve-{name}.png")
        browser.close()


@contextmanager
def served(run: Path) -> Iterator[str]:
    """`trcgl serve` for as long as it is needed; gives its address."""
    command = [sys.executable, "-m", "trcgl", "serve", str(run), "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    try:
        yield json.loads("".join(iter(server.stdout.readline, "}\n")) + "}")["url"]
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    with served(Path(sys.argv[1])) as address:
        take(address, Path(__file__).parent / "images")
