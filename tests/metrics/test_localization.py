"""Whether maps lie in boxes, on boxes and maps small enough to count by hand."""

import math

import numpy as np
import polars as pl
import pytest

from tests.evaluate.examples import SPACE
from trcgl.core.randomness import generator
from trcgl.metrics.localization import (
    COLUMNS,
    METRICS,
    at_side,
    box_mask,
    centered_gaussian,
    evaluate_localization,
    measure,
    measure_shuffled,
)
from trcgl.model.maps import square_weights

GROUPS = {finding: SPACE.groups.get(finding) for finding in SPACE.findings}

MASK = box_mask(np.array([[0.25, 0.25, 0.5, 0.25]]), 4)


def test_a_box_covers_the_pixels_whose_centers_are_in_it():
    expected = np.zeros((4, 4), bool)
    expected[1, 1:3] = True
    assert (expected == MASK).all()
    both = box_mask(np.array([[0.25, 0.25, 0.5, 0.25], [0, 0.5, 1, 0.5]]), 4)
    assert both.sum() == 2 + 8


@pytest.mark.parametrize("box", [[0.51, 0.51, 0.01, 0.01], [0.99, 0.99, 0.01, 0.01], [0, 0, 0.001, 0.001]])
def test_the_smallest_box_has_a_pixel(box):
    assert box_mask(np.array([box]), 4).sum() == 1


@pytest.mark.parametrize("size", [2, 3, 8, 31, 64])
def test_a_mask_keeps_its_place_and_share_at_another_size(size):
    left = np.zeros((size, size), bool)
    left[:, : size // 2] = True
    resized = at_side(left, 32)
    columns = resized.any(0)
    assert (resized == columns).all() and not (np.diff(columns.astype(int)) > 0).any()
    assert resized.mean() == pytest.approx(left.mean(), abs=1 / 32)


def test_a_mask_too_thin_for_any_pixel_keeps_one_in_its_middle():
    thin = np.zeros((64, 64), bool)
    thin[20, 40] = True
    assert np.argwhere(at_side(thin, 8)).tolist() == [[2, 5]]


def test_every_metric_is_what_one_counts():
    values = np.zeros((1, 4, 4))
    values[0, [1, 3, 0, 1], [1, 3, 0, 2]] = [4, 2, 1, 1]
    summary = dict(zip(METRICS, measure(values, MASK[None])[0], strict=True))
    assert summary == pytest.approx(
        {"pointing": 1, "energy": 5 / 8, "IoU@0.25": 2 / 4, "IoU@0.5": 1 / 3, "IoU@0.75": 1 / 2}
    )
    assert measure(7 * values, MASK[None])[0] == pytest.approx(list(summary.values()))


def test_of_two_highest_places_each_counts_half():
    values = np.zeros((1, 4, 4))
    values[0, 1, 1] = values[0, 3, 3] = 1
    assert measure(values, MASK[None])[0, 0] == 0.5


def test_a_map_that_says_nothing_counts_as_one_that_prefers_no_place():
    for value in (0.0, 0.3):
        assert measure(np.full((1, 4, 4), value), MASK[None])[0] == pytest.approx([MASK.mean()] * len(METRICS))


@pytest.mark.parametrize(("box", "area"), [([0, 0, 0.5, 1], 0.5), ([0.5, 0.5, 0.5, 0.5], 0.25)])
def test_random_maps_reach_the_share_of_the_boxes(box, area):
    masks = np.repeat(box_mask(np.array([box]), 32)[None], 300, axis=0)
    grids = np.random.default_rng(0).random((300, 6, 6)) ** 4

    def shuffled(seed):
        generators = [generator(seed, "shuffle", str(pair)) for pair in range(300)]
        return measure_shuffled(grids, masks, generators, square_weights(6, 32))

    values = shuffled(0)
    assert values[:, METRICS.index("energy")].mean() == pytest.approx(area, abs=0.02)
    assert values[:, METRICS.index("pointing")].mean() == pytest.approx(area, abs=0.04)
    assert (shuffled(0) == values).all()
    assert (shuffled(1) != values).any()


def test_the_centered_gaussian_points_at_the_middle_and_is_as_wide_as_it_says():
    gaussian = centered_gaussian(64)[None]
    middle, side = (box_mask(np.array([[edge, 0.25, 0.5, 0.5]]), 64)[None] for edge in (0.25, 0.5))
    assert measure(gaussian, middle)[0, 0] == 1
    assert measure(gaussian, side)[0, 0] == 0.5  # the box begins at the middle
    within = math.erf(1 / math.sqrt(2)) / math.erf(2 / math.sqrt(2))  # one standard deviation of a cut Gaussian
    assert measure(gaussian, middle)[0, 1] == pytest.approx(within**2, rel=0.01)


def table(patients=60, *, seed=0, good=0.8, null=0.3, weight=None):
    """Two images per patient and one finding on each, with maps that are better than their nulls."""
    rng = np.random.default_rng(seed)
    rows = 2 * patients
    columns = {
        "image_id": [f"image-{row}" for row in range(rows)],
        "patient_id": [f"patient-{row // 2}" for row in range(rows)],
        "finding": ["Effusion" if row // 2 % 3 else "Hernia" for row in range(rows)],
        "weight": np.ones(rows) if weight is None else weight,
        "boxes": [1] * rows,
        "area": [0.1] * rows,
    }
    for source, mean in (("grad_cam", good), ("grad_cam:random", null), ("centered_gaussian", null)):
        columns |= {f"{source}/{metric}": (mean + rng.uniform(-0.1, 0.1, rows)).clip(0, 1) for metric in METRICS}
    return pl.DataFrame(columns).with_columns(pl.col(name).cast(kind) for name, kind in COLUMNS.items())


def test_means_stand_with_intervals_over_patients_and_differences_from_both_nulls():
    rows = table()
    summary = evaluate_localization(rows, GROUPS, replicates=200)
    assert (summary["images"], summary["patients"], summary["boxes"], summary["regions"]) == (120, 60, 120, "boxes")
    assert list(summary["findings"]) == ["Effusion", "Hernia"]
    effusion = summary["findings"]["Effusion"]
    assert (effusion["images"], effusion["patients"], effusion["few"]) == (80, 40, False)
    energy = effusion["grad_cam"]["energy"]
    of_finding = rows.filter(pl.col("finding") == "Effusion")
    assert energy["value"] == pytest.approx(of_finding["grad_cam/energy"].mean())
    assert energy["ci"][0] < energy["value"] < energy["ci"][1]
    for null in ("centered_gaussian", "random"):
        assert energy["against"][null]["difference"] == pytest.approx(0.5, abs=0.05)
        assert energy["against"][null]["ci"][0] > 0.4
    overall = summary["overall"]["grad_cam"]["energy"]
    values = [summary["findings"][finding]["grad_cam"]["energy"]["value"] for finding in summary["findings"]]
    assert overall["value"] == pytest.approx(np.mean(values)) and overall["findings"] == 2


def test_a_map_no_better_than_chance_has_differences_around_nothing():
    summary = evaluate_localization(table(good=0.3), GROUPS, replicates=200)
    for metric in summary["overall"]["grad_cam"].values():
        for against in metric["against"].values():
            assert against["ci"][0] < 0.03 and against["ci"][1] > -0.03


def test_images_count_by_their_weight():
    weight = np.where(np.arange(120) < 12, 100.0, 1.0)
    rows = table(weight=weight)
    summary = evaluate_localization(rows, GROUPS, replicates=120)
    own = (rows["finding"] == "Hernia").to_numpy()
    expected = np.average(rows["grad_cam/pointing"].to_numpy()[own], weights=weight[own])
    assert summary["findings"]["Hernia"]["grad_cam"]["pointing"]["value"] == pytest.approx(expected)


def test_one_patient_has_a_value_and_no_interval():
    summary = evaluate_localization(table(1), GROUPS, replicates=120)
    assert summary["findings"]["Hernia"]["grad_cam"]["energy"]["ci"] is None
