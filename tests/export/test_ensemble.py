"""Export of an ensemble: a folder that scores without the runs."""

import shutil

import numpy as np
import polars as pl
import pytest

from tests.model.small_run import write_evaluated_ensemble
from trcgl.cli import main as cli
from trcgl.core.errors import RecipeError
from trcgl.export.ensemble import export_ensemble
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    return write_evaluated_ensemble(tmp_path_factory.mktemp("ensemble"), tta=("flip", "1.1"))


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("scans")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def scored(folder, scans):
    return predict(folder, [scans], PredictOptions(workers=1)).table


def test_an_exported_ensemble_scores_as_its_runs_do_and_without_them(ensemble, scans, tmp_path, capsys):
    pytest.importorskip("onnx", reason="needs the extra `export`")
    assert cli.main(["export", str(ensemble), "--out", str(tmp_path / "a" / "model")]) == 0
    assert "members/*/DATA.md" in capsys.readouterr().out
    shutil.copytree(tmp_path / "a" / "model", tmp_path / "b")
    shutil.rmtree(tmp_path / "a")
    before, after = scored(ensemble, scans), scored(tmp_path / "b", scans)
    for name in before.columns:
        if name.startswith("score/"):
            np.testing.assert_allclose(before[name], after[name], atol=1e-4)
    card = (tmp_path / "b" / "README.md").read_text()
    assert "views flip, 1.1" in card and "(members/1/README.md) | 0.5 |" in card
    assert str(tmp_path) not in (tmp_path / "b" / "ensemble.json").read_text()


def test_a_finished_export_is_left_unchanged_and_another_one_refused(ensemble, tmp_path):
    first = export_ensemble(ensemble, tmp_path / "out", onnx=False)
    assert first["files"][-2:] == ["ensemble.json", "README.md"]
    assert all((tmp_path / "out" / name).is_file() for name in first["files"])
    assert export_ensemble(ensemble, tmp_path / "out", onnx=False) == first
    other = write_evaluated_ensemble(tmp_path / "other", fusion="max")
    with pytest.raises(RecipeError, match="holds no export of this ensemble"):
        export_ensemble(other, tmp_path / "out", onnx=False)


def test_a_run_of_the_ensemble_that_is_gone_is_named(ensemble, scans, tmp_path):
    shutil.copytree(ensemble, tmp_path / "moved")
    with pytest.raises(Exception, match=r"moved averages .*trcgl, which is gone.*export it first"):
        predict(tmp_path / "moved", [scans], PredictOptions())
    assert isinstance(scored(ensemble, scans), pl.DataFrame)
