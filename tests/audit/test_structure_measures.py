"""Following a line: gaps and speckle show in its faintest fifth and in its unevenness."""

import numpy as np

from trcgl.audit.structure_measures import BESIDE, evenly, follow, ridge

PLACES, ACROSS = 40, 31
EVERYWHERE = np.ones((PLACES, ACROSS), bool)


def unrolled(strength):
    """A line two steps wide that wanders one step in four places."""
    ground = np.zeros((PLACES, ACROSS))
    middle = ACROSS // 2 + np.arange(PLACES) // 4 % 4
    ground[np.arange(PLACES), middle] = strength
    return ground, middle


def test_a_continuous_line_is_followed_where_it_wanders():
    ground, middle = unrolled(np.full(PLACES, 0.3))
    course = follow(ridge(ground), EVERYWHERE, enough=0.3)
    assert (course.across[2:-2] == middle[2:-2]).mean() > 0.8
    assert course.faintest > 0.25
    assert course.uneven < 0.4


def test_a_line_with_gaps_is_faint_and_uneven():
    strength = np.where(np.arange(PLACES) % 3 == 0, 0.9, 0.0)
    course = follow(ridge(unrolled(strength)[0]), EVERYWHERE, enough=0.3)
    assert course.faintest < 0.05
    assert course.uneven > 0.8


def test_a_line_is_not_followed_where_it_may_not_run():
    ground, middle = unrolled(np.full(PLACES, 0.3))
    course = follow(ridge(ground), np.arange(ACROSS)[None] < np.full((PLACES, 1), middle.min() - 2), enough=0.3)
    assert course.faintest < 0.05


def test_a_slope_and_a_broad_band_are_no_ridge():
    slope = np.tile(np.linspace(0, 3, ACROSS), (PLACES, 1))
    assert np.abs(ridge(slope)).max() < 1e-12
    band = np.zeros((PLACES, ACROSS))
    band[:, 8:24] = 1
    assert np.abs(ridge(band)[:, 8 + BESIDE : 24 - BESIDE]).max() == 0


def test_points_lie_evenly_on_a_bent_path():
    path = evenly(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 3.0]]), 0.5)
    gaps = np.hypot(*np.diff(path, axis=0).T)
    assert len(path) == 9
    assert np.allclose(gaps, 0.5)
