import json

import numpy as np
import pytest

from tests.evaluate.examples import SPACE, predictions
from trcgl.core.errors import DataError
from trcgl.evaluate.evaluation import evaluate as evaluate_predictions
from trcgl.metrics import evaluate
from trcgl.metrics.registry import METRICS

THRESHOLDS = dict.fromkeys(SPACE.findings, 0.4)
SMALL = {"truth": [1, 0, 1, 0], "score": [0.9, 0.2, 0.7, 0.4], "patient_ids": ["a", "b", "c", "d"]}


def test_plain_arrays_give_the_numbers_of_an_evaluation():
    scored = predictions()
    result = evaluate(
        scored.truth, scored.score, scored.patient_id.to_list(), SPACE.findings, THRESHOLDS, replicates=200
    )
    document = evaluate_predictions(scored, THRESHOLDS, split="test", replicates=200)
    for name, finding in result["findings"].items():
        assert document["findings"][name] == {"group": SPACE.groups[name], **finding, "threshold": 0.4}
    assert (result["images"], result["patients"]) == (600, 300)
    assert result["overall"]["mAP"]["findings"] == 4  # a mean over all columns
    json.dumps(result, allow_nan=False)


def test_lists_of_one_finding_are_enough():
    result = evaluate(**SMALL, replicates=200)
    assert set(result["overall"]) == {f"m{name}" for name, metric in METRICS.items() if not metric.needs_threshold}
    assert "mF1" not in result["overall"] and "mAUC" in result["overall"]
    finding = result["findings"]["finding 1"]
    assert (finding["AUC"]["value"], finding["positives"], finding["few"]) == (1, 2, True)


def test_one_threshold_serves_all_findings():
    result = evaluate(**SMALL, thresholds=0.5, findings=["Mass"], replicates=200)
    assert result["findings"]["Mass"]["F1"]["value"] == result["findings"]["Mass"]["PPV"]["value"] == 1


def test_unknown_labels_may_be_none_or_nan():
    first = evaluate([1, 0, None, 0], SMALL["score"], SMALL["patient_ids"], replicates=100)
    second = evaluate([1, 0, np.nan, 0], SMALL["score"], SMALL["patient_ids"], replicates=100)
    assert first == second and first["findings"]["finding 1"]["known"] == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"score": [0.9, 0.2]}, r"truth is \(4, 1\), score \(2, 1\)"),
        ({"patient_ids": ["a"]}, "1 patient_ids"),
        ({"truth": [], "score": [], "patient_ids": []}, "no image"),
        ({"truth": [1, 2, 0, 0]}, "not 1 .present., 0"),
        ({"truth": ["yes", 0, 0, 0]}, "truth: not an array of numbers"),
        ({"score": [2.0, 0, 0, 0]}, "Give probabilities"),
        ({"findings": ["a", "b"]}, "2 names of findings for 1"),
        ({"thresholds": [0.5, 0.5]}, "2 thresholds for 1"),
        ({"thresholds": {"other": 0.5}}, "finding 1 has none"),
    ],
)
def test_wrong_input_is_refused_with_its_cause(changed, message):
    with pytest.raises(DataError, match=message):
        evaluate(**SMALL | changed, replicates=100)
