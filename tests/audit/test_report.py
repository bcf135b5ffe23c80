"""Figures and numbers of the page."""

import pytest

from trcgl.audit import report


def way(scale, auroc, vendi):
    value = {"value": auroc, "ci": [auroc - 0.05, auroc + 0.01]}
    diversity = {one: {"vendi": {"drawn": {"value": vendi}}} for one in "AB"}
    rates = dict.fromkeys(("hit_rate", "false_positive_rate"), value)
    return {"guidance": scale, "own": scale == 3, "auroc": value, **rates, "diversity": diversity}


def test_the_sweep_is_a_figure_with_every_scale_and_words_for_who_cannot_see_it():
    figure = report._guidance([way(1, 0.7, 9.0), way(3, 0.9, 7.0), way(7.5, 0.95, 4.0)])
    assert 'role="img"' in figure
    for scale in ("1", "3", "7.5"):
        assert f">{scale}</text>" in figure


def test_a_sweep_whose_diversity_is_not_known_has_no_figure():
    assert report._guidance([way(1, 0.7, None)]) is None
    assert report._guidance([]) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (0.000123456, "0.000123"), (-0.0815, "-0.0815"), (4.5, "4.50"), (1234.5, "1234"), (0.224, "0.224")],
)
def test_a_distance_is_shown_with_three_digits_and_no_exponent(value, words):
    assert report._small(value) == words
