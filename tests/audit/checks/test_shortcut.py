"""Synthetic normals that score like a rare finding are seen; normals that score like others are not accused."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.special import expit

from trcgl.audit.checks.shortcut import Normals, shortcut
from trcgl.core.errors import DataError
from trcgl.metrics.auroc import AUROC

FINDINGS = ("Hernia", "azygos lobe")
CUTS = {"Hernia": 0.3, "azygos lobe": 0.9}


def normals(name, images, shift=(0.0, 0.0), seed=0, per_patient=1):
    """Scores around 12 %, moved on the logit scale."""
    logits = np.random.default_rng(seed).normal(-2, 1, (images, 2)) + shift
    return Normals(expit(logits).astype(np.float32), [f"{name}{row // per_patient}" for row in range(images)])


@pytest.fixture(scope="module")
def result():
    held_out = normals("h", 240, seed=1, per_patient=2)
    moved = Normals(expit(np.log(held_out.score / (1 - held_out.score)) + 0.05), held_out.patients)
    return shortcut(
        normals("d", 200, (1.0, 0.0)),
        held_out,
        normals("t", 150, seed=2),
        moved,
        findings=FINDINGS,
        thresholds=CUTS,
        replicates=400,
    )


def test_a_finding_that_synthetic_normals_score_higher_for_is_named(result):
    one, other = (result.findings[name] for name in FINDINGS)
    assert one.looks_rare is True and other.looks_rare is False
    assert one.synthetic.auroc["value"] == pytest.approx(0.76, abs=0.05)
    assert one.synthetic.auroc["ci"][0] > 0.6
    assert one.synthetic.shift["value"] > 0.2 and one.synthetic.shift["ci"][0] > 0


def test_the_null_of_real_against_real_shows_no_shift(result):
    for finding in result.findings.values():
        assert finding.null.auroc["ci"][0] < 0.5 < finding.null.auroc["ci"][1]
        assert finding.null.shift["ci"][0] <= 0 <= finding.null.shift["ci"][1]


def test_the_values_are_those_of_the_scores():
    synthetic, held_out = normals("d", 60, (0.5, 0)), normals("h", 50, seed=1)
    result = shortcut(synthetic, held_out, normals("t", 40, seed=2), findings=FINDINGS, thresholds=CUTS, replicates=200)
    one = result.findings["Hernia"]
    both = np.concatenate([synthetic.score[:, 0], held_out.score[:, 0]]).astype(np.float64)
    assert one.synthetic.auroc["value"] == AUROC(np.repeat([1.0, 0.0], [60, 50]), both).value
    assert one.synthetic.false_positive_rate["value"] == (synthetic.score[:, 0] >= 0.3).mean()
    assert one.synthetic.held_out_false_positive_rate["value"] == (held_out.score[:, 0] >= 0.3).mean()
    assert one.round_trip is None and (one.synthetic.images, one.synthetic.patients) == (60, 60)


def test_a_round_trip_is_compared_in_pairs(result):
    # The same small shift is sure where pairs stay together, and unsure between different patients.
    paired = result.findings["Hernia"].round_trip.auroc
    assert paired["value"] == pytest.approx(0.51, abs=0.02)
    assert paired["ci"][0] > 0.5
    assert np.ptp(paired["ci"]) < np.ptp(result.findings["Hernia"].null.auroc["ci"]) / 4


def test_a_rate_of_zero_still_has_an_interval(result):
    one = result.findings["azygos lobe"].synthetic
    assert one.false_positive_rate["value"] == 0
    assert one.shift["value"] == 0 and one.shift["ci"][0] < 0 < one.shift["ci"][1]


def test_counts_stand_beside_the_values_and_are_plain_json(result):
    assert (result.held_out_images, result.held_out_patients) == (240, 120)
    stored = json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))
    assert stored["findings"]["Hernia"]["null"]["images"] == 150


def test_normals_of_few_patients_are_not_compared():
    result = shortcut(
        normals("d", 40, per_patient=4), normals("h", 50), normals("t", 50), findings=FINDINGS, thresholds=CUTS
    )
    one = result.findings["Hernia"]
    assert one.synthetic.auroc["value"] is None and "only 10 patients" in one.synthetic.auroc["why"]
    assert one.looks_rare is None and one.null.auroc["value"] is not None
    json.dumps(dataclasses.asdict(result), allow_nan=False)


def test_what_does_not_fit_together_is_refused():
    synthetic, held_out, train = (normals(name, 30) for name in "dht")
    more = {"findings": FINDINGS, "thresholds": CUTS}
    with pytest.raises(DataError, match="Hernia has no threshold"):
        shortcut(synthetic, held_out, train, findings=FINDINGS, thresholds={"azygos lobe": 0.5})
    with pytest.raises(DataError, match="scores of 2 findings, expected 1"):
        shortcut(synthetic, held_out, train, findings=("Hernia",), thresholds=CUTS)
    with pytest.raises(DataError, match="not the held-out normals"):
        shortcut(synthetic, held_out, train, train, **more)
    broken = Normals(np.where(np.arange(60).reshape(30, 2) == 7, np.nan, 0.5), synthetic.patients)
    with pytest.raises(DataError, match="synthetic normals, row 3"):
        shortcut(broken, held_out, train, **more)
    with pytest.raises(DataError, match="2 rows of scores have 1 patients"):
        Normals(np.ones((2, 2)), ["a"])


@pytest.mark.slow
def test_without_a_shift_few_findings_are_named():
    named = []
    for seed in range(200):
        samples = [normals(name, 120, seed=3 * seed + place, per_patient=2) for place, name in enumerate("dht")]
        result = shortcut(*samples, findings=FINDINGS, thresholds=CUTS, replicates=300, seed=seed)
        named += [finding.looks_rare for finding in result.findings.values()]
    print(f"{sum(named)} of {len(named)} findings named")
    assert np.mean(named) <= 0.04
