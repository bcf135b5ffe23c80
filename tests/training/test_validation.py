import numpy as np
import polars as pl
import pytest

from tests.dataset.small_dataset import SPACE, write_dataset
from trcgl.core.errors import DataError
from trcgl.dataset.store import open_dataset
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.training.validation import check_labels, validation_metrics

RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.integers(0, 2, (60, 4)).astype(np.float32)
SCORE = RANDOM.normal(size=(60, 4)).astype(np.float32)
WEIGHT = RANDOM.random(60)


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(write_dataset(tmp_path / "small"))


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
    with_zero = validation_metrics(truth, SCORE, WEIGHT, SPACE, "zero")
    assert with_zero == {**found, "val/mAP": pytest.approx(found["val/mAP"] * 2 / 3)}  # Hernia is one of three scored


def test_a_val_split_without_any_positive_is_refused():
    with pytest.raises(DataError, match="val has no positive"):
        validation_metrics(np.zeros_like(TRUTH), SCORE, WEIGHT, SPACE)


def test_findings_without_a_known_negative_have_no_average_precision(dataset):
    truth = np.where(TRUTH == 1, TRUTH, np.nan)
    with pytest.raises(DataError, match=r"val has no positive .* known negative .*--source\.blank absent"):
        validation_metrics(truth, SCORE, WEIGHT, SPACE)
    rows = dataset.manifest.with_columns(pl.col("Mass").replace(0, None))
    _, val, _ = check_labels(rows, SPACE)
    assert val.startswith("Without a known negative in val, so they have no AP or AUC") and val.endswith(": Mass.")
    with pytest.raises(DataError, match="val has no positive"):
        check_labels(rows.with_columns(pl.col("Edema", "Hernia").replace(0, None)), SPACE)
    assert check_labels(dataset.manifest, SPACE) == []
