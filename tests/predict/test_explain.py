"""Overlays, pages and the gallery, and localization on the boxes of an evaluated split."""

import json
import os
import re
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.dataset.small_dataset import SPACE, write_dataset
from tests.model.small_run import write_run_beside
from tests.pages import assert_fits
from trcgl.cli import main as cli
from trcgl.core.errors import DataError, RecipeError
from trcgl.dataset.store import open_dataset
from trcgl.evaluate.evaluate import evaluate_run
from trcgl.metrics.localization import METRICS
from trcgl.model.run_folder import open_run
from trcgl.predict.explain import explain, of_files, of_rows, open_model
from trcgl.predict.gallery import gallery


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small", boxes=True)


@pytest.fixture(scope="module")
def evaluated_run(dataset, tmp_path_factory):
    """An evaluated run and its evaluation."""
    folder = write_run_beside(dataset, tmp_path_factory.mktemp("runs") / "run", attention_gate=0.5)
    return folder, evaluate_run(folder)


@pytest.fixture
def scans(tmp_path):
    """A tall radiograph, a wide one in a folder, and a file that is none."""
    folder = tmp_path / "scans"
    (folder / "a").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, shape in (("tall.png", (130, 70)), ("a/wide.jpg", (60, 144))):
        Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("not a radiograph")
    return folder


def test_overlays_have_the_full_resolution_of_each_file(evaluated_run, scans, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["explain", str(evaluated_run[0]), str(scans), "--out", str(out), "--top", "2", "--json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document == json.loads((out / "explanation.json").read_text())
    assert document["schema"] == "trcgl.explanation/1" and document["kind"] == "attention"
    shapes = {
        image["image_id"]: [Image.open(out / path).size for path in image["overlays"].values()]
        for image in document["images"]
    }
    assert shapes == {"tall.png": [(70, 130)] * 2, "a/wide.jpg": [(144, 60)] * 2}
    assert [image["image_id"] for image in document["unreadable"]] == ["notes.txt"]
    assert "unreadable: notes.txt" in printed.err and "Research use only" in printed.err
    assert all((out / image["figure"]).is_file() for image in document["images"])


def test_the_page_is_one_file_that_shows_every_radiograph_once(evaluated_run, scans, tmp_path):
    model = open_model(evaluated_run[0])
    files = {"tall.png": scans / "tall.png", "<b>.jpg": scans / "a" / "wide.jpg"}
    explain(model, of_files(model, files), list(files), tmp_path / "out", findings=("Edema", "Hernia"))
    page = (tmp_path / "out" / "explanation.html").read_text()
    assert page.count("data:image/jpeg") == 2 and page.count("data:image/png") == 4
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert "&lt;b&gt;.jpg" in page and "<b>.jpg" not in page
    assert "Research use only" in page
    for link in re.findall(r'href="([^"#]+)"', page):
        assert (tmp_path / "out" / link).is_file(), link


def test_the_pages_open_with_a_summary_and_fit_a_phone(evaluated_run, dataset, scans, tmp_path):
    model, files = open_model(evaluated_run[0]), {"tall.png": scans / "tall.png", "w" * 90: scans / "a" / "wide.jpg"}
    explain(model, of_files(model, files), list(files), tmp_path / "out")
    run, findings = open_run(evaluated_run[0]), ("Normal", "Edema", "Mass")
    gallery(run, open_dataset(dataset), tmp_path / "gallery", findings=findings)
    pages = tmp_path / "out" / "explanation.html", tmp_path / "gallery" / "gallery.html"
    assert "of 2 radiographs" in pages[0].read_text().split("<main>")[0]
    text = pages[1].read_text()
    assert re.search(r"In 24 radiographs the model found \d+ of \d+ labeled findings", text.split("<main>")[0])
    places = [text.index(f'<div id="f{SPACE.index(finding)}"') for finding in ("Mass", "Edema", "Normal")]
    assert max(places) == places[2]  # findings before the normal label
    assert text.count("<details open>") == 1 and text.count("<details>") == 2
    assert_fits(*pages)


def test_rows_of_a_dataset_stand_beside_their_labels(evaluated_run, dataset, tmp_path):
    model, opened = open_model(evaluated_run[0]), open_dataset(dataset)
    row = opened.manifest.filter(pl.col("split") == "test", pl.col("Hernia") == 1).row(0, named=True)
    out = tmp_path / "out"
    document = explain(model, of_rows(model, opened, [row["image_id"]]), [row["image_id"]], out, kind="grad_cam", top=1)
    (explained,) = document["images"]
    assert explained["truth"] == {finding: row[finding] for finding in SPACE.findings}
    assert "Hernia" in explained["overlays"]  # present, so it is mapped whatever its score
    assert "label: present" in (out / "explanation.html").read_text()
    np.testing.assert_allclose(
        list(explained["scores"].values()), model.score(opened.images[[row["row"]]])[0], atol=1e-5
    )


def test_the_corrected_command_may_use_the_folder_of_one_that_failed(evaluated_run, scans, tmp_path, monkeypatch):
    model, files = open_model(evaluated_run[0]), {"tall.png": scans / "tall.png"}
    with monkeypatch.context() as patch, pytest.raises(DataError, match="no map"):
        patch.setattr("trcgl.predict.explain.maps", Mock(side_effect=DataError("no map")))
        explain(model, of_files(model, files), list(files), tmp_path / "out", top=1)
    assert explain(model, of_files(model, files), list(files), tmp_path / "out", top=2)["images"]


def test_a_folder_of_something_else_is_never_written_into(evaluated_run, scans, tmp_path):
    model = open_model(evaluated_run[0])
    files = {"tall.png": scans / "tall.png"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(RecipeError, match="was not made by trcgl"):
        explain(model, of_files(model, files), list(files), tmp_path / "mine")
    explain(model, of_files(model, files), list(files), tmp_path / "out", top=1)
    explain(model, of_files(model, files), list(files), tmp_path / "out", top=1)
    with pytest.raises(RecipeError, match="made with other settings"):
        explain(model, of_files(model, files), list(files), tmp_path / "out", kind="grad_cam", top=1)
    with pytest.raises(RecipeError, match="made with other settings"):
        explain(model, of_files(model, files), ["of another day"], tmp_path / "out", top=1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["{scans}", "--findings", "Gout"], "unknown finding 'Gout'"),
        (["{scans}/notes.txt"], "not one of 1 files can be read"),
        (["{dataset}", "{scans}"], "Give it alone"),
        (["{scans}", "--images", "a.png"], "Give a dataset folder"),
        (["{dataset}", "--images", "a.png"], "has no image 'a.png'"),
        (["{dataset}", "--split", "test", "--findings", "Gout"], "unknown finding 'Gout'"),
        (["{scans}", "--top", "0"], "at least one finding"),
        (["{dataset}", "--top", "0"], "at least one example"),
    ],
)
def test_a_mistake_is_reported_in_one_line(flags, message, evaluated_run, dataset, scans, tmp_path, capsys):
    given = [flag.format(scans=scans, dataset=dataset) for flag in flags]
    assert cli.main(["explain", str(evaluated_run[0]), *given, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # else it would refuse the command that is put right


def test_maps_that_the_head_lacks_are_refused_before_a_folder_is_made(evaluated_run, dataset, scans, tmp_path):
    linear = open_model(write_run_beside(dataset, tmp_path / "linear", head="linear"))
    files, out = {"tall.png": scans / "tall.png"}, tmp_path / "out"
    with pytest.raises(RecipeError, match="Ask for grad_cam"):
        explain(linear, of_files(linear, files), list(files), out, kind="attention")
    with pytest.raises(RecipeError, match="Ask for grad_cam"):
        gallery(replace(open_run(evaluated_run[0]), model=linear), open_dataset(dataset), out, kind="attention")
    assert not out.exists()


@pytest.mark.parametrize("name", ["M" * 300, "ü" * 300])
def test_names_are_shortened_to_what_a_file_system_takes(name, evaluated_run, scans, tmp_path):
    model, out = open_model(evaluated_run[0]), tmp_path / "out"
    files = {f"{name}/1.png": scans / "tall.png", f"{name}/2.png": scans / "a" / "wide.jpg"}
    document = explain(model, of_files(model, files), list(files), out, top=1)
    assert [image["image_id"] for image in document["images"]] == list(files)
    assert len({image["figure"] for image in document["images"]}) == 2
    assert all(
        (out / path).is_file()
        for image in document["images"]
        for path in (image["figure"], *image["overlays"].values())
    )


def test_the_folder_may_have_a_name_that_is_not_utf_8(evaluated_run, scans, tmp_path):
    model, out = open_model(evaluated_run[0]), tmp_path / os.fsdecode(b"M\xfcller")
    try:
        out.mkdir()
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    files = {"tall.png": scans / "tall.png"}
    document = explain(model, of_files(model, files), list(files), out, top=1)
    assert document == json.loads((out / "explanation.json").read_text()) and (out / document["page"]).is_file()


def test_the_gallery_shows_what_was_called_missed_and_wrongly_called(evaluated_run, dataset, tmp_path):
    folder, result = evaluated_run
    opened = open_dataset(dataset)
    document = gallery(open_run(folder), opened, tmp_path / "gallery", each=2)
    truth = {row["image_id"]: row for row in opened.split("test").iter_rows(named=True)}
    for example in document["examples"]:
        called = example["score"] >= result["findings"][example["finding"]]["threshold"]
        present = truth[example["image_id"]][example["finding"]] == 1
        assert example["outcome"] == {(1, 1): "true positive", (0, 1): "miss", (1, 0): "false alarm"}[called, present]
    counts = pl.DataFrame(document["examples"]).group_by("finding", "outcome").len()["len"]
    assert len(counts) >= 3 and counts.max() <= 2
    page = (tmp_path / "gallery" / "gallery.html").read_text()
    assert page.count("data:image/jpeg") == len({example["image_id"] for example in document["examples"]})
    assert page.count("<figure>") == len(document["examples"]) and 'class="box"' in page
    assert f'id="f{SPACE.index("Normal")}"' not in page  # it does not count in the means


def test_a_split_that_was_not_evaluated_has_no_gallery(dataset, tmp_path):
    folder = write_run_beside(dataset, tmp_path / "run")
    with pytest.raises(DataError, match="run `trcgl evaluate` first"):
        gallery(open_run(folder), open_dataset(dataset), tmp_path / "out")


def test_evaluate_measures_where_the_model_looks_on_images_with_boxes(evaluated_run, dataset):
    folder, result = evaluated_run
    document = result["localization"]
    assert document["kinds"] == ["attention", "grad_cam"] and list(document["findings"]) == list(SPACE.findings[:3])
    rows = pl.read_parquet(folder / "predictions" / "test.localization.parquet")
    positives = open_dataset(dataset).split("test").select(SPACE.findings[:3]).sum().row(0)
    assert [document["findings"][finding]["images"] for finding in SPACE.findings[:3]] == list(positives)
    assert rows.height == sum(positives)
    for metric in METRICS:
        assert 0 <= document["overall"]["grad_cam"][metric]["value"] <= 1
    page = (folder / "report.html").read_text()
    assert 'id="localization"' in page and "Attention maps of the head" in page and "Grad-CAM" in page
    energy = document["findings"]["Mass"]["grad_cam"]["energy"]
    assert f"{energy['value']:.3f}" in page and f"random {energy['against']['random']['value']:.3f}" in page


def test_localization_can_be_switched_off(evaluated_run, capsys):
    folder, result = evaluated_run
    assert cli.main(["evaluate", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "localization: " in said and "null: centered gaussian" in said
    assert cli.main(["evaluate", str(folder), "--no-localization", "--json"]) == 0
    without = json.loads(capsys.readouterr().out)
    assert "localization" not in without and without["overall"] == result["overall"]
    assert 'id="localization"' not in (folder / "report.html").read_text()


def test_without_boxes_no_map_is_made(tmp_path, monkeypatch):
    bare = write_dataset(tmp_path / "bare")
    folder = write_run_beside(bare, tmp_path / "run", head="linear")
    monkeypatch.setattr("trcgl.evaluate.localize.maps", None)
    assert "localization" not in evaluate_run(folder, split="val")
