import numpy as np
import pytest

from trcgl.model.combination import Combination, log_odds, pooled
from trcgl.model.fusion import Fusion, fuse

SCORES = np.array([[0.1, 0.2], [0.5, 0.4], [np.nan, np.nan], [0.9, 0.3]], np.float32)
STUDIES = [[0, 1, 2], [3], [2]]


@pytest.mark.parametrize(
    ("fusion", "first"),
    [
        (Fusion(), [0.3, 0.3]),
        (Fusion("mean"), [0.3, 0.3]),
        (Fusion("max"), [0.5, 0.4]),
        (Fusion("learned", {"A": 0.5, "B": 0.0}), [0.4, 0.3]),
    ],
)
def test_studies_are_fused_without_images_that_have_no_scores(fusion, first):
    fused = fuse(SCORES, STUDIES, fusion.weights(["A", "B"]))
    np.testing.assert_allclose(fused, [first, [0.9, 0.3], [np.nan, np.nan]], rtol=1e-6)


def test_a_temperature_of_one_keeps_probabilities_and_extremes_stay_finite():
    scores = np.array([[0.0, 1.0], [0.25, 0.5]], np.float32)
    np.testing.assert_allclose(Combination((1.0,)).calibrated(scores), scores, atol=1e-7)
    assert np.isfinite(log_odds(scores)).all()
    np.testing.assert_allclose(Combination((1.0,), temperature=2.0).calibrated(scores)[1], [0.366025, 0.5], atol=1e-5)


def test_members_are_averaged_with_their_weights():
    each = [np.array([[0.2]]), np.array([[0.6]])]
    assert pooled(each)[0, 0] == pytest.approx(0.4) and pooled(each, (0.75, 0.25))[0, 0] == pytest.approx(0.3)
