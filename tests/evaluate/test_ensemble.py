"""Ensembles: what `evaluate` scores is what `predict` scores."""

import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.dataset.small_dataset import SPACE, write_dataset
from tests.model.small_run import write_run_beside
from trcgl.cli import main as cli
from trcgl.core import storage
from trcgl.core.errors import CheckpointError, DataError, RecipeError
from trcgl.dataset.store import open_dataset
from trcgl.evaluate.ensemble import evaluate_ensemble, evaluate_ensemble_folder
from trcgl.evaluate.evaluate import evaluate_run
from trcgl.evaluate.predictions import read_predictions
from trcgl.metrics.calibrate import fit_calibration
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict, predict_to


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Each patient has one study of two images."""
    return write_dataset(tmp_path_factory.mktemp("data") / "small", images_per_study=2)


@pytest.fixture(scope="module")
def runs(dataset, tmp_path_factory):
    """Two runs with other heads, not evaluated yet."""
    folder = tmp_path_factory.mktemp("runs")
    return [write_run_beside(dataset, folder / head, head=head) for head in ("trcgl", "linear")]


@pytest.fixture(scope="module")
def table(dataset, tmp_path_factory):
    """The test images as PNG files, listed with their studies."""
    folder, opened = tmp_path_factory.mktemp("files"), open_dataset(dataset)
    rows = opened.split("test")
    for name, row in rows.select("image_id", "row").iter_rows():
        Image.fromarray(np.array(opened.images[row])).save(folder / name)
    rows.select(path="image_id", study="study_id").write_csv(folder / "list.csv")
    return folder / "list.csv"


def columns(predictions, kind="score"):
    return predictions.select([f"{kind}/{finding}" for finding in SPACE.findings]).to_numpy()


def plain(document):
    """A document as it is after writing and reading."""
    return json.loads(json.dumps(document))


@pytest.mark.parametrize(
    ("count", "settings"),
    [
        (2, {}),
        (1, {"tta": ("flip",)}),
        (2, {"tta": ("flip", "0.9", "1.1"), "weights": "greedy"}),
        (2, {"fusion": "mean", "tta": ("1.10",)}),
        (2, {"fusion": "max"}),
        (1, {"fusion": "learned", "tta": ("flip",)}),
    ],
)
def test_predict_scores_the_files_as_evaluate_scored_the_dataset(count, settings, runs, dataset, table, tmp_path):
    out = tmp_path / "ensemble"
    evaluation = evaluate_ensemble(runs[:count], out, **settings)
    evaluated = pl.read_parquet(out / "predictions" / "test.parquet")
    fused = settings.get("fusion", "none") != "none"
    served = predict(out, [table], PredictOptions(workers=1, study_column="study" if fused else None)).table
    key = ("study_id", "study_id") if fused else ("image_id", "image_id")
    both = evaluated.join(served, left_on=key[0], right_on=key[1], suffix="/served", maintain_order="left")
    assert both.height == served.height == (12 if fused else 24)
    for finding in SPACE.findings:
        np.testing.assert_allclose(both[f"score/{finding}"], both[f"score/{finding}/served"], atol=1e-5)
        reached = both[f"score/{finding}"] >= evaluation["findings"][finding]["threshold"]
        assert (reached == both[f"positive/{finding}"]).all()
    assert evaluation["images"] == 24 and evaluation.get("studies", 24) == served.height
    assert plain(evaluation) == storage.read_json(out / "evaluation" / "test.json")


def test_temperature_and_thresholds_are_fitted_on_the_ensembles_own_scores_of_val(runs, tmp_path):
    evaluate_ensemble(runs, tmp_path / "out", fusion="mean", tta=("flip",))
    stored = storage.read_json(tmp_path / "out" / "ensemble.json")
    val = read_predictions(tmp_path / "out" / "predictions" / "val.parquet", SPACE)
    fitted = fit_calibration(val.logit, val.truth, SPACE.findings, val.weight)
    assert stored["temperature"] == pytest.approx(fitted.temperature, rel=1e-5)
    assert stored["thresholds"] == pytest.approx(fitted.thresholds, abs=1e-6)
    assert storage.read_json(runs[0] / "model" / "model.json")["temperature"] is None  # the runs stay as they are


def test_the_mean_of_two_runs_is_the_mean_of_their_calibrated_scores(dataset, tmp_path):
    folders = [write_run_beside(dataset, tmp_path / head, head=head) for head in ("csra", "linear")]
    for folder in folders:
        evaluate_run(folder, localization=False)
    alone = [pl.read_parquet(folder / "predictions" / "test.parquet") for folder in folders]
    evaluate_ensemble(folders, tmp_path / "out")
    pooled = pl.read_parquet(tmp_path / "out" / "predictions" / "test.parquet")
    mean = (columns(alone[0]) + columns(alone[1])) / 2
    np.testing.assert_allclose(1 / (1 + np.exp(-columns(pooled, "logit"))), mean, atol=1e-5)


def test_a_study_has_the_labels_of_its_images_and_its_patient(runs, dataset, tmp_path):
    evaluate_ensemble(runs[:1], tmp_path / "out", fusion="max")
    studies = read_predictions(tmp_path / "out" / "predictions" / "test.parquet", SPACE)
    rows = open_dataset(dataset).split("test")
    for place, study in enumerate(studies.study_id):
        images = rows.filter(pl.col("study_id") == study)
        assert studies.patient_id[place] == images["patient_id"][0] and studies.images[place] == images.height
        for column, finding in enumerate(SPACE.findings):
            labels = images[finding].to_list()
            expected = 1 if 1 in labels else None if None in labels else 0
            label = studies.truth[place, column]
            assert (None if np.isnan(label) else label) == expected


def test_an_ensemble_is_evaluated_again_on_val_and_on_another_dataset(runs, tmp_path):
    other = write_dataset(tmp_path / "other", seed=1, findings=("Hernia", "Other", "Mass"), images_per_study=2)
    out = tmp_path / "out"
    first = evaluate_ensemble(runs, out, fusion="mean")
    before = storage.read_json(out / "ensemble.json")
    assert plain(evaluate_ensemble_folder(out)) == plain(first)
    val = storage.read_json(out / "evaluation" / "val.json")
    assert plain(evaluate_ensemble(runs, out, fusion="mean", split="val")) == val
    external = evaluate_ensemble_folder(out, dataset=other)
    assert set(external["findings"]) == {"Mass", "Hernia"} and external["studies"] == 12
    assert storage.read_json(out / "ensemble.json") == before
    assert (out / "report-small-1-test.html").exists()


def test_images_that_a_run_was_trained_on_are_refused(runs, tmp_path):
    same = write_dataset(tmp_path / "same", train=24, val=24, test=44)
    with pytest.raises(DataError, match="used in training"):
        evaluate_ensemble(runs, tmp_path / "out", dataset=same)
    assert not (tmp_path / "out").exists()


def test_runs_of_other_splits_are_refused(runs, tmp_path):
    turned = write_dataset(tmp_path / "turned", train=24, val=24, test=44)
    other = write_run_beside(turned, tmp_path / "other")
    with pytest.raises(DataError, match=r"the patient of '0-24\.png'.* of .*turned, but in train of .*small\."):
        evaluate_ensemble([other, runs[0]], tmp_path / "out")
    fewer = write_run_beside(write_dataset(tmp_path / "fewer", test=20), tmp_path / "run")
    with pytest.raises(DataError, match=r"is in test of only one of .*small and .*fewer"):
        evaluate_ensemble([runs[0], fewer], tmp_path / "out")


def test_another_command_for_the_same_folder_is_refused(runs, tmp_path):
    evaluate_ensemble(runs, tmp_path / "out")
    with pytest.raises(RecipeError, match=r"another ensemble, made by: trcgl evaluate trcgl linear --out out\. Choose"):
        evaluate_ensemble(runs, tmp_path / "out", tta=("flip",))
    with pytest.raises(RecipeError, match="is a run folder"):
        evaluate_ensemble(runs, runs[0])


def test_what_an_interrupted_command_left_is_written_again(runs, tmp_path):
    other = write_dataset(tmp_path / "other", seed=1, findings=("Hernia", "Other", "Mass"))
    first = evaluate_ensemble(runs, tmp_path / "out", dataset=other)
    (tmp_path / "out" / "ensemble.json").unlink()
    assert evaluate_ensemble(runs, tmp_path / "out", dataset=other) == first


def test_a_run_that_was_trained_again_is_refused(dataset, tmp_path):
    run = write_run_beside(dataset, tmp_path / "run")
    evaluate_ensemble([run], tmp_path / "out", tta=("flip",))
    write_run_beside(dataset, run, head="linear")
    with pytest.raises(CheckpointError, match=r"was trained again after .*out was fitted"):
        predict(tmp_path / "out", [tmp_path], PredictOptions())
    with pytest.raises(CheckpointError, match="was trained again"):
        evaluate_ensemble_folder(tmp_path / "out")


@pytest.mark.parametrize("view", ["flop", "1", "3", "nan"])
def test_a_view_that_does_not_exist_is_refused(view, runs, tmp_path):
    with pytest.raises(RecipeError, match=f"--tta {view}: no such copy"):
        evaluate_ensemble(runs, tmp_path / "out", tta=(view,))


def test_an_ensemble_has_its_own_views_and_members(runs, table, tmp_path):
    evaluate_ensemble(runs, tmp_path / "out")
    with pytest.raises(RecipeError, match="stores its test-time augmentation"):
        predict(tmp_path / "out", [table], PredictOptions(tta=True))
    with pytest.raises(CheckpointError, match="an ensemble already"):
        predict(tmp_path / "out", [table], PredictOptions(ensemble=(runs[0],)))


def test_an_interrupted_predict_of_an_ensemble_resumes_with_its_settings(runs, table, tmp_path):
    evaluate_ensemble(runs, tmp_path / "out", fusion="learned")
    scores, _, _ = predict_to(tmp_path / "s.json", tmp_path / "out", [table], PredictOptions(study_column="study"))
    document = json.loads((tmp_path / "s.json").read_text())
    assert document == json.loads(json.dumps(scores.to_dict()))
    assert document["ensemble"]["fusion"] == "learned" and document["calibrated"]


def test_the_command_line_writes_an_ensemble(runs, tmp_path, capsys):
    names = [str(run) for run in runs]
    arguments = ["evaluate", *names, "--tta", "flip", "0.9", "--fusion", "mean", "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    assert "12 studies with 24 images of 12 patients" in printed.out and "never seen a heart" in printed.err
    assert "separates studies with a finding from studies without it" in printed.out
    assert "single image" not in printed.err
    assert "How the scores are combined" in (tmp_path / "out" / "report.html").read_text()
    assert cli.main(["evaluate", *names]) == 2
    assert "Name its folder with --out" in capsys.readouterr().err
    assert cli.main(["evaluate", str(tmp_path / "out"), "--split", "val"]) == 0


@pytest.mark.parametrize("options", [["--tta", "flip"], ["--out", "new"], ["RUN", "--out", "new"]])
def test_an_ensemble_is_not_combined_again(options, runs, tmp_path, capsys):
    evaluate_ensemble(runs, tmp_path / "out")
    options = [str(runs[0]) if option == "RUN" else option for option in options]
    assert cli.main(["evaluate", str(tmp_path / "out"), *options]) == 2
    assert "is an ensemble, which is evaluated alone and without --out" in capsys.readouterr().err


def test_fusion_that_has_nothing_to_fuse_is_said(tmp_path, capsys):
    run = write_run_beside(write_dataset(tmp_path / "one", images_per_study=1), tmp_path / "run", head="linear")
    assert cli.main(["evaluate", str(run), "--fusion", "max", "--out", str(tmp_path / "out")]) == 0
    assert "--fusion max: every study of test has a single image" in capsys.readouterr().err
