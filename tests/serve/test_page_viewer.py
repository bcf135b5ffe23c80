"""The radiograph on the page: maps, window and level, zoom, downloads."""

import io
import json

import numpy as np
from PIL import Image

from tests.serve.page_network import FIRST, RANKED, SECOND, look
from trcgl.core.notice import RESEARCH_USE

PIXELS = "document.getElementById('canvas').toDataURL()"


def changed(page, before):
    """Wait until the viewer shows something else than before."""
    page.wait_for_function(f"before => {PIXELS} !== before", arg=before)
    return page.evaluate(PIXELS)


def test_the_keyboard_walks_through_the_maps(visit, phantom):
    page = visit()
    look(page, phantom)
    plain = page.evaluate(PIXELS)
    page.focus(FIRST)
    first = changed(page, plain)
    name = RANKED[0]
    assert page.inner_text("#map-name") == name and page.get_attribute(FIRST, "aria-pressed") == "true"
    assert name in page.inner_text("#legend-text") and name in page.get_attribute("#canvas", "aria-label")
    page.keyboard.press("ArrowDown")
    changed(page, first)
    assert page.evaluate("document.activeElement.querySelector('.name').textContent") == page.inner_text("#map-name")
    assert page.get_attribute(SECOND, "aria-pressed") == "true" and page.get_attribute(FIRST, "aria-pressed") == "false"
    page.keyboard.press("Home")
    page.keyboard.press("Escape")
    page.wait_for_function(f"plain => {PIXELS} === plain", arg=plain)
    page.keyboard.press("Tab")  # every finding is reached by it, and it does not trap
    assert page.get_attribute(SECOND, "aria-pressed") == "true"
    page.keyboard.press("End")
    assert "empty" in page.inner_text("#legend-text")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#list')") is None


def test_the_mouse_shows_a_map_and_a_click_keeps_it(visit, phantom):
    page = visit()
    look(page, phantom)
    plain = page.evaluate(PIXELS)
    page.hover(SECOND)
    hovered = changed(page, plain)
    page.hover("h1")
    page.wait_for_function(f"plain => {PIXELS} === plain", arg=plain)
    page.click(SECOND)
    page.hover("h1")
    page.wait_for_function(f"hovered => {PIXELS} === hovered", arg=hovered)
    page.fill("#opacity", "0")
    page.wait_for_function(f"plain => {PIXELS} === plain", arg=plain)
    page.fill("#opacity", "80")
    changed(page, plain)
    page.click(SECOND)
    page.wait_for_function(f"plain => {PIXELS} === plain", arg=plain)


def test_window_level_zoom_and_inversion_change_what_is_seen_until_reset(visit, phantom):
    page = visit()
    look(page, phantom)
    plain = seen = page.evaluate(PIXELS)
    page.fill("#width", "90")
    seen = changed(page, seen)
    page.fill("#level", "60")
    seen = changed(page, seen)
    assert page.inner_text("#window-text") == "W 90  L 60  1.0×"
    page.click("#invert")
    seen = changed(page, seen)
    assert page.get_attribute("#invert", "aria-pressed") == "true"
    page.click("#zoom-in")
    seen = changed(page, seen)
    box = page.locator("#stage").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.wheel(0, -300)
    seen = changed(page, seen)
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1] + 30, steps=3)
    page.mouse.up()
    seen = changed(page, seen)
    assert page.inner_text("#window-text").startswith("W 130  L 90 ")
    page.focus("#stage")
    for key in ("+", "ArrowLeft", "ArrowUp", "w", "a"):
        page.keyboard.press(key)
        seen = changed(page, seen)
    page.click("#reset")
    page.wait_for_function(f"plain => {PIXELS} === plain", arg=plain)


def test_downloads_hold_the_scores_and_the_picture(visit, phantom):
    page = visit()
    look(page, phantom)
    page.focus(FIRST)
    with page.expect_download() as result:
        page.click("#download-json")
    content = result.value.path().read_text(encoding="utf-8")
    prediction = json.loads(content)
    assert prediction["schema"] == "trcgl.prediction/1" and prediction["research_use"] == RESEARCH_USE
    assert [finding["name"].replace("_", " ") for finding in prediction["findings"]] == RANKED
    assert [round(finding["score"], 4) for finding in prediction["findings"]] == [0.9996, 0.44, 0.31, 0.062, 0.0002]
    assert [finding["called"] for finding in prediction["findings"]] == [True, False, False, True, False]
    assert "data:image" not in content and "phantom.png" not in content + result.value.suggested_filename
    with page.expect_download() as result:
        page.click("#download-png")
    picture = np.asarray(Image.open(io.BytesIO(result.value.path().read_bytes())).convert("RGB")).astype(int)
    assert picture.shape[0] > picture.shape[1] >= 640  # the radiograph is 150 x 160, with lines of words below
    assert np.ptp(picture[:640], axis=-1).max() > 50  # the map has colors
