"""Synthetic images that differ from real ones are distinguished, and others are not."""

import numpy as np
import pytest

from trcgl.audit.checks.real_or_synthetic import real_or_synthetic
from trcgl.audit.patients import PatientImages, Sides


def result(shift, *, synthetic=80, held_out=80, train=80, each=2, seed=0):
    rng = np.random.default_rng(seed)

    def patients(count, kind):
        return [f"{kind}{place // each}" for place in range(count)]

    def images(mean, count, kind):
        return PatientImages.of(rng.normal(mean, 1, (count, 64)).astype(np.float32), patients(count, kind))

    sides = Sides(images(shift, synthetic, "t"), images(0, held_out, "h"), images(0, train, "t"))
    return real_or_synthetic(sides, replicates=200, seed=seed)


def test_synthetic_images_that_look_otherwise_are_told_from_real_ones_and_real_ones_are_not():
    found = result(0.4)
    assert found.auroc["value"] > 0.9
    assert found.auroc["ci"][0] > 0.8
    assert abs(found.null["value"] - 0.5) < 0.15
    assert (found.synthetic, found.real) == (80, 80)


def test_synthetic_images_that_are_like_real_ones_are_told_by_chance():
    values = [result(0.0, seed=seed).auroc["value"] for seed in range(6)]
    assert abs(np.mean(values) - 0.5) < 0.08


def test_both_comparisons_take_as_many_images():
    found = result(0.4, synthetic=80, train=40)
    assert found.synthetic == 40


def test_images_of_one_patient_are_never_split_between_fitting_and_testing():
    rng = np.random.default_rng(0)
    place = np.repeat(rng.normal(0, 3, (16, 64)), 10, axis=0).astype(np.float32)  # features that name the patient
    training = PatientImages.of(place[:80], [f"t{row // 10}" for row in range(80)])
    held_out = PatientImages.of(place[80:], [f"h{row // 10}" for row in range(80)])
    found = real_or_synthetic(Sides(training, held_out, training), replicates=100)
    assert found.auroc["value"] < 0.9


@pytest.mark.parametrize(
    ("sizes", "why"),
    [({"held_out": 19}, "fewer than 20 images"), ({"each": 30}, "fewer than 5 patients")],
)
def test_too_little_has_no_value_but_a_reason(sizes, why):
    found = result(0.4, **sizes)
    assert found.auroc["value"] is None
    assert why in found.auroc["why"]
