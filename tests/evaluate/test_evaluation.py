import dataclasses
import json

import numpy as np
import pytest

from tests.evaluate.examples import SPACE, predictions
from trcgl.core.errors import DataError
from trcgl.evaluate.evaluation import evaluate, subset_rows
from trcgl.metrics.auroc import AUROC
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.metrics.registry import METRICS

THRESHOLDS = dict.fromkeys(SPACE.findings, 0.4)


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(predictions(), THRESHOLDS, split="test", replicates=300)


def without_hernia():
    example = predictions(40)
    truth = example.truth.copy()
    truth[:, 3] = np.where(np.isnan(truth[:, 3]), np.nan, 0)
    return dataclasses.replace(example, truth=truth)


def test_a_finding_without_a_known_negative_has_no_average_precision():
    example = predictions(40)
    truth = example.truth.copy()
    truth[:, 3] = np.where(truth[:, 3] == 1, 1, np.nan)
    found = evaluate(dataclasses.replace(example, truth=truth), THRESHOLDS, split="test", replicates=50)
    assert found["findings"]["Hernia"]["AP"] == {"value": None, "ci": None, "why": "no negative in this split"}
    assert found["overall"]["mAP"]["findings"] == 2
    truth = np.where(example.truth == 1, 1, np.nan)
    found = evaluate(dataclasses.replace(example, truth=truth), THRESHOLDS, split="test", replicates=50)
    assert found["overall"]["mAP"]["value"] is None


def test_it_is_the_documented_schema_and_plain_json(evaluation):
    json.dumps(evaluation, allow_nan=False)
    assert evaluation["schema"] == "trcgl.evaluation/1"
    assert (evaluation["split"], evaluation["images"], evaluation["patients"]) == ("test", 600, 300)
    assert set(evaluation["overall"]) == {f"m{name}" for name in METRICS}
    assert set(evaluation["groups"]) == {"head", "medium", "tail"}
    assert set(evaluation["findings"]) == set(SPACE.findings)
    for name in METRICS:
        metric = evaluation["findings"]["Hernia"][name]
        assert metric["ci"][0] <= metric["value"] <= metric["ci"][1]
    assert evaluation["findings"]["Hernia"]["threshold"] == 0.4
    assert evaluation["bootstrap"]["unit"] == "patient" and evaluation["bootstrap"]["replicates"] == 300


def test_values_are_the_metrics(evaluation):
    example = predictions()
    truth, score = example.truth[:, 2].astype(float), example.score[:, 2].astype(float)
    assert evaluation["findings"]["Nodule"]["AP"]["value"] == pytest.approx(AVERAGE_PRECISION(truth, score).value)
    assert evaluation["findings"]["Nodule"]["AUC"]["value"] == pytest.approx(AUROC(truth, score).value)


def test_means_leave_out_the_normal_label_where_the_space_says_so(evaluation):
    values = [evaluation["findings"][finding]["AP"]["value"] for finding in ("Effusion", "Nodule", "Hernia")]
    assert evaluation["overall"]["mAP"]["value"] == pytest.approx(np.mean(values))
    assert evaluation["overall"]["mAP"]["findings"] == 3
    assert evaluation["groups"]["head"]["findings"] == ["Effusion"]
    assert evaluation["findings"]["No Finding"]["AP"]["value"] is not None


def test_the_interval_of_a_mean_is_shorter_than_those_of_its_findings(evaluation):
    lengths = [np.diff(evaluation["findings"][finding]["AP"]["ci"])[0] for finding in ("Effusion", "Nodule", "Hernia")]
    assert np.diff(evaluation["overall"]["mAP"]["ci"])[0] < np.mean(lengths)


def test_an_undefined_metric_is_null_with_a_reason_and_leaves_the_mean():
    evaluation = evaluate(without_hernia(), THRESHOLDS, split="val", replicates=200)
    hernia = evaluation["findings"]["Hernia"]
    assert hernia["AP"] == {"value": None, "ci": None, "why": "no positive in this split"}
    assert hernia["AUC"]["value"] is None and hernia["F1"]["value"] is None
    assert evaluation["overall"]["mAP"]["findings"] == 2
    assert evaluation["groups"]["tail"]["mAP"] == {
        "value": None,
        "ci": None,
        "findings": 0,
        "why": "undefined for every finding",
        "few": 0,
    }


def test_a_mean_over_a_finding_with_one_positive_patient_has_no_interval_but_a_reason():
    scored = predictions()
    truth = scored.truth.copy()
    truth[:, SPACE.index("Hernia")] = 0
    truth[4, SPACE.index("Hernia")] = 1
    evaluation = evaluate(dataclasses.replace(scored, truth=truth), THRESHOLDS, split="test", replicates=200)
    for mean in (evaluation["overall"]["mAP"], evaluation["groups"]["tail"]["mAUC"]):
        assert mean["value"] > 0 and mean["ci"] is None and "fewer than two positive patients" in mean["why"]
    assert evaluation["groups"]["head"]["mAP"]["ci"] and evaluation["overall"]["mECE"]["ci"]


def test_a_finding_with_fewer_than_20_positive_patients_is_marked_and_counted_in_its_mean():
    evaluation = evaluate(predictions(100), THRESHOLDS, split="test", replicates=200)
    counted = {finding: evaluation["findings"][finding]["positive_patients"] for finding in SPACE.findings}
    assert counted["Hernia"] < 20 <= counted["Effusion"]
    assert evaluation["findings"]["Hernia"]["few"] and not evaluation["findings"]["Effusion"]["few"]
    assert evaluation["overall"]["mAP"]["few"] == sum(counted[finding] < 20 for finding in SPACE.scored)


def test_subsets_are_evaluated_separately(evaluation):
    assert {"view=frontal", "view=lateral", "sex=F", "sex=M", "age=0-17", "age=80+"} <= set(evaluation["subsets"])
    assert not any(name.startswith("label_source") for name in evaluation["subsets"])
    lateral = evaluation["subsets"]["view=lateral"]
    assert lateral["images"] == 300
    example = predictions()
    alone = evaluate(example.select(example.view.to_numpy() == "lateral"), THRESHOLDS, split="test", replicates=300)
    assert lateral["overall"] == alone["overall"]


def test_every_image_with_a_known_age_is_in_one_age_band():
    bands = [rows for name, rows in subset_rows(predictions()) if name.startswith("age")]
    assert (np.sum(bands, axis=0) == 1).all()


def test_weights_change_the_evaluation():
    heavy = predictions(weight=np.tile([5.0, 1.0], 300))
    evaluation = evaluate(heavy, THRESHOLDS, split="test", replicates=100)
    truth, score = heavy.truth[:, 1].astype(float), heavy.score[:, 1].astype(float)
    expected = AVERAGE_PRECISION(truth, score, heavy.weight).value
    assert evaluation["findings"]["Effusion"]["AP"]["value"] == pytest.approx(expected)


def test_a_missing_threshold_or_no_image_is_refused():
    example = predictions(20)
    with pytest.raises(DataError, match="Hernia has no threshold"):
        evaluate(example, {name: 0.5 for name in SPACE.findings if name != "Hernia"}, split="test")
    with pytest.raises(DataError, match="no image"):
        evaluate(example.select(np.zeros(len(example), bool)), THRESHOLDS, split="test")


def test_the_same_seed_gives_the_same_evaluation(evaluation):
    assert evaluate(predictions(), THRESHOLDS, split="test", replicates=300) == evaluation
