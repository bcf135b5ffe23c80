import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from tests.evaluate.examples import SPACE, predictions
from trcgl.core import storage
from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.store import Dataset
from trcgl.evaluate.evaluation import evaluate
from trcgl.evaluate.report import lead
from trcgl.evaluate.report import report as report_files

VOID = {"meta", "img", "br", "path", "use", "image", "rect"}


class Outline(HTMLParser):
    """Open tags that are never closed, ids and the text of a page."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.texts = [], [], []

    def handle_starttag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


THRESHOLDS = dict.fromkeys(SPACE.findings, 0.3)


def report(folder, scored, dataset=None, split="test", evaluation=None, **how):
    evaluation = evaluation or evaluate(scored, THRESHOLDS, split=split, replicates=120)
    files = report_files(folder, evaluation, scored, dataset, **how)
    for name, text in files.items():
        storage.write_text(folder / name, text)
    return folder / list(files)[-1]


def dataset_of(folder, scored, source):
    labels = {finding: scored.truth[:, column] for column, finding in enumerate(SPACE.findings)}
    manifest = pl.DataFrame({"image_id": scored.image_id, "row": range(len(scored)), **labels})
    images = np.random.default_rng(0).integers(0, 255, (len(scored), 16, 16)).astype(np.uint8)
    info = {
        "name": "tiny", "source": source, "notes": ["labels from reports"], "license": "CC0",
        "cooccurrence": counts(manifest, SPACE).to_dict(),
    }  # fmt: skip
    return Dataset(folder / "tiny", info, SPACE, manifest, images, None)


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(predictions(), THRESHOLDS, split="test", replicates=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    folder.mkdir()
    lines = [{"step": step, "train/loss": 1 / step, "gate/attention": 0.2, "gate/graph": 0.004} for step in range(1, 9)]
    lines += [{"step": 8, "val/mAP": 0.3, "val/mAP_tail": 0.1}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def page(folder, evaluation):
    dataset = dataset_of(folder, predictions(), "phantom")
    how = {"evaluation": evaluation, "command": "trcgl train tiny --out small", "temperature": 1.25}
    return report(folder, predictions(), dataset, **how).read_text()


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


def test_every_number_of_the_headline_stands_with_its_interval_and_its_findings(page, evaluation):
    for mean in evaluation["overall"].values():
        assert f"{mean['value']:.3f}" in page and f"{mean['ci'][0]:.3f}–{mean['ci'][1]:.3f}" in page
    assert "mean over 3 findings" in page and "600 test phantoms of 300 patients" in page
    for name, finding in evaluation["findings"].items():
        assert name in page and f"{finding['AP']['value']:.3f}" in page


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


def test_a_report_without_dataset_log_or_some_positives_is_still_a_page(tmp_path):
    scored = predictions(40)
    truth = scored.truth.copy()
    truth[:, 3] = 0
    page = report(tmp_path, dataclasses.replace(scored, truth=truth)).read_text()
    assert "no positive in this split" in page
    assert "Hernia is left out, because it has no positive in this split" in page
    assert "Most confident mistakes" not in page and "Phantoms" not in page and 'id="training"' not in page


def test_a_report_on_another_dataset_stands_beside_that_on_test(folder, page):
    scored = predictions(40, seed=3)
    path = report(folder, scored, dataset_of(folder, scored, "nih"), name="tiny-test")
    assert path.name == "report-tiny-test.html" and (folder / "report.html").exists()
    page = path.read_text()
    assert "trcgl evaluate small --dataset tiny" in page and "Phantoms" not in page


def test_names_from_a_label_table_are_escaped(tmp_path):
    space = dataclasses.replace(SPACE, findings=("a<b>", *SPACE.findings[1:]), groups={}, normal=None)
    scored = dataclasses.replace(predictions(40), space=space)
    evaluation = evaluate(scored, dict.fromkeys(space.findings, 0.3), split="test", replicates=120)
    page = report(tmp_path, scored, evaluation=evaluation).read_text()
    assert "a&lt;b&gt;" in page and "a<b>" not in page


def test_an_evaluation_of_an_earlier_version_lacks_metrics_and_still_has_a_page(tmp_path, evaluation):
    def earlier(value):
        if not isinstance(value, dict):
            return value
        return {key: earlier(part) for key, part in value.items() if key.removeprefix("m") not in ("SENS95", "PPV")}

    page = report(tmp_path, predictions(), evaluation=earlier(evaluation)).read_text()
    assert "mECE" in page and "mPPV" not in page


def test_the_first_sentences_say_what_was_found(page, evaluation):
    assert lead(evaluation, "phantoms") in page
    sentences = lead(evaluation)
    value, (low, high) = evaluation["overall"]["mAUC"]["value"], evaluation["overall"]["mAUC"]["ci"]
    assert f"mean AUROC of {value:.2f} (95 % interval {low:.2f}–{high:.2f}, 0.5 is chance)" in sentences
    assert "It is good (the whole interval is above 0.8) for no finding, effusion" in sentences


def test_a_benchmark_that_ranks_by_average_precision_has_its_macro_map_first(tmp_path, evaluation):
    ranked = {**evaluation, "headline": "AP"}
    value, (low, high) = (evaluation["overall"]["mAP"][key] for key in ("value", "ci"))
    sentence = (
        f"macro mAP, by which methods are ranked on this dataset, is {value:.3f} (95 % interval {low:.3f}–{high:.3f})"
    )
    assert sentence in lead(ranked) and "macro mAP" not in lead(evaluation)
    assert "mean AUROC of" in lead(ranked).partition("macro mAP")[2]
    page = report(tmp_path, predictions(), evaluation=ranked).read_text()
    assert re.findall(r'<div class="name">(m\w+)</div>', page)[0] == "mAP"


def test_a_finding_is_called_good_only_where_its_whole_interval_is():
    evaluation = evaluate(predictions(signal=0.0), THRESHOLDS, split="val", replicates=120)
    sentences = lead(evaluation)
    assert "validation radiographs" in sentences and "good" not in sentences.split("not shown to be better")[0]
    assert "not shown to be better than chance for" in sentences


def test_too_few_patients_are_said_to_be_too_few():
    evaluation = evaluate(predictions(40), THRESHOLDS, split="test", replicates=120)
    assert "too few patients to tell for" in lead(evaluation) and "hernia" in lead(evaluation)
