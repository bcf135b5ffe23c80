import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from tests.evaluate.examples import SPACE, predictions
from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.store import Dataset
from trcgl.evaluate.evaluation import judge
from trcgl.evaluate.predictions import write_predictions
from trcgl.evaluate.report import write_report

VOID = {"meta", "img", "br", "path", "use", "image", "rect"}


class Outline(HTMLParser):
    """Open tags that are never closed, ids and the words of a page."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.words = [], [], []

    def handle_starttag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def write_run(folder, scored, split="test", name=None):
    thresholds = dict.fromkeys(SPACE.findings, 0.3)
    storage.write_json(folder / "model" / "model.json", {"label_space": SPACE.to_dict(), "temperature": 1.25})
    write_predictions(folder / "predictions" / f"{name or split}.parquet", scored)
    told = judge(scored, SPACE, thresholds, split=split, replicates=120)
    storage.write_json(folder / "evaluation" / f"{name or split}.json", told)
    return folder


def dataset_of(folder, scored, source):
    labels = {one: scored.truth[:, column] for column, one in enumerate(SPACE.findings)}
    manifest = pl.DataFrame({"image_id": scored.image_id, "row": range(len(scored)), **labels})
    images = np.random.default_rng(0).integers(0, 255, (len(scored), 16, 16)).astype(np.uint8)
    info = {
        "name": "tiny", "source": source, "notes": ["labels from reports"], "license": "CC0",
        "cooccurrence": counts(manifest, SPACE).to_dict(),
    }  # fmt: skip
    return Dataset(folder / "tiny", info, SPACE, manifest, images, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("runs") / "small", predictions())
    storage.write_json(folder / "run.json", {"command": "trcgl train tiny --out small"})
    lines = [{"step": step, "train/loss": 1 / step, "gate/attention": 0.2, "gate/graph": 0.004} for step in range(1, 9)]
    lines += [{"step": 8, "val/mAP": 0.3, "val/mAP_tail": 0.1}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return write_report(folder, dataset_of(folder, predictions(), "phantom")).read_text()


@pytest.fixture(scope="module")
def outline(page):
    outline = Outline()
    outline.feed(page)
    return outline


def test_the_page_is_whole_and_needs_nothing_from_outside(page, outline):
    assert outline.open == []
    assert not re.search(r'(src|href)="(https?:)?//', page) and "<link" not in page and "@import" not in page
    links = re.findall(r'href="#([\w]+)"', page)
    assert set(links) >= {"headline", "findings", "tail", "numbers"} and set(links) <= set(outline.ids)


def test_every_number_of_the_headline_stands_with_its_interval_and_its_findings(page, folder):
    told = storage.read_json(folder / "evaluation" / "test.json")
    for one in told["overall"].values():
        assert f"{one['value']:.3f}" in page and f"{one['ci'][0]:.3f}–{one['ci'][1]:.3f}" in page
    assert "mean over 3 findings" in page and "600 images of 300 patients" in page
    for finding, one in told["findings"].items():
        assert finding in page and f"{one['AP']['value']:.3f}" in page


def test_it_shows_mistakes_by_image_and_never_by_patient(page):
    assert "False alarms" in page and "Misses" in page and "data:image/png" in page
    assert re.search(r"<code>image-\d+</code>", page)
    assert "patient-" not in page and "study-" not in page


def test_it_says_research_use_phantoms_temperature_and_commands(page):
    assert "Research use only" in page and "Phantoms, not patients" in page
    assert "Temperature fitted on val: 1.250" in page
    assert "trcgl train tiny --out small" in page and "trcgl evaluate small" in page


def test_a_gate_that_ended_near_zero_is_called_unused(page):
    assert "The graph module is unused" in page and "The attention module is unused" not in page


def test_figures_lie_beside_the_page(folder, page):
    names = {"findings", "precision_recall", "reliability", "label_distribution", "cooccurrence", "training"}
    assert {path.name for path in (folder / "figures").iterdir()} == {f"test_{name}.svg" for name in names}
    assert page.count('role="img"') == len(names)


def test_a_run_without_dataset_log_or_some_positives_still_has_a_page(tmp_path):
    one = predictions(40)
    truth = one.truth.copy()
    truth[:, 3] = 0
    bare = write_run(tmp_path / "bare", dataclasses.replace(one, truth=truth))
    page = write_report(bare).read_text()
    assert "no positive in this split" in page
    assert "Most confident mistakes" not in page and "Phantoms" not in page and 'id="training"' not in page


def test_a_report_on_another_dataset_stands_beside_that_on_test(folder):
    scored = predictions(40, seed=3)
    write_run(folder, scored, name="tiny-test")
    path = write_report(folder, dataset_of(folder, scored, "nih"), "tiny-test")
    assert path.name == "report-tiny-test.html" and (folder / "report.html").exists()
    page = path.read_text()
    assert "trcgl evaluate small --dataset tiny" in page and "Phantoms" not in page


def test_names_from_a_label_table_are_escaped(tmp_path):
    space = dataclasses.replace(SPACE, findings=("a<b>", *SPACE.findings[1:]), groups={}, normal=None)
    one = dataclasses.replace(predictions(40), space=space)
    folder = tmp_path / "odd"
    storage.write_json(folder / "model" / "model.json", {})
    write_predictions(folder / "predictions" / "test.parquet", one)
    told = judge(one, space, dict.fromkeys(space.findings, 0.3), split="test", replicates=120)
    storage.write_json(folder / "evaluation" / "test.json", told)
    page = write_report(folder).read_text()
    assert "a&lt;b&gt;" in page and "a<b>" not in page


def test_a_run_that_was_not_evaluated_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"test\.json"):
        write_report(tmp_path)
    storage.write_json(tmp_path / "evaluation" / "test.json", {"schema": "other"})
    with pytest.raises(DataError, match="no evaluation"):
        write_report(tmp_path)
