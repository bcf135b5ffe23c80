import numpy as np
import pytest

from tests.dataset.small_dataset import SPACE
from trcgl.core.errors import DataError
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.training.validation import validation_metrics

RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.integers(0, 2, (60, 4)).astype(np.float32)
SCORE = RANDOM.normal(size=(60, 4)).astype(np.float32)
WEIGHT = RANDOM.random(60)


def test_the_mean_is_over_the_scored_findings_weighted_and_without_unknown_labels():
    truth = TRUTH.copy()
    truth[:20, 1] = np.nan
    found = validation_metrics(truth, SCORE, WEIGHT, SPACE)
    each = [AVERAGE_PRECISION(truth[:, column], SCORE[:, column], WEIGHT).value for column in range(3)]
    assert found["val/mAP"] == pytest.approx(np.mean(each))
    assert found["val/mAP_tail"] == pytest.approx(each[2])


def test_a_group_without_positives_has_no_mean():
    truth = TRUTH.copy()
    truth[:, 2] = 0
    found = validation_metrics(truth, SCORE, WEIGHT, SPACE)
    assert "val/mAP_tail" not in found and np.isfinite(found["val/mAP"])


def test_a_val_split_without_any_positive_is_refused():
    with pytest.raises(DataError, match="val has no positive"):
        validation_metrics(np.zeros_like(TRUTH), SCORE, WEIGHT, SPACE)
