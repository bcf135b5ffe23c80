"""The page in a real browser: Debian's chromium, driven by playwright."""

import shutil

import pytest
from PIL import Image

from tests.serve.page_network import running
from trcgl.phantom.render import PhantomSpec, render


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=120_000)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def url():
    with running(max_mib=1) as address:
        yield address


@pytest.fixture
def visit(browser, url):
    """Open the page; at the end no script may have failed and no request may have gone elsewhere."""
    contexts, failures, requests = [], [], []

    def opened(address=url, *, failing=False, ready="#samples button:enabled", script="", **settings):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: requests.append((address, request.url)))
        page.on("pageerror", lambda error: failures.append(str(error)))
        # Chromium also tells of every status from 400 on, which is not a failure where the test provokes it.
        page.on("console", lambda said: said.type == "error" and not failing and failures.append(said.text))
        page.add_init_script(script)
        page.goto(address)
        page.wait_for_selector(ready)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not failures
    outside = [asked for address, asked in requests if not asked.startswith((address, "data:", "blob:"))]
    assert requests and not outside


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    spec = PhantomSpec(seed=3, patient=1, image=1, findings=("cardiomegaly",), size=160)
    path = tmp_path_factory.mktemp("files") / "phantom.png"
    Image.fromarray(render(spec).pixels[:, 10:]).save(path)
    return path
