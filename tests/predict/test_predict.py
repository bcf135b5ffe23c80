"""Scores for files and folders, as a person with a folder of radiographs asks for them."""

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from tests.dataset.small_dataset import small_recipe
from tests.model.small_run import THRESHOLDS, write_model, write_run
from trcgl.core.errors import CheckpointError, DataError, RecipeError
from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.sources import table
from trcgl.dataset.store import open_dataset
from trcgl.metrics.calibrate import calibrated
from trcgl.model.folder import load_model
from trcgl.model.scoring import score_images
from trcgl.predict.inputs import find_files
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict
from trcgl.predict.scores import as_text, write_scores


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def scans(tmp_path):
    """Five radiographs in two folders, a broken one, a text file and a hidden file."""
    folder = tmp_path / "scans"
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.jpg", "3.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 36), dtype=np.uint8)).save(folder / name)
    (folder / "a" / "broken.png").write_bytes((folder / "a" / "1.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("not a radiograph")
    (folder / ".DS_Store").write_bytes(b"hidden")
    return folder


def test_a_folder_is_searched_in_depth_and_ids_are_paths_below_it(run, scans):
    assert predict(run, [scans]).table["image_id"].to_list() == ["3.png", "a/1.png", "a/2.png", "b/1.png", "b/2.jpg"]


def test_a_name_that_is_not_utf_8_is_an_image_like_others(run, scans, tmp_path):
    folder = tmp_path / "old share"
    folder.mkdir()
    path = os.fsencode(folder / "M") + b"\xfcller.png"
    try:
        with open(path, "wb") as handle:
            handle.write((scans / "3.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    (folder / "notes.txt").write_text("not a radiograph")
    scores = predict(run, [folder])
    assert scores.table["image_id"].to_list() == [r"M\xfcller.png"]
    assert scores.unreadable["image_id"].to_list() == ["notes.txt"]


def test_unreadable_files_are_listed_with_a_reason_and_the_rest_is_done(run, scans):
    scores = predict(run, [scans])
    assert scores.table.height == 5
    reasons = dict(scores.unreadable.iter_rows())
    assert set(reasons) == {"a/broken.png", "notes.txt"}
    assert reasons["notes.txt"].startswith("not a PNG, JPEG or DICOM file")
    assert not any(str(scans) in reason for reason in reasons.values())


def test_a_folder_that_cannot_be_opened_is_named_among_the_unreadable(run, scans, monkeypatch):
    listed = os.listdir

    def refuse(folder):
        if str(folder).endswith("b"):
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(os, "listdir", refuse)
    scores = predict(run, [scans], PredictOptions(workers=1))
    assert scores.table["image_id"].to_list() == ["3.png", "a/1.png", "a/2.png"]
    assert scores.unreadable["image_id"].to_list() == ["a/broken.png", "b", "notes.txt"]


def test_linked_folders_are_searched_and_links_in_a_circle_end(scans, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "4.png").touch()
    (tmp_path / "elsewhere" / "back").symlink_to(scans)
    (scans / "b" / "linked").symlink_to(tmp_path / "elsewhere")
    assert list(find_files([scans / "b"])) == [
        "1.png",
        "2.jpg",
        "linked/4.png",
        *(f"linked/back/{name}" for name in ("3.png", "a/1.png", "a/2.png", "a/broken.png", "notes.txt")),
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"workers": -1}, "--workers -1"), ({"batch_size": 0}, "--batch-size 0"), ({"seconds": 0.0}, "--seconds 0")],
)
def test_settings_that_can_do_nothing_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        PredictOptions(**settings)


def test_ids_stay_apart_where_several_folders_hold_the_same_names(scans):
    assert list(find_files([scans / "a", scans / "b" / "1.png"])) == ["a/1.png", "a/2.png", "a/broken.png", "b/1.png"]


@pytest.mark.parametrize("fit", ["letterbox", "squash"])
@pytest.mark.parametrize(("stored_size", "image_size"), [(64, 32), (32, 48), (48, 32)])
def test_files_are_scored_as_evaluate_scores_their_stored_rows(stored_size, image_size, fit, tmp_path):
    """Training, evaluation and prediction see the same pixels where the stored size is not the network's."""
    rng = np.random.default_rng(3)
    files = {f"p{row}.png": rng.integers(0, 255, (150 - 9 * row, 133), dtype=np.uint8) for row in range(4)}
    (tmp_path / "archive").mkdir()
    for name, pixels in files.items():
        Image.fromarray(pixels).save(tmp_path / "archive" / name)
    lines = [f"{name},{name},{row % 2},{1 - row % 2}" for row, name in enumerate(files)]
    (tmp_path / "archive" / "labels.csv").write_text("\n".join(["image,patient,Mass,Edema", *lines]))
    source = table.Options(finding_columns=("Mass", "Edema"), patient_column="patient")
    options = PrepareOptions(size=stored_size, fit=fit)
    prepare("table", tmp_path / "archive", tmp_path / "data", options, source)
    dataset = open_dataset(tmp_path / "data")

    recipe = small_recipe()
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, image_size=image_size))
    model = write_model(tmp_path / "model", recipe, dataset.space, fit=fit, stored_size=stored_size)
    rows = dataset.manifest.sort("path")["row"].to_numpy()
    evaluated = calibrated(score_images(load_model(model), dataset.require_images(), rows), 1.0)
    scored = predict(model, [tmp_path / "archive" / name for name in files])
    columns = [f"score/{finding}" for finding in dataset.space.findings]
    np.testing.assert_allclose(scored.table.select(columns).to_numpy(), evaluated, atol=1e-6)
    alone = load_model(model).predict(tmp_path / "archive" / "p2.png").scores
    np.testing.assert_allclose([alone[finding] for finding in dataset.space.findings], evaluated[2], atol=1e-6)


def test_a_file_that_is_named_twice_is_scored_once(scans):
    assert list(find_files([scans / "a" / "1.png", scans / "a", scans / "a" / ".." / "a" / "1.png"])) == [
        "1.png",
        "2.png",
        "broken.png",
    ]


def test_scores_depend_neither_on_batches_nor_on_workers(run, scans):
    whole = predict(run, [scans]).table.select(pl.col("^score/.*$")).to_numpy()
    for settings in ({"batch_size": 1}, {"batch_size": 2, "workers": 1}):
        parts = predict(run, [scans], PredictOptions(**settings)).table.select(pl.col("^score/.*$")).to_numpy()
        np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_a_finding_is_positive_where_its_score_reaches_the_threshold(run, scans):
    table = predict(run / "model", [scans]).table
    for finding, threshold in THRESHOLDS.items():
        assert (table[f"positive/{finding}"] == (table[f"score/{finding}"] >= threshold)).all()


def test_a_model_without_calibration_calls_nothing_positive(run, scans, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    info = json.loads((run / "model" / "model.json").read_text())
    (bare / "model.json").write_text(json.dumps({**info, "thresholds": None, "temperature": None}))
    (bare / "model.safetensors").write_bytes((run / "model" / "model.safetensors").read_bytes())
    scores = predict(bare, [scans])
    assert not scores.calibrated
    assert scores.table["positive/Hernia"].null_count() == 5
    assert scores.to_dict()["images"][0]["positive"] is None


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".json"])
def test_the_ending_of_out_decides_the_format(ending, run, scans, tmp_path):
    scores = predict(run, [scans])
    out = tmp_path / f"scores{ending}"
    written = write_scores(scores, out)
    if ending == ".json":
        summary = json.loads(out.read_text())
        assert summary["schema"] == "trcgl.scores/1"
        assert [image["image_id"] for image in summary["images"]] == scores.table["image_id"].to_list()
        assert len(summary["unreadable"]) == 2
        assert written == [out]
    else:
        table = pl.read_csv(out) if ending == ".csv" else pl.read_parquet(out)
        assert table.columns == scores.table.columns
        np.testing.assert_allclose(table["score/Mass"], scores.table["score/Mass"], atol=1e-6)
        listed = pl.read_csv(tmp_path / f"scores{ending}.unreadable.csv")
        assert listed["image_id"].to_list() == ["a/broken.png", "notes.txt"]


def test_csv_goes_to_the_screen_with_one_line_per_image(run, scans):
    lines = as_text(predict(run, [scans]), "csv").splitlines()
    assert lines[0].startswith("image_id,score/Mass")
    assert len(lines) == 6


def test_a_table_that_is_there_already_is_never_overwritten(run, scans, tmp_path):
    out = tmp_path / "scores.csv"
    out.write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        write_scores(predict(run, [scans]), out)
    assert out.read_text() == "mine"


def test_an_ending_that_names_no_format_is_refused(run, scans, tmp_path):
    with pytest.raises(DataError, match=r"Use \.csv, \.parquet, \.json"):
        write_scores(predict(run, [scans]), tmp_path / "scores.xlsx")


@pytest.mark.parametrize(("path", "message"), [("gone.png", "no such file or folder"), ("empty", "holds no file")])
def test_a_path_with_nothing_behind_it_is_refused(path, message, run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        predict(run, [tmp_path / path])


def test_files_of_which_none_can_be_read_are_an_error_that_says_why(run, scans):
    with pytest.raises(DataError, match="not one of 1 files can be read, the first because: not a PNG"):
        predict(run, [scans / "notes.txt"])


def test_a_folder_without_a_model_is_refused(scans):
    with pytest.raises(CheckpointError, match="not a run folder or an exported model"):
        predict(scans, [scans])


def test_threads_that_start_later_have_as_many_as_before(run, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        Image.fromarray(np.eye(40, dtype=np.uint8)).save(tmp_path / "one.png")
        predict(run, [tmp_path])
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)
