import numpy as np
import pytest

from trcgl.metrics.sensitivity import SENSITIVITY


def test_the_threshold_may_call_one_negative_in_twenty():
    score = np.append(np.linspace(0.01, 0.20, 20), [0.195, 0.185, 0.5])
    truth = np.repeat([0.0, 1.0], [20, 3])
    # Above .19 lies one negative of twenty (specificity 95 %), above .18 lie two.
    assert SENSITIVITY(truth, score).value == pytest.approx(2 / 3)


def test_a_negative_with_the_score_of_a_positive_is_called_with_it():
    truth = np.repeat([0.0, 1.0], [19, 1])
    assert SENSITIVITY(truth, np.full(20, 0.5)).value == 0
    assert SENSITIVITY(truth, np.append(np.full(19, 0.4), 0.5)).value == 1


def test_weights_count_as_images():
    truth, score = np.array([0.0, 0, 1, 1]), np.array([0.1, 0.8, 0.9, 0.7])
    assert SENSITIVITY(truth, score, np.array([19.0, 1, 1, 1])).value == 1
    assert SENSITIVITY(truth, score, np.array([18.0, 1, 1, 1])).value == 0.5


def test_the_specificity_can_be_chosen():
    truth, score = np.array([0.0, 0, 1, 1]), np.array([0.1, 0.8, 0.9, 0.7])
    assert SENSITIVITY(truth, score, specificity=0.5).value == 1
