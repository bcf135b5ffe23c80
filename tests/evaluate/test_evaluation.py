import dataclasses
import json

import numpy as np
import pytest

from tests.evaluate.examples import SPACE, predictions
from trcgl.core.errors import DataError
from trcgl.evaluate.evaluation import evaluate, subset_rows
from trcgl.metrics.auroc import auroc
from trcgl.metrics.average_precision import average_precision
from trcgl.metrics.registry import METRICS

THRESHOLDS = dict.fromkeys(SPACE.findings, 0.4)


@pytest.fixture(scope="module")
def told():
    return evaluate(predictions(), THRESHOLDS, split="test", replicates=300)


def without_hernia():
    one = predictions(40)
    truth = one.truth.copy()
    truth[:, 3] = np.where(np.isnan(truth[:, 3]), np.nan, 0)
    return dataclasses.replace(one, truth=truth)


def test_it_is_the_documented_schema_and_plain_json(told):
    json.dumps(told, allow_nan=False)
    assert told["schema"] == "trcgl.evaluation/1"
    assert (told["split"], told["images"], told["patients"]) == ("test", 600, 300)
    assert set(told["overall"]) == {"mAP", "mAUC", "mSENS95", "mF1", "mPPV", "mECE"}
    assert set(told["groups"]) == {"head", "medium", "tail"}
    assert set(told["findings"]) == set(SPACE.findings)
    for name in METRICS:
        one = told["findings"]["Hernia"][name]
        assert one["ci"][0] <= one["value"] <= one["ci"][1]
    assert told["findings"]["Hernia"]["threshold"] == 0.4
    assert told["bootstrap"]["unit"] == "patient" and told["bootstrap"]["replicates"] == 300


def test_values_are_the_metrics(told):
    one = predictions()
    truth, score = one.truth[:, 2].astype(float), one.score[:, 2].astype(float)
    assert told["findings"]["Nodule"]["AP"]["value"] == pytest.approx(average_precision(truth, score).value)
    assert told["findings"]["Nodule"]["AUC"]["value"] == pytest.approx(auroc(truth, score).value)


def test_means_leave_out_the_normal_label_where_the_space_says_so(told):
    values = [told["findings"][one]["AP"]["value"] for one in ("Effusion", "Nodule", "Hernia")]
    assert told["overall"]["mAP"]["value"] == pytest.approx(np.mean(values))
    assert told["overall"]["mAP"]["findings"] == 3
    assert told["groups"]["head"]["findings"] == ["Effusion"]
    assert told["findings"]["No Finding"]["AP"]["value"] is not None


def test_the_interval_of_a_mean_is_shorter_than_those_of_its_findings(told):
    lengths = [np.diff(told["findings"][one]["AP"]["ci"])[0] for one in ("Effusion", "Nodule", "Hernia")]
    assert np.diff(told["overall"]["mAP"]["ci"])[0] < np.mean(lengths)


def test_an_undefined_metric_is_null_with_a_reason_and_leaves_the_mean():
    told = evaluate(without_hernia(), THRESHOLDS, split="val", replicates=200)
    hernia = told["findings"]["Hernia"]
    assert hernia["AP"] == {"value": None, "ci": None, "why": "no positive in this split"}
    assert hernia["AUC"]["value"] is None and hernia["F1"]["value"] is None
    assert told["overall"]["mAP"]["findings"] == 2
    assert told["groups"]["tail"]["mAP"] == {
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
    told = evaluate(dataclasses.replace(scored, truth=truth), THRESHOLDS, split="test", replicates=200)
    for one in (told["overall"]["mAP"], told["groups"]["tail"]["mAUC"]):
        assert one["value"] > 0 and one["ci"] is None and "fewer than two positive patients" in one["why"]
    assert told["groups"]["head"]["mAP"]["ci"] and told["overall"]["mECE"]["ci"]


def test_a_finding_with_fewer_than_20_positive_patients_is_marked_and_counted_in_its_mean():
    told = evaluate(predictions(100), THRESHOLDS, split="test", replicates=200)
    counted = {one: told["findings"][one]["positive_patients"] for one in SPACE.findings}
    assert counted["Hernia"] < 20 <= counted["Effusion"]
    assert told["findings"]["Hernia"]["few"] and not told["findings"]["Effusion"]["few"]
    assert told["overall"]["mAP"]["few"] == sum(counted[one] < 20 for one in SPACE.scored)


def test_subsets_are_evaluated_separately(told):
    assert {"view=frontal", "view=lateral", "sex=F", "sex=M", "age=0-17", "age=80+"} <= set(told["subsets"])
    assert not any(name.startswith("label_source") for name in told["subsets"])
    lateral = told["subsets"]["view=lateral"]
    assert lateral["images"] == 300
    one = predictions()
    alone = evaluate(one.select(one.view.to_numpy() == "lateral"), THRESHOLDS, split="test", replicates=300)
    assert lateral["overall"] == alone["overall"]


def test_every_image_with_a_known_age_is_in_one_age_band():
    bands = [rows for name, rows in subset_rows(predictions()) if name.startswith("age")]
    assert (np.sum(bands, axis=0) == 1).all()


def test_weights_change_the_evaluation():
    heavy = predictions(weight=np.tile([5.0, 1.0], 300))
    told = evaluate(heavy, THRESHOLDS, split="test", replicates=100)
    truth, score = heavy.truth[:, 1].astype(float), heavy.score[:, 1].astype(float)
    expected = average_precision(truth, score, heavy.weight).value
    assert told["findings"]["Effusion"]["AP"]["value"] == pytest.approx(expected)


def test_a_missing_threshold_or_no_image_is_refused():
    one = predictions(20)
    with pytest.raises(DataError, match="Hernia has no threshold"):
        evaluate(one, {name: 0.5 for name in SPACE.findings if name != "Hernia"}, split="test")
    with pytest.raises(DataError, match="no image"):
        evaluate(one.select(np.zeros(len(one), bool)), THRESHOLDS, split="test")


def test_the_same_seed_gives_the_same_evaluation(told):
    assert evaluate(predictions(), THRESHOLDS, split="test", replicates=300) == told
