"""Many files: decoders that crash, tables, ensembles, mirror images, studies, and interruptions."""

import hashlib
import json
import os

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.dataset.small_dataset import SPACE
from tests.model.small_run import PATIENT, THRESHOLDS, study_file, write_run
from trcgl.cli import main as cli
from trcgl.core.errors import CheckpointError, DataError, RecipeError
from trcgl.dataset.labels import LabelSpace
from trcgl.model.ensemble import Ensemble
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict, predict_to

ONE = {"workers": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Seven radiographs and a text file."""
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    for number in range(7):
        Image.fromarray(rng.integers(0, 255, (40, 36), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("not a radiograph")
    return folder


def scored(scores):
    return scores.table.select(pl.col("^score/.*$")).to_numpy()


def test_a_file_that_crashes_its_decoder_and_one_that_hangs_it_are_two_rows(run, tmp_path, monkeypatch):
    """The decoder's process is made to abort on one picture, and to sleep on another."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(
        "import os, time, PIL.Image\n"
        "open_picture = PIL.Image.open\n"
        "def abort(handle, **settings):\n"
        "    picture = open_picture(handle, **settings)\n"
        "    time.sleep(600 if picture.size == (14, 14) else 0)\n"
        "    return os.abort() if picture.size == (13, 13) else picture\n"
        "PIL.Image.open = abort\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'hook'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    scans = tmp_path / "scans"
    scans.mkdir()
    for name, side in (("a.png", 40), ("b-kills.png", 13), ("c.png", 40), ("d-hangs.png", 14), ("e.png", 40)):
        Image.fromarray(np.eye(side, dtype=np.uint8)).save(scans / name)
    scores = predict(run, [scans], PredictOptions(seconds=8.0, **ONE))
    assert scores.table["image_id"].to_list() == ["a.png", "c.png", "e.png"]
    reasons = dict(scores.unreadable.iter_rows())
    assert set(reasons) == {"b-kills.png", "d-hangs.png"}
    assert reasons["b-kills.png"].startswith("its decoder crashed")
    assert reasons["d-hangs.png"].startswith("its decoder took more than 8 s")


def test_mirror_images_are_averaged(run, tmp_path):
    rng = np.random.default_rng(1)
    for number in range(3):  # of the model's size, as padding and resizing need not be symmetric
        pixels = rng.integers(0, 255, (32, 32), dtype=np.uint8)
        for name, shown in (("as they are", pixels), ("mirrored", pixels[:, ::-1])):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(np.ascontiguousarray(shown)).save(tmp_path / name / f"{number}.png")
    folders = tmp_path / "as they are", tmp_path / "mirrored"
    plain, mirrored = (scored(predict(run, [folder], PredictOptions(**ONE))) for folder in folders)
    assert np.abs(plain - mirrored).max() > 1e-3
    both = scored(predict(run, [folders[0]], PredictOptions(tta=True, **ONE)))
    np.testing.assert_allclose(both, (plain + mirrored) / 2, atol=1e-6)


def test_runs_of_other_sizes_and_other_orders_of_findings_are_averaged(run, scans, tmp_path):
    turned = LabelSpace("turned", SPACE.findings[::-1], SPACE.groups, "name", normal="Normal")
    limits = {finding: 0.2 for finding in SPACE.findings}
    other = write_run(tmp_path / "other", seed=1, space=turned, side=48, fit="squash", thresholds=limits)
    alone = [predict(model, [scans], PredictOptions(**ONE)) for model in (run, other)]
    both = predict(run, [scans], PredictOptions(ensemble=(other,), **ONE))
    for finding in SPACE.findings:
        mean = (alone[0].table[f"score/{finding}"] + alone[1].table[f"score/{finding}"]) / 2
        np.testing.assert_allclose(both.table[f"score/{finding}"], mean, atol=1e-6)
        limit = (THRESHOLDS[finding] + 0.2) / 2
        assert (both.table[f"positive/{finding}"] == (both.table[f"score/{finding}"] >= limit)).all()
    assert [model["weights_sha256"] for model in both.to_dict()["models"]] == [model.weights_sha256 for model in alone]


def test_an_ensemble_with_an_uncalibrated_run_calls_nothing_positive(run, scans, tmp_path):
    bare = write_run(tmp_path / "bare", seed=1, thresholds=None)
    scores = predict(run, [scans / "0.png"], PredictOptions(ensemble=(bare,), **ONE))
    assert not scores.calibrated
    assert scores.table["positive/Mass"].null_count() == 1


def test_runs_of_other_findings_cannot_be_averaged(run, scans, tmp_path):
    space = LabelSpace("other", ("Mass", "Edema", "Hernia", "Fracture"), {}, "name")
    other = write_run(tmp_path / "other", space=space, thresholds=None)
    with pytest.raises(CheckpointError, match=r"cannot be averaged: only one of them has Fracture, Normal\. Name runs"):
        predict(run, [scans], PredictOptions(ensemble=(other,)))


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_table_names_files_and_a_missing_one_is_a_row_with_its_reason(ending, run, scans, tmp_path):
    table = pl.DataFrame({"file": ["3.png", "1.png", "gone.png", None, "3.png"]})
    path = tmp_path / f"list{ending}"
    table.write_csv(path) if ending == ".csv" else table.write_parquet(path)
    scores = predict(run, [path], PredictOptions(path_column="file", root=scans, **ONE))
    assert scores.table["image_id"].to_list() == ["1.png", "3.png"]
    ((name, reason),) = scores.unreadable.iter_rows()
    assert name == "gone.png"
    assert reason.startswith("No such file")


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"file": ["1.png"]}, {}, "column 'path' is missing; the table has 'file'.*--path-column"),
        ({"path": [""]}, {}, "names no file"),
        ({"path": ["1.png"], "s": ["A"]}, {"study_column": "t"}, "'t'"),
        ({"path": ["1.png", "1.png"], "s": ["A", "B"]}, {"study_column": "s"}, "'1.png' has two values of"),
        ({"path": ["1.png"], "s": [None]}, {"study_column": "s"}, "'1.png' has no 's'"),
        ({"path": ["1.png", "2.png"], "s": ["  ", " "]}, {"study_column": "s"}, "'1.png' has no 's'"),
    ],
)
def test_a_table_that_is_not_as_the_options_say_is_refused(columns, settings, message, run, tmp_path):
    pl.DataFrame(columns).write_parquet(tmp_path / "list.parquet")
    with pytest.raises(DataError, match=message):
        predict(run, [tmp_path / "list.parquet"], PredictOptions(**settings))


def test_the_options_of_a_table_without_a_table_are_refused(run, scans):
    with pytest.raises(DataError, match="belong to a table"):
        predict(run, [scans], PredictOptions(study_column="study"))


def test_views_of_a_study_of_the_table_are_averaged(run, scans, tmp_path):
    table = pl.DataFrame({"path": ["0.png", "1.png", "2.png"], "exam": ["B", "A", "B"]})
    table.write_csv(tmp_path / "list.csv")
    options = PredictOptions(root=scans, study_column="exam", **ONE)
    images = scored(predict(run, [scans], PredictOptions(**ONE)))
    fused = predict(run, [tmp_path / "list.csv"], options)
    assert fused.table["study_id"].to_list() == ["A", "B"]
    assert fused.table["images"].to_list() == [1, 2]
    assert fused.table["image_ids"].to_list() == ["1.png", "0.png|2.png"]
    np.testing.assert_allclose(scored(fused), [images[1], (images[0] + images[2]) / 2], atol=1e-6)
    assert [study["image_ids"] for study in fused.to_dict()["studies"]] == [("1.png",), ("0.png", "2.png")]


def test_views_of_a_dicom_study_are_averaged_and_no_identifier_is_in_any_output(run, tmp_path, capsys):
    scans = tmp_path / "scans"
    scans.mkdir()
    for name, image, study in (("a.dcm", 1, 7), ("b.dcm", 2, 8), ("c.dcm", 3, 7)):
        (scans / name).write_bytes(study_file(image, study))
    (scans / "bare.dcm").write_bytes(study_file(4, 7, StudyInstanceUID=None))
    (scans / "cut.dcm").write_bytes(study_file(5, 7)[:900])
    images = predict(run, [scans], PredictOptions(**ONE)).table
    out = tmp_path / "scores.json"
    assert cli.main(["predict", str(run), str(scans), "--by-study", "--out", str(out), "--workers", "1", "--json"]) == 0
    summary = json.loads(out.read_text())
    studies = {study["study_id"]: study for study in summary["studies"]}
    digest = hashlib.sha256(b"1.2.7").hexdigest()[:16]
    assert studies[digest]["image_ids"] == ["a.dcm", "c.dcm"]
    mass = images.filter(pl.col("image_id").is_in(["a.dcm", "c.dcm"]))["score/Mass"].mean()
    assert studies[digest]["scores"]["Mass"] == pytest.approx(mass, abs=1e-6)
    reasons = {file["image_id"]: file["reason"] for file in summary["unreadable"]}
    assert reasons["bare.dcm"].startswith("names no study")
    assert "cut.dcm" in reasons
    said = capsys.readouterr()
    identifying = [value for value in PATIENT.values() if len(value) > 1]  # the sex is a letter of many words
    for text in (out.read_text(), said.out, said.err):
        assert not any(secret in text for secret in (*identifying, "1.2.7", "1.2.8", "ACC-99", "Noether"))


def test_pictures_without_a_study_are_refused_before_anything_is_scored(run, scans):
    with pytest.raises(DataError, match=r"0\.png: PNG and JPEG files name no study\. Give a table"):
        predict(run, [scans], PredictOptions(by_study=True))


@pytest.fixture
def counted(monkeypatch):
    """How many radiographs went through the network, and an interruption at a chosen batch."""

    class Counted:
        images, batches, stop_at = 0, 0, None

    score = Ensemble.score

    def count(self, pictures, **settings):
        Counted.batches += 1
        if Counted.batches == Counted.stop_at:
            raise KeyboardInterrupt
        Counted.images += len(next(iter(pictures.values())))
        return score(self, pictures, **settings)

    monkeypatch.setattr(Ensemble, "score", count)
    return Counted


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".json"])
def test_after_an_interruption_no_file_is_scored_twice_and_the_bytes_are_the_same(
    ending, run, scans, tmp_path, counted
):
    options = PredictOptions(batch_size=3, **ONE)
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"out{ending}"
    predict_to(whole, run, [scans], options)
    counted.images, counted.batches, counted.stop_at = 0, 0, 3
    with pytest.raises(KeyboardInterrupt):
        predict_to(out, run, [scans], options)
    assert not out.exists()
    with open(tmp_path / f"out{ending}.partial", "a") as handle:
        handle.write('{"image_ids": ["6.p')  # a line that was cut off
    counted.stop_at = None
    predict_to(out, run, [scans], options)
    assert counted.images == 7
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.glob("out*")) == (
        [f"out{ending}"] if ending == ".json" else [f"out{ending}", f"out{ending}.unreadable.csv"]
    )


def interrupted(run, scans, out, counted):
    counted.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        predict_to(out, run, [scans], PredictOptions(batch_size=3, **ONE))
    counted.stop_at = None


def test_a_command_that_could_read_no_file_does_not_stand_in_the_way_of_the_corrected_one(run, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "0.png").write_text("no picture")
    with pytest.raises(DataError, match="not one of 1 files can be read"):
        predict_to(tmp_path / "out.csv", run, [scans], PredictOptions(**ONE))
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(scans / "0.png")
    predict_to(tmp_path / "out.csv", run, [scans], PredictOptions(tta=True, **ONE))
    assert (tmp_path / "out.csv").exists()


def test_other_settings_or_changed_files_do_not_go_on_where_another_command_stopped(run, tmp_path, counted):
    scans = tmp_path / "scans"
    scans.mkdir()
    for number in range(4):
        Image.fromarray(np.eye(8, dtype=np.uint8) + np.uint8(9 * number)).save(scans / f"{number}.png")
    out = tmp_path / "out.csv"
    interrupted(run, scans, out, counted)
    with pytest.raises(RecipeError, match=r"out\.csv\.partial is of a predict with other settings \(tta\)"):
        predict_to(out, run, [scans], PredictOptions(batch_size=3, tta=True, **ONE))
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(scans / "0.png")
    with pytest.raises(RecipeError, match=r"other settings \(files\)"):
        predict_to(out, run, [scans], PredictOptions(batch_size=3, **ONE))


def test_an_interrupted_command_keeps_its_own_list_of_unreadable_files(run, scans, tmp_path, counted):
    predict_to(tmp_path / "out.parquet", run, [scans / "0.png", scans / "notes.txt"], PredictOptions(**ONE))
    listed = (tmp_path / "out.parquet.unreadable.csv").read_bytes()
    interrupted(run, scans, tmp_path / "out.csv", counted)
    _, written, _ = predict_to(tmp_path / "out.csv", run, [scans], PredictOptions(batch_size=3, **ONE))
    assert tmp_path / "out.parquet.unreadable.csv" not in written
    assert (tmp_path / "out.parquet.unreadable.csv").read_bytes() == listed


@pytest.mark.parametrize("content", ["mine\n", "[1]\n", '"mine"\n', "{}\n[1]\n"])
def test_a_file_of_the_name_of_the_journal_is_not_taken_for_one(run, scans, tmp_path, content):
    (tmp_path / "out.csv.partial").write_text(content)
    with pytest.raises(DataError, match="was not left by an interrupted predict"):
        predict_to(tmp_path / "out.csv", run, [scans], PredictOptions(**ONE))
    assert (tmp_path / "out.csv.partial").read_text() == content


def test_files_of_which_none_can_be_read_leave_nothing_behind(run, scans, tmp_path):
    with pytest.raises(DataError, match="not one of 1 files can be read"):
        predict_to(tmp_path / "out.csv", run, [scans / "notes.txt"], PredictOptions(**ONE))
    assert not list(tmp_path.iterdir())


def test_ctrl_c_in_the_command_line_says_that_the_same_command_finishes(run, scans, tmp_path, counted, capsys):
    command = ["predict", str(run), str(scans), "--out", str(tmp_path / "out.csv"), "--batch-size", "3"]
    counted.stop_at = 2
    assert cli.main(command) == 130
    assert "the same command again finishes the work" in capsys.readouterr().err
    counted.stop_at = None
    assert cli.main(command) == 0
    assert "7 images scored, 1 file unreadable" in capsys.readouterr().out
    assert counted.images == 7
