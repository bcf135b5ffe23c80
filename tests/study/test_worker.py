import numpy as np
import pytest

from tests.evaluate.examples import SPACE, predictions
from trcgl.core.recipe import EvaluateRecipe, Recipe
from trcgl.evaluate.evaluation import evaluate
from trcgl.study.worker import measure


def test_a_run_is_measured_as_in_evaluate():
    scored = predictions(seed=3)
    thresholds = dict.fromkeys(SPACE.findings, 0.4)
    measured, replicates = measure(scored, thresholds, Recipe(evaluate=EvaluateRecipe(replicates=150)))
    evaluated = evaluate(scored, thresholds, split="test", replicates=150)
    assert measured["metrics"]["mAP_overall"] == pytest.approx(evaluated["overall"]["mAP"]["value"])
    for name in ("mAUC", "mF1", "mECE"):
        assert measured["metrics"][name] == pytest.approx(evaluated["overall"][name]["value"])
    for group, means in evaluated["groups"].items():
        assert measured["metrics"][f"mAP_{group}"] == pytest.approx(means["mAP"]["value"])
        assert np.nanmean(replicates[group]) == pytest.approx(means["mAP"]["value"], abs=0.03)
        assert len(replicates[group]) == 150
    for finding, values in evaluated["findings"].items():
        assert measured["findings"][finding]["AP"] == pytest.approx(values["AP"]["value"])


def test_every_run_is_evaluated_on_the_same_resamples_of_patients():
    thresholds = dict.fromkeys(SPACE.findings, 0.4)
    recipe = Recipe(evaluate=EvaluateRecipe(replicates=150))
    (_, first), (_, second) = (
        measure(predictions(seed=3, signal=signal), thresholds, recipe) for signal in (2.0, 2.05)
    )
    assert np.corrcoef(first["overall"], second["overall"])[0, 1] > 0.95


def test_each_view_source_sex_and_age_band_has_a_mean_of_its_own():
    scored = predictions(seed=3)
    thresholds = dict.fromkeys(SPACE.findings, 0.4)
    measured, _ = measure(scored, thresholds, Recipe(evaluate=EvaluateRecipe(replicates=2)))
    evaluated = evaluate(scored, thresholds, split="test", replicates=2)["subsets"]
    assert measured["subsets"].keys() == evaluated.keys() and len(evaluated) >= 2
    for name, means in measured["subsets"].items():
        for metric, value in means.items():
            assert value == pytest.approx(evaluated[name]["overall"][metric]["value"])
