"""A kit does not give away which image is synthetic; every mistake in ratings is named by its row."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from trcgl.audit.reader_kit import COLUMNS, NONE, read_ratings, write_kit
from trcgl.core.errors import DataError

FINDINGS = ("Hernia", "azygos lobe")
KINDS = ["real", "synthetic"] * 6
SHOWN = ["Hernia", "azygos lobe", None] * 4


def pictures(count=12, side=32):
    return np.random.default_rng(0).integers(0, 255, (count, side, side)).astype(np.uint8)


@pytest.fixture
def kit(tmp_path):
    write_kit(tmp_path / "kit", tmp_path / "key", pictures(), KINDS, SHOWN, FINDINGS, seed=3)
    return tmp_path


def rated(folder, rating):
    """Write ratings as the page saves them; `rating` takes what the key says about a case."""
    key = json.loads((folder / "key" / "key.json").read_text())
    rows = [[key["kit"], case["case"], *rating(case)] for case in key["cases"]]
    return saved(folder / "ratings.csv", rows)


def saved(path, rows, **how):
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL, **how).writerows([COLUMNS, *rows])
    path.write_text(stream.getvalue(), encoding="utf-8", newline="")
    return path


def truly(one):
    return [one["kind"], "4", one["finding"] or NONE, ""]


def test_the_page_shows_every_image_once_in_random_order(kit):
    page = (kit / "kit" / "index.html").read_text()
    key = json.loads((kit / "key" / "key.json").read_text())
    seen = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
        for picture in re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    ]
    rows = [case["row"] for case in key["cases"]]
    assert sorted(rows) == list(range(12)) and rows != list(range(12))
    assert all((image == pictures()[row]).all() for image, row in zip(seen, rows, strict=True))
    assert [(case["kind"], case["finding"]) for case in key["cases"]] == [(KINDS[row], SHOWN[row]) for row in rows]


def test_the_page_is_the_same_whichever_images_are_synthetic(tmp_path):
    other = ["synthetic", "real"] * 6
    for name, kinds, shown in (("one", KINDS, SHOWN), ("other", other, [None] * 12)):
        write_kit(tmp_path / name, tmp_path / f"{name}-key", pictures(), kinds, shown, FINDINGS, seed=3)
    for file in ("index.html", "kit.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["index.html", "kit.json"]


def test_the_page_needs_nothing_from_outside_and_every_field_has_a_name(kit):
    page = (kit / "kit" / "index.html").read_text()
    assert not re.search(r'(src|href)="(https?:)?//', page) and "@import" not in page and "fetch(" not in page
    assert "Research use only" in page and "Phantoms" not in page

    class Fields(HTMLParser):
        def __init__(self):
            super().__init__()
            self.ids, self.named, self.fields, self.depth = [], [], [], 0

        def handle_starttag(self, tag, attributes):
            given = dict(attributes)
            self.ids += [given["id"]] if "id" in given else []
            self.named += [given["for"]] if tag == "label" and "for" in given else []
            self.depth += tag == "label"
            if tag in ("select", "input") and not self.depth:
                self.fields.append(given["id"])

        def handle_endtag(self, tag):
            self.depth -= tag == "label"

    fields = Fields()
    fields.feed(page)
    assert len(fields.ids) == len(set(fields.ids)) and fields.depth == 0
    assert sorted(fields.fields) == sorted(fields.named) and len(fields.fields) == 24


def test_findings_are_shown_as_text(tmp_path):
    write_kit(tmp_path / "kit", tmp_path / "key", pictures(), KINDS, [None] * 12, ("<b>x</b>",), seed=0, phantom=True)
    page = (tmp_path / "kit" / "index.html").read_text()
    assert "<b>x</b>" not in page and "&lt;b&gt;x" in page and "Phantoms, not patients" in page


def test_a_reader_who_is_always_right(kit):
    result = read_ratings(kit / "kit", kit / "key", rated(kit, truly))
    assert result["images"] == {"all": 12, "real": 6, "synthetic": 6}
    assert result["accuracy"]["value"] == 1 and result["accuracy"]["n"] == 12
    assert result["accuracy"]["ci"] == pytest.approx([0.7575, 1], abs=1e-3)  # Wilson: 12 / (12 + 1.96²)
    assert result["by_confidence"]["4"]["n"] == 12 and result["by_confidence"]["1"]["value"] is None
    assert result["finding_agreement"]["synthetic"] == result["finding_agreement"]["real"]
    assert result["finding_agreement"]["real"]["value"] == 1 and result["finding_agreement"]["real"]["n"] == 4
    json.dumps(result, allow_nan=False)


def test_a_reader_who_calls_everything_real(kit):
    path = rated(kit, lambda one: ["real", "1", "Hernia", "blurred, I think" if one["row"] == 5 else ""])
    result = read_ratings(kit / "kit", kit / "key" / "key.json", path)
    assert result["called"] == {"real": {"real": 6, "synthetic": 0}, "synthetic": {"real": 6, "synthetic": 0}}
    assert result["accuracy"]["value"] == 0.5
    assert [result["accuracy"]["by_kind"][kind]["value"] for kind in ("real", "synthetic")] == [1, 0]
    assert result["finding_agreement"]["synthetic"]["value"] == 0.5
    assert list(result["remarks"].values()) == ["blurred, I think"]


def test_ratings_that_a_spreadsheet_saved_again_are_read(kit):
    path = rated(kit, truly)
    text = path.read_text().replace('"', "").replace(",", ";")
    path.write_text("\ufeff" + text + "\n;;;;;\n", encoding="utf-8")
    assert read_ratings(kit / "kit", kit / "key", path)["accuracy"]["value"] == 1


def test_kits_and_ratings_of_0_1_0_are_read(kit):
    path = rated(kit, truly)
    path.write_text(path.read_text().replace("synthetic", "drawn"))
    key = kit / "key" / "key.json"
    key.write_text(key.read_text().replace("synthetic", "drawn"))
    assert "real_or_drawn" in path.read_text() and '"drawn"' in key.read_text()
    result = read_ratings(kit / "kit", kit / "key", path)
    assert result["accuracy"]["value"] == 1 and result["images"]["synthetic"] == 6


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("confidence", "6", r"row 4: confidence is '6'; it must be one of 1, 2, 3, 4, 5"),
        ("confidence", "", r"row 4: case-0003 has no confidence"),
        ("real_or_synthetic", "fake", r"row 4: real_or_synthetic is 'fake'"),
        ("finding", "Mass", r"row 4: finding is 'Mass'"),
        ("case", "case-9999", r"row 4: the kit has no case 'case-9999'"),
        ("case", "case-0001", r"row 4: case-0001 is rated twice"),
        ("kit", "0123456789ab", r"row 4: kit '0123456789ab'; these are ratings of another kit"),
    ],
)
def test_a_mistake_is_named_by_its_row(kit, column, value, words):
    path = rated(kit, truly)
    rows = list(csv.reader(path.open(newline="")))[1:]
    rows[2][COLUMNS.index(column)] = value
    with pytest.raises(DataError, match=words):
        read_ratings(kit / "kit", kit / "key", saved(path, rows))


def test_missing_rows_columns_and_files_are_named(kit):
    path = rated(kit, truly)
    rows = list(csv.reader(path.open(newline="")))[1:]
    with pytest.raises(DataError, match="2 of 12 cases have no row, the first is case-0005"):
        read_ratings(kit / "kit", kit / "key", saved(path, rows[:4] + rows[6:]))
    path.write_text("kit,case\nx,y\n")
    with pytest.raises(DataError, match="no column 'real_or_synthetic'"):
        read_ratings(kit / "kit", kit / "key", path)
    for content in (b"", b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"ratings\.csv"):
            read_ratings(kit / "kit", kit / "key", path)
    with pytest.raises(DataError, match="no such file"):
        read_ratings(kit / "kit", kit / "key", kit / "absent.csv")


def test_a_key_of_another_kit_is_refused(kit):
    write_kit(kit / "kit2", kit / "key2", pictures(side=16), KINDS, SHOWN, FINDINGS, seed=3)
    with pytest.raises(DataError, match="is the key of kit"):
        read_ratings(kit / "kit", kit / "key2", rated(kit, truly))
    with pytest.raises(DataError, match="not a reader kit and its key"):
        read_ratings(kit / "kit", kit / "kit" / "kit.json", rated(kit, truly))


@pytest.mark.parametrize("key", ["kit", "kit/key", "kit/../kit/key"])
def test_the_key_never_lies_in_the_kit(tmp_path, key):
    with pytest.raises(DataError, match="would get the key"):
        write_kit(tmp_path / "kit", tmp_path / key, pictures(), KINDS, SHOWN, FINDINGS, seed=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kinds": ["real"] * 12}, "no image is synthetic"),
        ({"kinds": ["real", "synthetic"]}, "12 images, 2 kinds"),
        ({"shown": ["Mass"] * 12}, "'Mass' is shown but not among"),
        ({"findings": ("Hernia", "Hernia", "azygos lobe")}, "differ from each other"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, change, words):
    given = {"images": pictures(), "kinds": KINDS, "shown": SHOWN, "findings": FINDINGS, "seed": 0} | change
    with pytest.raises(DataError, match=words):
        write_kit(tmp_path / "kit", tmp_path / "key", **given)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FILL = """
<script>
const keys = (one, list) => { for (const key of list)
  one.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })); };
cases.forEach((one, place) => {
  keys(one, [place % 2 ? "s" : "r", String(1 + place % 5)]);
  choose(one, "finding", place % 3 ? "Hernia" : "none of these");
  form.elements[one.dataset.case + "-remark"].value = place ? "" : 'a "quoted", remark';
});
const shown = document.createElement("pre");
shown.id = "saved";
shown.textContent = document.getElementById("progress").textContent + "|" + csv();
document.body.replaceChildren(shown);
</script></body>
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser; install chromium to run the page")
def test_what_a_reader_types_comes_back_through_the_csv(kit):
    page = (kit / "kit" / "index.html").read_text()
    (kit / "typed.html").write_text(page.replace("</body>", FILL))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={kit / 'profile'}"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=2000", "--dump-dom", f"file://{kit / 'typed.html'}"],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    progress, text = re.search(r'<pre id="saved">(.*?)</pre>', done.stdout, re.DOTALL)[1].split("|", 1)
    assert progress == "12 of 12 rated"
    (kit / "ratings.csv").write_text(text, encoding="utf-8")
    result = read_ratings(kit / "kit", kit / "key", kit / "ratings.csv")
    assert result["images"]["all"] == 12 and result["remarks"] == {"case-0001": 'a "quoted", remark'}
    assert result["by_confidence"]["1"]["n"] == 3
    assert sum(result["called"][kind]["synthetic"] for kind in ("real", "synthetic")) == 6
