"""Ways to draw are compared on the same label sets and seeds."""

import numpy as np
import polars as pl
import pytest

from trcgl.audit.checks.guidance import difference, judge_way
from trcgl.audit.scored_images import Pairs
from trcgl.dataset.labels import LabelSpace

SPACE = LabelSpace("small", ("A", "B"), {"A": "tail", "B": "tail"}, "name")
THRESHOLDS = {"A": 1.0, "B": 1.0}


def pairs(shift, n=60, noise=0):
    """Scores of n pairs of each finding; those with it are `shift` higher in their own score."""
    draw = np.random.default_rng(0)
    targets = np.repeat(["A", "B"], n)
    without, with_it = draw.normal(0, 1, (2 * n, 2)), draw.normal(0, 1, (2 * n, 2))
    with_it[np.arange(2 * n), np.repeat([0, 1], n)] += shift
    other = np.random.default_rng(1).normal(0, noise, with_it.shape) if noise else 0
    rows = pl.DataFrame({"target": targets, "patient_id": [f"p{place % n}" for place in range(2 * n)]})
    return Pairs(with_it + other, without, rows)


def test_each_finding_is_judged_by_its_own_score_and_threshold():
    given = pairs(2.0)
    way = judge_way(given, ("A", "B"), SPACE, THRESHOLDS)
    own = np.concatenate([given.with_it[:60, 0], given.with_it[60:, 1]])
    assert way.told["hit_rate"]["value"] == pytest.approx((own >= 1).mean())
    assert way.told["findings"].keys() == {"A", "B"}
    assert way.told["auroc"]["value"] == pytest.approx(np.mean(list(way.told["findings"].values())))
    assert way.told["auroc"]["findings"] == 2
    assert way.told["images"] == 120


def test_a_better_way_is_better_and_the_same_way_is_not():
    better, worse = (judge_way(pairs(shift), ("A", "B"), SPACE, THRESHOLDS) for shift in (2.0, 0.7))
    assert difference(better, worse)["ci"][0] > 0
    same = difference(better, judge_way(pairs(2.0, noise=0.05), ("A", "B"), SPACE, THRESHOLDS))
    assert same["ci"][0] < 0 < same["ci"][1]


def test_the_difference_is_paired():
    one, other = (judge_way(pairs(1.0, noise=noise), ("A", "B"), SPACE, THRESHOLDS) for noise in (0, 0.1))
    paired = np.ptp(difference(one, other)["ci"])
    assert paired < np.ptp(one.told["auroc"]["ci"])
