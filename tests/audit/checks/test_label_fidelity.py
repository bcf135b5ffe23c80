"""Synthetic images that show their finding pass, those that do not fail, and where nobody can tell it is said."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from trcgl.audit.check import FAIL, NOT_ASSESSABLE, PASS, TOO_EASY
from trcgl.audit.checks.label_fidelity import Discrimination, deranged, discrimination, of_synthetic, verdict
from trcgl.audit.intervals import rate
from trcgl.audit.scored_images import PairedScores

HOW = {"replicates": 400, "seed": 0}


def scores(shift, n=150, seed=0):
    """Logistic scores of images with a finding, that are `shift` higher than those without, and these."""
    rng = np.random.default_rng(seed)
    with_it, without = rng.normal(shift, 1, n), rng.normal(0, 1, n)
    return 1 / (1 + np.exp(-with_it)), 1 / (1 + np.exp(-without))


def measured(shift, *, threshold=0.7, each=1, n=150, seed=0):
    with_it, without = scores(shift, n, seed)
    sources = [f"p{place // each}" for place in range(n)]
    return of_synthetic(with_it, without, sources, threshold, **HOW)


def made(auroc, low, high, hit, false, positives=100):
    def share(value):
        return {"value": value, "ci": [value, value]}

    return Discrimination(
        {"value": auroc, "ci": [low, high]}, share(hit), share(false), positives, positives, positives
    )


REAL = made(0.85, 0.80, 0.90, 0.60, 0.10)


def test_the_auroc_and_the_rates_are_those_of_the_scores():
    with_it, without = scores(1.5)
    found = measured(1.5)
    truth = np.repeat([1, 0], 150)
    assert found.auroc["value"] == pytest.approx(roc_auc_score(truth, np.concatenate([with_it, without])))
    assert found.hit_rate["value"] == pytest.approx((with_it >= 0.7).mean())
    assert found.false_positive_rate["value"] == pytest.approx((without >= 0.7).mean())
    assert (found.positives, found.negatives, found.positive_patients) == (150, 150, 150)
    for metric in (found.auroc, found.hit_rate, found.false_positive_rate):
        assert metric["ci"][0] < metric["value"] < metric["ci"][1]


def test_images_that_share_a_label_set_decide_less_than_independent_ones():
    rng = np.random.default_rng(0)
    shared = np.repeat(rng.normal(0, 1, 15), 10)  # what a label set has to do with the score
    with_it, without = rng.normal(1, 1, 150) + shared, rng.normal(0, 1, 150) + shared
    found = [
        of_synthetic(with_it, without, [f"p{image // each}" for image in range(150)], 1.0, **HOW) for each in (1, 10)
    ]
    assert [fidelity.positive_patients for fidelity in found] == [150, 15]
    assert np.ptp(found[1].hit_rate["ci"]) > 1.5 * np.ptp(found[0].hit_rate["ci"])


def test_one_source_patient_gives_no_interval_and_no_verdict():
    found = measured(1.5, each=150)
    assert found.auroc["ci"] is None
    found = verdict(found, REAL)
    assert found.word == NOT_ASSESSABLE
    assert "fewer than two positive patients" in found.why


def test_unknown_labels_take_no_part_and_weights_count():
    truth = np.array([1, 1, 1, 0, 0, 0, np.nan, np.nan])
    score = np.array([0.9, 0.8, 0.1, 0.2, 0.3, 0.95, 1.0, 1.0])
    weight = np.array([1, 1, 0, 1, 1, 0, 1, 1.0])
    found = discrimination(truth, score, list("abcdefgh"), 0.5, weight, **HOW)
    assert (found.positives, found.negatives) == (3, 3)
    assert found.auroc["value"] == 1
    assert found.hit_rate["value"] == 1
    assert found.false_positive_rate["value"] == 0


def test_a_rate_is_covered_by_its_interval_as_often_as_it_says():
    covered, rng = 0, np.random.default_rng(0)
    for trial in range(150):
        called = rng.random(60) < 0.4
        low, high = rate(called, np.arange(60), replicates=100, seed=trial)["ci"]
        covered += low <= 0.4 <= high
    assert 0.9 <= covered / 150 <= 0.995


@pytest.mark.parametrize(
    ("synthetic", "word", "why"),
    [
        (made(0.88, 0.84, 0.91, 0.50, 0.08), PASS, "AUROC 0.880, from 0.840 up, beside 0.850"),
        (made(0.60, 0.50, 0.70, 0.50, 0.08), FAIL, "lower end of the AUROC's interval is 0.500, not above 0.5"),
        (made(0.84, 0.81, 0.87, 0.50, 0.08), PASS, "AUROC 0.840, from 0.810 up"),
        (made(0.84, 0.79, 0.89, 0.50, 0.08), FAIL, "interval is 0.790, more than 0.05 below the real 0.850"),
        (made(0.88, 0.84, 0.91, 0.29, 0.08), FAIL, "hit rate 29.0%, below half the real 60.0%"),
        (
            made(0.88, 0.84, 0.91, 0.50, 0.16),
            FAIL,
            "false-positive rate 16.0%, more than 5 points above the real 10.0%",
        ),
        (made(0.96, 0.94, 0.98, 0.90, 0.00), TOO_EASY, "AUROC 0.960 is more than 0.10 above the real 0.850"),
        (made(0.96, 0.94, 0.98, 0.00, 0.00), FAIL, "hit rate 0.0%"),
    ],
)
def test_each_rule_decides_with_its_reason(synthetic, word, why):
    found = verdict(synthetic, REAL)
    assert found.word == word
    assert why in found.why


def test_every_rule_that_fails_is_named():
    found = verdict(made(0.60, 0.50, 0.70, 0.10, 0.40), REAL)
    assert found.why.count(";") == 2


@pytest.mark.parametrize(
    ("real", "why"),
    [
        (dataclasses.replace(REAL, positives=19), "19 real images with it"),
        (made(0.69, 0.60, 0.75, 0.60, 0.10), "AUROC on real images is 0.690, below 0.70"),
    ],
)
def test_an_auditor_that_does_not_know_a_finding_judges_nothing(real, why):
    found = verdict(made(0.99, 0.98, 1.0, 1.0, 0.0), real)
    assert found.word == NOT_ASSESSABLE
    assert why in found.why


def audit_of(shifts, seen_as, n=120):
    """Scores of pairs of three findings; `seen_as[f][g]` is how much images with f raise the score of g."""
    rng = np.random.default_rng(0)
    names = list(shifts)
    targets = np.repeat(names, n)
    without = rng.normal(0, 1, (len(targets), len(names)))
    with_it = rng.normal(0, 1, (len(targets), len(names)))
    for row, target in enumerate(targets):
        for column, name in enumerate(names):
            with_it[row, column] += shifts[name] if name == target else seen_as.get((target, name), 0)
    patients = [f"p{row % n}" for row in range(len(targets))]
    rows = pl.DataFrame({"target": targets, "findings": [[target] for target in targets], "patient_id": patients})
    return PairedScores(with_it, without, rows)


def test_deranged_requests_say_nothing_about_a_finding_that_the_score_sees():
    pairs = audit_of({"A": 2.0, "B": 2.0, "C": 2.0}, {})
    for column, finding in enumerate("ABC"):
        null = deranged(finding, column, pairs, **HOW)
        assert null.pairs == 240
        assert null.auroc["value"] == pytest.approx(0.5, abs=0.08)  # three standard errors
        assert null.auroc["ci"][0] < 0.55
        own = (pairs.rows["target"] == finding).to_numpy()
        scores = pairs.with_target[own, column], pairs.without_target[own, column]
        assert of_synthetic(*scores, ["p"] * 120, 0.5, **HOW).auroc["value"] > 0.85


def test_a_score_that_sees_only_that_something_was_asked_for_is_caught():
    everything = {(target, other): 2.0 for target in "ABC" for other in "ABC" if target != other}
    pairs = audit_of({"A": 2.0, "B": 2.0, "C": 2.0}, everything)
    null = deranged("A", 0, pairs, **HOW)
    assert null.auroc["ci"][0] > 0.8


def test_the_finding_that_looks_like_this_one_is_named():
    pairs = audit_of({"A": 2.0, "B": 2.0, "C": 2.0}, {("C", "A"): 2.0})
    null = deranged("A", 0, pairs, **HOW)
    assert null.highest[0] == "C"
    assert null.of_other["C"] > 0.85
    assert null.of_other["B"] < 0.6


def test_images_whose_label_set_holds_the_finding_too_are_no_null():
    pairs = audit_of({"A": 2.0, "B": 2.0, "C": 2.0}, {})
    requested = [[target, "A"] if target == "C" else [target] for target in pairs.rows["target"]]
    pairs = dataclasses.replace(pairs, rows=pairs.rows.with_columns(findings=pl.Series(requested)))
    null = deranged("A", 0, pairs, **HOW)
    assert null.across
    assert null.pairs == 120
    assert null.of_other.keys() == {"B"}


def test_without_another_finding_requests_are_exchanged_within_pairs():
    pairs = audit_of({"A": 2.0}, {})
    null = deranged("A", 0, pairs, **HOW)
    assert not null.across
    assert null.pairs == 120
    assert null.highest is None
    assert null.auroc["value"] == pytest.approx(0.5, abs=0.12)  # three standard errors
