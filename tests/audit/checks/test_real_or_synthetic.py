"""Drawn images that differ from real ones are told apart, and those that do not are not."""

import numpy as np
import pytest

from trcgl.audit.checks.real_or_synthetic import real_or_drawn


def told(shift, *, drawn=80, held_out=80, train=80, each=2, seed=0):
    draw = np.random.default_rng(seed)

    def patients(count, kind):
        return [f"{kind}{place // each}" for place in range(count)]

    return real_or_drawn(
        draw.normal(shift, 1, (drawn, 64)).astype(np.float32),
        draw.normal(0, 1, (held_out, 64)).astype(np.float32),
        draw.normal(0, 1, (train, 64)).astype(np.float32),
        drawn_sources=patients(drawn, "t"),
        held_out_patients=patients(held_out, "h"),
        train_patients=patients(train, "t"),
        replicates=200,
        seed=seed,
    )


def test_drawn_images_that_look_otherwise_are_told_from_real_ones_and_real_ones_are_not():
    found = told(0.4)
    assert found.auroc["value"] > 0.9
    assert found.auroc["ci"][0] > 0.8
    assert abs(found.null["value"] - 0.5) < 0.15
    assert (found.drawn, found.real) == (80, 80)


def test_drawn_images_that_are_like_real_ones_are_told_by_chance():
    values = [told(0.0, seed=seed).auroc["value"] for seed in range(6)]
    assert abs(np.mean(values) - 0.5) < 0.08


def test_both_comparisons_take_as_many_images():
    found = told(0.4, drawn=80, train=40)
    assert found.drawn == 40


def test_images_of_one_patient_are_never_split_between_fitting_and_judging():
    draw = np.random.default_rng(0)
    place = np.repeat(draw.normal(0, 3, (16, 64)), 10, axis=0).astype(np.float32)  # features that name the patient
    found = real_or_drawn(
        place[:80],
        place[80:],
        place[:80],
        drawn_sources=[f"t{one // 10}" for one in range(80)],
        held_out_patients=[f"h{one // 10}" for one in range(80)],
        train_patients=[f"t{one // 10}" for one in range(80)],
        replicates=100,
    )
    assert found.auroc["value"] < 0.9


@pytest.mark.parametrize(
    ("sizes", "why"),
    [({"held_out": 19}, "fewer than 20 images"), ({"each": 30}, "fewer than 5 patients")],
)
def test_too_little_has_no_value_but_a_reason(sizes, why):
    found = told(0.4, **sizes)
    assert found.auroc["value"] is None
    assert why in found.auroc["why"]
