"""Folders that trcgl 0.1.0 wrote are still opened, evaluated, used for prediction, exported, served and resumed."""

import json
import shlex
import shutil
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trcgl.cli import main as cli
from trcgl.core.recipe import from_json
from trcgl.dataset.store import open_dataset
from trcgl.dataset.synthetic_rows import generation_record, read_provenance
from trcgl.model.folder import load_model

ARCHIVE = Path(__file__).parent / "stored" / "version_0.1.0.tar.xz"
TRAIN = shlex.split(
    "--recipe phantom --model.backbone test_convnext --model.image-size 32 --model.output-stride None "
    "--model.patch-size 1 --model.label-embedding 16 --train.batch-size 16 --train.epochs 2 --train.warmup-steps 2 "
    "--train.accelerator cpu --evaluate.replicates 200"
)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("version-0.1.0")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def stored(unpacked, tmp_path, monkeypatch):
    """A copy that a test may change, as the current folder."""
    shutil.copytree(unpacked, tmp_path / "stored")
    monkeypatch.chdir(tmp_path / "stored")
    return tmp_path / "stored"


def run(capsys, *arguments):
    """The JSON result of a command that succeeds."""
    code = cli.main([*arguments, "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)


def test_a_dataset_opens_with_its_labels_and_images(stored):
    dataset = open_dataset(stored / "dataset")
    assert len(dataset.space.findings) == 30
    assert dataset.require_images().shape == (221, 32, 32)
    assert dataset.split("train").height == 72


def test_the_recipe_of_a_run_is_read_under_the_names_of_today(stored):
    recipe = from_json((stored / "run" / "recipe.json").read_text())
    assert (recipe.loss.name, recipe.train.row_sampling) == ("distribution_balanced", "class_balanced")
    assert recipe.train.repeat_threshold == 0.1


def test_the_scores_of_a_run_are_those_that_0_1_0_gave(stored, capsys):
    assert cli.main(["predict", "run", "scans", "--out", "now.csv"]) == 0
    before, now = pl.read_csv("scores.csv"), pl.read_csv("now.csv")
    scores = [name for name in before.columns if name.startswith("score/")]
    assert len(scores) == 30
    assert np.abs(before.select(scores).to_numpy() - now.select(scores).to_numpy()).max() < 2e-6
    rest = [name for name in before.columns if name not in scores]
    assert before.select(rest).equals(now.select(rest))


def test_a_run_is_evaluated_again_with_the_same_values(stored, capsys):
    before = json.loads((stored / "run" / "evaluation" / "test.json").read_text())
    shutil.rmtree(stored / "run" / "evaluation")
    shutil.rmtree(stored / "run" / "predictions")
    now = run(capsys, "evaluate", "run")
    for metric in ("mAP", "mAUC", "mF1", "mECE"):
        assert now["overall"][metric]["value"] == pytest.approx(before["overall"][metric]["value"], abs=1e-6)
        assert now["overall"][metric]["ci"] == pytest.approx(before["overall"][metric]["ci"], abs=1e-6)
    assert (stored / "run" / "report.html").is_file()


def test_a_run_that_0_1_0_evaluated_is_compared_and_reported(stored, capsys):
    shutil.copytree("run", "other")
    compared = run(capsys, "compare", "run", "other")
    assert compared["comparisons"][0]["overall"]["mAP"]["value"] == 0
    run(capsys, "evaluate", "run", "--no-localization")
    assert "azygos lobe" in (stored / "run" / "report.html").read_text()


def test_a_finished_run_is_recognized_as_finished(stored, capsys):
    weights = (stored / "run" / "model" / "model.safetensors").read_bytes()
    run(capsys, "train", "dataset", *TRAIN, "--out", "run")
    assert (stored / "run" / "model" / "model.safetensors").read_bytes() == weights


def test_an_exported_model_scores_as_its_run(stored):
    images = open_dataset(stored / "dataset").require_images()[:4]
    assert np.array_equal(load_model("exported").score(images), load_model("run").score(images))


def test_a_run_is_exported(stored, capsys):
    pytest.importorskip("onnx", reason="needs the extra `export`")
    result = run(capsys, "export", "run", "--out", "again")
    assert result["calibrated"]
    assert max(result["parity"]["largest_difference"].values()) < 1e-4


def test_an_export_is_recognized_as_the_same(stored, capsys):
    pytest.importorskip("onnx", reason="needs the extra `export`")
    graph = (stored / "exported" / "model.onnx").read_bytes()
    run(capsys, "export", "run", "--out", "exported")
    assert (stored / "exported" / "model.onnx").read_bytes() == graph


def test_an_export_gets_the_metrics_of_an_evaluation_of_today(stored, capsys):
    pytest.importorskip("onnx", reason="needs the extra `export`")
    graph = (stored / "exported" / "model.onnx").read_bytes()
    evaluated = run(capsys, "evaluate", "run", "--no-localization")
    assert run(capsys, "export", "run", "--out", "exported")["card_updated"]
    assert (stored / "exported" / "model.onnx").read_bytes() == graph
    card = json.loads((stored / "exported" / "model.json").read_text())["evaluation"]
    assert card["test"]["overall"] == evaluated["overall"]
    assert not run(capsys, "export", "run", "--out", "exported")["card_updated"]


def test_an_exported_model_explains_a_file(stored, capsys):
    result = run(capsys, "explain", "exported", "scans/0.png", "--out", "explained", "--top", "1")
    assert (stored / "explained" / result["page"]).is_file()


def test_a_model_is_served(stored):
    pytest.importorskip("fastapi", reason="needs the extra `serve`")
    from trcgl.serve.engine import open_network

    assert open_network(stored / "run").about["calibrated"]


def test_a_synthetic_folder_trains_beside_real_images(stored, capsys):
    short = [*TRAIN, "--train.epochs", "1"]
    run(capsys, "train", "dataset", *short, "--synthetic", "synthetic", "--out", "both")
    assert json.loads((stored / "both" / "model" / "model.json").read_text())["synthetic"]


def test_the_provenance_of_a_synthetic_folder_has_the_names_of_today(stored):
    provenance = read_provenance(stored / "synthetic")
    options = generation_record(open_dataset(stored / "synthetic"))["options"]
    assert provenance["solver"].unique().to_list() == [options["solver"]] == ["dpm++2m"]
    assert "screen/synthetic_similarity" in provenance.columns
    assert options["guidance_for"] == {} and "sampler" not in options


def test_a_finished_synthetic_folder_is_recognized_as_finished(stored, capsys):
    pytest.importorskip("diffusers", reason="needs the extra `generate`")
    images = (stored / "synthetic" / "images.npy").read_bytes()
    folders = ["generator", "--dataset", "dataset", "--screener", "run", "--out", "synthetic"]
    targets = ["--targets", "Pneumothorax", "calcified densities"]
    how = ["--each", "3", "--accelerator", "cpu"]
    run(capsys, "synthesize", *folders, *targets, *how, "--steps", "4")
    assert (stored / "synthetic" / "images.npy").read_bytes() == images
    assert cli.main(["synthesize", *folders, *targets, *how, "--steps", "5"]) != 0
    assert "made with other settings: steps: 4 → 5." in capsys.readouterr().err


def test_a_generator_opens_and_samples(stored, capsys):
    pytest.importorskip("diffusers", reason="needs the extra `generate`")
    given = ["--each", "1", "--targets", "Pneumothorax", "--steps", "2", "--accelerator", "cpu", "--unscreened"]
    run(capsys, "synthesize", "generator", "--dataset", "dataset", "--out", "more", *given)
    assert len(open_dataset(stored / "more").require_images()) >= 1


def test_a_finished_study_gives_the_same_table(stored, capsys):
    before = json.loads((stored / "study" / "table.json").read_text())
    command = json.loads((stored / "study" / "command.json").read_text())["command"].split()[1:]
    now = run(capsys, *command)
    assert now["arms"].keys() == before["arms"].keys()
    for name, arm in before["arms"].items():
        assert now["arms"][name]["metrics"]["mAP_tail"] == arm["metrics"]["mAP_tail"]
    contrasts = now["contrasts"][0], before["contrasts"][0]
    for key in ("value", "interval", "p", "detectable"):
        assert contrasts[0][key] == pytest.approx(contrasts[1][key])
