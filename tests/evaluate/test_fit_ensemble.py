import numpy as np
import polars as pl

from tests.evaluate.examples import SPACE, predictions
from trcgl.evaluate.fit_ensemble import greedy_weights, learned_fusion
from trcgl.evaluate.studies import studies_of
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.model.fusion import fuse


def as_they_are(scores):
    return scores


def m_ap(scores, truth, weight):
    columns = [SPACE.index(finding) for finding in SPACE.scored]
    return np.mean([AVERAGE_PRECISION(truth[:, column], scores[:, column], weight).value for column in columns])


def test_greedy_weights_leave_out_a_run_that_adds_nothing():
    good = predictions(signal=3.0)
    weights = greedy_weights([1 - good.score, good.score], as_they_are, good.truth, good.weight, SPACE)
    assert weights == (0.0, 1.0)


def test_greedy_weights_are_at_least_as_good_on_val_as_the_best_run():
    truth = predictions()
    rng = np.random.default_rng(1)
    each = [1 / (1 + np.exp(-(truth.logit + rng.normal(size=truth.logit.shape) * noise))) for noise in (0.5, 1.0, 2.0)]
    weights = greedy_weights(each, as_they_are, truth.truth, truth.weight, SPACE)
    combined = m_ap(np.average(each, axis=0, weights=weights), truth.truth, truth.weight)
    assert np.isclose(sum(weights), 1)
    assert combined >= max(m_ap(scores, truth.truth, truth.weight) for scores in each)


def test_a_finding_that_one_view_alone_shows_learns_the_maximum():
    """Effusion shows in one of two images, with the other at random below; Nodule is the noisy mean of both."""
    rng = np.random.default_rng(0)
    patients = 400
    truth = np.full((patients, 4), 0.0, np.float32)
    truth[:, 1:3] = rng.random((patients, 2)) < 0.4
    truth[0, [0, 3]] = 1  # fewer than 20 patients: the common weight
    images = rng.uniform(0.2, 0.5, (2 * patients, 4)).astype(np.float32)
    images[::2, 1] = np.where(truth[:, 1] == 1, 0.55, 0.5)
    images[1::2, 1] = rng.uniform(0.0, 0.5, patients)
    images[:, 2] = np.clip(np.repeat(truth[:, 2], 2) * 0.3 + rng.normal(0.3, 0.2, 2 * patients), 0, 1)
    names = [str(patient) for patient in range(patients)]
    studies = [[2 * patient, 2 * patient + 1] for patient in range(patients)]
    weight = np.ones(patients)
    learned = learned_fusion(images, lambda scores, a: fuse(scores, studies, a), truth, weight, names, SPACE)
    assert learned["Effusion"] >= 0.9 and learned["Nodule"] < 0.5
    assert learned["Hernia"] == learned["No Finding"]


def test_a_study_belongs_to_one_patient_and_an_image_without_a_study_stands_alone():
    images = pl.DataFrame(
        {
            "image_id": ["a", "b", "c", "d", "e"],
            "patient_id": ["1", "2", "1", "1", "1"],
            "study_id": ["1", "1", "1", None, None],
        }
    )
    assert studies_of(images) == [[0, 2], [1], [3], [4]]
