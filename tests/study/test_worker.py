import numpy as np
import pytest

from tests.evaluate.examples import SPACE, predictions
from trcgl.core.recipe import EvaluateRecipe, Recipe
from trcgl.evaluate.evaluation import evaluate
from trcgl.study.worker import measure


def test_a_run_is_measured_as_evaluate_judges_it():
    scored = predictions(seed=3)
    thresholds = dict.fromkeys(SPACE.findings, 0.4)
    told, drawn = measure(scored, thresholds, Recipe(evaluate=EvaluateRecipe(replicates=150)))
    judged = evaluate(scored, thresholds, split="test", replicates=150)
    assert told["metrics"]["mAP_overall"] == pytest.approx(judged["overall"]["mAP"]["value"])
    for name in ("mAUC", "mF1", "mECE"):
        assert told["metrics"][name] == pytest.approx(judged["overall"][name]["value"])
    for group, means in judged["groups"].items():
        assert told["metrics"][f"mAP_{group}"] == pytest.approx(means["mAP"]["value"])
        assert np.nanmean(drawn[group]) == pytest.approx(means["mAP"]["value"], abs=0.03)
        assert len(drawn[group]) == 150
    for finding, one in judged["findings"].items():
        assert told["findings"][finding]["AP"] == pytest.approx(one["AP"]["value"])


def test_every_run_meets_the_same_draws_of_patients():
    thresholds = dict.fromkeys(SPACE.findings, 0.4)
    recipe = Recipe(evaluate=EvaluateRecipe(replicates=150))
    (_, one), (_, other) = (measure(predictions(seed=3, signal=signal), thresholds, recipe) for signal in (2.0, 2.05))
    assert np.corrcoef(one["overall"], other["overall"])[0, 1] > 0.95
