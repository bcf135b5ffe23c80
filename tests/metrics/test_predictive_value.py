import numpy as np

from trcgl.metrics.predictive_value import NONE_CALLED, POSITIVE_PREDICTIVE_VALUE
from trcgl.metrics.rows import NO_POSITIVE
from trcgl.metrics.summary import measure


def test_it_is_the_share_of_called_images_that_have_the_finding():
    truth, score = np.array([1.0, 0, 1, 0, np.nan]), np.array([0.9, 0.8, 0.5, 0.1, 0.9])
    assert POSITIVE_PREDICTIVE_VALUE(truth, score, threshold=0.5).value == 2 / 3
    assert POSITIVE_PREDICTIVE_VALUE(truth, score, np.array([1, 3.0, 1, 1, 1]), 0.6).value == 0.25


def test_it_is_undefined_where_nothing_is_called_or_nothing_could_be_right():
    score = np.array([0.1, 0.2])
    assert POSITIVE_PREDICTIVE_VALUE(np.array([1.0, 0]), score) == (None, NONE_CALLED)
    assert POSITIVE_PREDICTIVE_VALUE(np.zeros(2), score, threshold=0.1) == (None, NO_POSITIVE)


def test_the_patients_with_a_called_image_decide_its_interval():
    truth = np.repeat([1.0, 0.0], 30)[:, None]
    score = np.where(np.arange(60) < 1, 0.9, 0.1)[:, None]
    measured = measure(
        truth, score, np.arange(60).astype(str), None, [0.5], metrics=(POSITIVE_PREDICTIVE_VALUE,), replicates=200
    )
    assert measured.freedom["PPV"] == [0]
    found = measured.finding(0)["PPV"]
    assert found["value"] == 1 and found["ci"] is None and "fewer than two patients called positive" in found["why"]
