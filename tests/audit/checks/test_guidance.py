"""Guidance scales and prompts are compared on the same label sets and seeds."""

import numpy as np
import polars as pl
import pytest

from trcgl.audit.checks.guidance import difference, plot, pooled_fidelity
from trcgl.audit.scored_images import PairedScores
from trcgl.dataset.labels import LabelSpace

SPACE = LabelSpace("small", ("A", "B"), {"A": "tail", "B": "tail"}, "name")
THRESHOLDS = {"A": 1.0, "B": 1.0}


def pairs(shift, n=60, noise=0):
    """Scores of n pairs of each finding; those with it are `shift` higher in their own score."""
    rng = np.random.default_rng(0)
    targets = np.repeat(["A", "B"], n)
    without, with_it = rng.normal(0, 1, (2 * n, 2)), rng.normal(0, 1, (2 * n, 2))
    with_it[np.arange(2 * n), np.repeat([0, 1], n)] += shift
    other = np.random.default_rng(1).normal(0, noise, with_it.shape) if noise else 0
    rows = pl.DataFrame({"target": targets, "patient_id": [f"p{place % n}" for place in range(2 * n)]})
    return PairedScores(with_it + other, without, rows)


def test_each_finding_is_judged_by_its_own_score_and_threshold():
    given = pairs(2.0)
    pooled = pooled_fidelity(given, ("A", "B"), SPACE, THRESHOLDS)
    own = np.concatenate([given.with_target[:60, 0], given.with_target[60:, 1]])
    assert pooled.summary["hit_rate"]["value"] == pytest.approx((own >= 1).mean())
    assert pooled.summary["findings"].keys() == {"A", "B"}
    assert pooled.summary["auroc"]["value"] == pytest.approx(np.mean(list(pooled.summary["findings"].values())))
    assert pooled.summary["auroc"]["findings"] == 2
    assert pooled.summary["images"] == 120


def test_a_better_way_is_better_and_the_same_way_is_not():
    better, worse = (pooled_fidelity(pairs(shift), ("A", "B"), SPACE, THRESHOLDS) for shift in (2.0, 0.7))
    assert difference(better, worse)["ci"][0] > 0
    same = difference(better, pooled_fidelity(pairs(2.0, noise=0.05), ("A", "B"), SPACE, THRESHOLDS))
    assert same["ci"][0] < 0 < same["ci"][1]


def test_the_difference_is_paired():
    one, other = (pooled_fidelity(pairs(1.0, noise=noise), ("A", "B"), SPACE, THRESHOLDS) for noise in (0, 0.1))
    paired = np.ptp(difference(one, other)["ci"])
    assert paired < np.ptp(one.summary["auroc"]["ci"])


def at_scale(scale, auroc, vendi):
    value = {"value": auroc, "ci": [auroc - 0.05, auroc + 0.01]}
    diversity = {name: {"vendi": {"synthetic": {"value": vendi}}} for name in "AB"}
    rates = dict.fromkeys(("hit_rate", "false_positive_rate"), value)
    return {"guidance": scale, "own": scale == 3, "auroc": value, **rates, "diversity": diversity}


def test_the_sweep_is_a_figure_with_every_scale_and_a_description():
    figure = plot([at_scale(1, 0.7, 9.0), at_scale(3, 0.9, 7.0), at_scale(7.5, 0.95, 4.0)])
    assert 'role="img"' in figure
    for scale in ("1", "3", "7.5"):
        assert f">{scale}</text>" in figure


def test_a_sweep_whose_diversity_is_not_known_has_no_figure():
    assert plot([at_scale(1, 0.7, None)]) is None
    assert plot([]) is None
