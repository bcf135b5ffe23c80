"""What the page says and does; its pictures have tests of their own."""

import re

import numpy as np
import pytest

from tests.imaging.dicom_files import dicom
from tests.serve.page_network import FINDINGS, FIRST, RANKED, Places, look, running
from tests.serve.serving import proxied
from trcgl.core.html import PALETTE
from trcgl.core.notice import RESEARCH_USE
from trcgl.serve.page_files import PAGE, page_files

TOKEN = "correct-horse-battery-staple"


def test_an_upload_is_ranked_with_thresholds_and_groups(visit, phantom):
    page = visit()
    assert RESEARCH_USE in page.inner_text("header")
    assert page.inner_text("#model-line") == "Model places · 5 findings · calibrated"
    assert page.is_visible("#phantom") and "2 head, 1 medium, 2 tail" in page.text_content("#facts")
    assert page.locator("#list .name").all_inner_texts() == [name.replace("_", " ") for name, *_ in FINDINGS]
    look(page, phantom)
    assert page.locator("#list .name").all_inner_texts() == RANKED
    assert page.locator("#list .badge").all_inner_texts() == ["medium", "head", "head", "tail", "tail"]
    assert page.locator("#list .score").all_inner_texts() == ["> 0.999", "0.440", "0.310", "0.062", "< 0.001"]
    verdicts = ["▲ above threshold 0.500", "below threshold 0.500", "below threshold 0.400"]
    verdicts += ["▲ above threshold 0.020", "below threshold 0.100"]
    assert page.locator("#list .verdict").all_text_contents() == verdicts
    assert page.inner_text("#geometry") == "150 × 160 png"
    assert page.text_content("#status") == (
        "Done. 2 of 5 findings above their threshold. Highest: pleural effusion, > 0.999."
    )


def test_without_calibration_there_are_ranks_and_no_verdicts(visit, phantom):
    network = Places()
    bare = [{**finding, "group": None, "threshold": None} for finding in network.about["findings"]]
    network.about |= {"calibrated": False, "temperature": None, "findings": bare, "phantom": False}
    with running(network) as address:
        page = visit(address)
        look(page, phantom)
        assert "not calibrated" in page.inner_text("#model-line") and "only rank" in page.text_content("#facts")
        assert "no thresholds" in page.inner_text("#findings-text") and page.is_hidden("#phantom")
        assert page.locator("#list .name").all_inner_texts() == RANKED
        assert page.locator("#list .badge").count() == page.locator("#list .mark").count() == 0
        assert "above" not in page.inner_text("#list") and page.text_content("#status").startswith("Done. Highest")


def test_a_dicom_file_is_shown_without_who_the_patient_is(visit, tmp_path):
    pixels = np.linspace(0, 4095, 60 * 48, dtype=np.uint16).reshape(60, 48)
    path = tmp_path / "scan.dcm"
    path.write_bytes(dicom(pixels, PatientName="Noether^Amalie", PatientID="MRN-4711"))
    page = visit()
    look(page, path)
    assert page.inner_text("#geometry") == "48 × 60 dicom"
    assert not re.search("Noether|4711", page.content())


def test_the_page_works_behind_a_proxy_that_has_it_below_a_path(visit, url, phantom):
    with proxied(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2])), "/hospital/xray/") as address:
        page = visit(address)
        look(page, phantom)
        assert page.locator("#list .name").all_inner_texts() == RANKED


def test_no_address_of_the_page_is_absolute():
    """Chromium is not installed everywhere."""
    for name, content in page_files().items():
        assert not re.search(rb"""(?:href|src)=["']/|(?:ask|fetch|url|from)\s*\(?["'`]?/(?:v1|page)""", content), name


def test_a_sample_phantom_can_be_tried(visit):
    page = visit()
    page.locator("#samples button").nth(1).click()
    page.wait_for_selector(FIRST)
    assert page.inner_text("#file-name").startswith("Phantom: ")


def test_what_is_no_radiograph_is_refused_with_a_sentence(visit, phantom, tmp_path):
    page = visit(failing=True)
    (tmp_path / "notes.txt").write_text("Dear colleague, thank you for sending this patient.")
    page.set_input_files("#file", tmp_path / "notes.txt")
    page.wait_for_selector("#problem strong")
    assert page.inner_text("#problem strong") == "This is no file that the server reads."
    assert "PNG" in page.inner_text("#problem p") and "Try again" not in page.inner_text("#problem")
    (tmp_path / "broken.png").write_bytes(phantom.read_bytes()[:4000])
    page.set_input_files("#file", tmp_path / "broken.png")
    page.wait_for_function("() => document.querySelector('#problem strong')?.textContent.includes('cannot be read')")
    look(page, phantom)
    assert page.inner_text("#problem") == "" and page.is_hidden("#progress")


def test_a_file_that_is_too_large_is_not_even_sent(visit, tmp_path):
    page, sent = visit(), []
    page.on("request", lambda request: sent.append(request.method))
    (tmp_path / "large.png").write_bytes(b"\x89PNG" + bytes(1_100_000))
    page.set_input_files("#file", tmp_path / "large.png")
    page.wait_for_selector("#problem strong")
    assert page.inner_text("#problem strong") == "The file is too large."
    assert "at most 1 MiB" in page.inner_text("#problem p") and not sent


def test_a_server_that_is_gone_can_be_tried_again(visit, phantom):
    page = visit(failing=True)
    page.route("**/v1/predict*", lambda route: route.abort())
    page.set_input_files("#file", phantom)
    page.wait_for_selector("#problem button")
    assert "does not answer" in page.inner_text("#problem") and page.get_attribute("#problem", "role") == "alert"
    page.unroute("**/v1/predict*")
    page.click("#problem button")
    page.wait_for_selector(FIRST)
    assert page.inner_text("#problem") == ""


def test_waiting_can_be_ended(visit, phantom):
    page = visit()
    page.route("**/v1/predict*", lambda route: None)  # it is never answered
    page.set_input_files("#file", phantom)
    page.wait_for_selector("#cancel", state="visible")
    assert "Reading phantom.png" in page.inner_text("#progress-text")
    page.click("#cancel")
    page.wait_for_selector("#progress", state="hidden")
    assert page.inner_text("#status") == "Canceled." and page.inner_text("#problem") == ""


def test_a_script_in_a_file_name_is_text(visit, phantom):
    name = "<img src=x onerror=document.title='run'>.png"
    page = visit()
    look(page, {"name": name, "mimeType": "image/png", "buffer": phantom.read_bytes()})
    assert page.inner_text("#file-name") == name
    assert page.locator("#stage img").count() == 0 and page.title() != "run"


def test_a_dropped_file_is_read(visit, phantom):
    page = visit()
    code = """async (bytes) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png"));
        document.getElementById("drop").dispatchEvent(
            new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(code, list(phantom.read_bytes()))
    page.wait_for_selector(FIRST)
    assert page.inner_text("#file-name") == "dropped.png"


def says(page, theme):
    """Wait until the button offers this theme: the browser tells scripts of the system's when it renders the page."""
    page.wait_for_function("theme => document.getElementById('theme').textContent === theme", arg=theme)


def test_light_and_dark_follow_the_system_and_the_button(visit):
    background = "getComputedStyle(document.body).backgroundColor"
    page = visit(color_scheme="light")
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    says(page, "Light")
    dark = page.evaluate(background)
    assert dark != light
    page.click("#theme")
    says(page, "Dark")
    assert page.evaluate(background) == light
    page.reload()
    assert page.evaluate(background) == light


def test_it_fits_a_narrow_screen(visit, phantom):
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True)
    look(page, phantom)
    page.tap(FIRST)
    assert page.inner_text("#map-name") == RANKED[0]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for part in ("#stage", "#choose", FIRST, "#download-json"):
        box = page.locator(part).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360, part


def test_the_token_is_asked_for_and_kept_for_the_tab(visit, phantom, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    with running(token_file=tmp_path / "token") as guarded:
        page = visit(guarded, failing=True, ready="#token[open]")
        page.fill("#token-value", "not-the-right-token")
        page.click("#token button[type=submit]")
        page.wait_for_function("() => document.getElementById('token-text').textContent.includes('does not know')")
        page.fill("#token-value", "no-header-carries-Ł")
        page.click("#token button[type=submit]")
        assert page.is_visible("#token") and page.locator("#token-value:invalid").count() == 1
        page.fill("#token-value", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#samples button:enabled")
        look(page, phantom)
        page.reload()
        page.wait_for_selector("#samples button:enabled")
        assert page.is_hidden("#token") and page.evaluate("localStorage.length + document.cookie.length") == 0


def test_without_storage_the_page_works_and_keeps_the_token_itself(visit, phantom, tmp_path):
    denied = "{ get() { throw new DOMException('denied', 'SecurityError'); } }"
    off = "".join(f"Object.defineProperty(window, '{name}Storage', {denied});" for name in ("session", "local"))
    look(visit(script=off), phantom)
    (tmp_path / "token").write_text(TOKEN)
    with running(token_file=tmp_path / "token") as guarded:
        page = visit(guarded, failing=True, ready="#token[open]", script=off)
        page.fill("#token-value", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#samples button:enabled")
        look(page, phantom)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(visit, phantom, tmp_path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    # The page's policy would forbid the inspector that the test puts in.
    page = visit(color_scheme=scheme, bypass_csp=True, failing=True, reduced_motion="reduce")
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}

    def violations():
        result = axe.Axe().run(page, options=rules).response
        assert "color-contrast" in [sample["id"] for sample in result["passes"]]
        return [(rule["id"], [node["html"][:160] for node in rule["nodes"]]) for rule in result["violations"]]

    assert violations() == []
    (tmp_path / "notes.txt").write_text("no radiograph")
    page.set_input_files("#file", tmp_path / "notes.txt")
    page.wait_for_selector("#problem strong")
    assert violations() == []
    look(page, phantom)
    page.focus(FIRST)
    assert violations() == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert violations() == []


def test_its_colors_are_those_of_the_reports():
    css = page_files()["page.css"].decode()
    for name in ("card", "ink", "muted", "line", "head", "medium", "tail", "plain"):
        light, dark = PALETTE[name]
        assert f"--{name}: light-dark({light}, {dark});" in css


def test_every_file_is_served_and_none_needs_another_place():
    files = page_files()
    text = {name: content.decode() for name, content in files.items()}
    referred = set(re.findall(r'"(?:page|\.)/([\w.-]+)"', "".join(text.values())))
    assert referred | {"index.html"} == set(PAGE)
    for name, content in text.items():
        content = content.replace("http://www.w3.org/2000/svg", "")  # the name of a format, which is not fetched
        assert not re.search(r"https?://|@import|url\(", content), name
        assert "innerHTML" not in content and "eval(" not in content
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", text["index.html"])
