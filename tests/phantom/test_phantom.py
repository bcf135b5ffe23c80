"""Rendering: the effect of each finding on an image, and structures as a radiologist would describe them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, label

from trcgl.core.errors import DataError
from trcgl.dataset.sources.padchest_findings import SPACE
from trcgl.phantom.boxes import boxes
from trcgl.phantom.findings import FINDINGS
from trcgl.phantom.render import PhantomSpec, render, render_masks

RENDERED = [name for name in FINDINGS if name != "Normal"]
SHAPES = [name for name in RENDERED if FINDINGS[name].reshape]
SEVERAL = range(6)
FACTOR = {"Kyphosis": 0.8}  # crowds the ribs of the whole cage; the mask marks spine and apices


def spec(image, *findings, **fields):
    fields = {"seed": 3, "patient": image, "age": 60.0, "sex": "FM"[image % 2], "size": 128, **fields}
    return PhantomSpec(image=image, findings=findings, **fields)


def change(image, finding, **fields):
    """The phantom with the finding, and its gray values minus those of the same phantom without."""
    there = render(spec(image, finding, **fields))
    return there, there.pixels.astype(int) - render(spec(image, **fields)).pixels


def test_every_finding_of_padchest_30_can_be_rendered():
    assert list(FINDINGS) == list(SPACE.raw)


def test_the_same_specification_gives_the_same_pixels():
    assert (render(spec(1, "Mass", "fracture")).pixels == render(spec(1, "Mass", "fracture")).pixels).all()


def test_images_of_one_patient_share_the_anatomy_and_not_the_exposure():
    first, second = render(spec(0, patient=7, sex="M")), render(spec(1, patient=7, sex="M"))
    stranger = render(spec(0, patient=8, sex="M"))
    assert (first.pixels != second.pixels).any()
    apart = abs(first.facts["cardiothoracic ratio"] - stranger.facts["cardiothoracic ratio"])
    bedside = 1.07
    ratio = first.facts["cardiothoracic ratio"] / second.facts["cardiothoracic ratio"]
    assert min(abs(ratio - known) for known in (1, bedside, 1 / bedside)) < 1e-6 < apart


@settings(max_examples=12)
@given(
    size=st.integers(16, 140),
    findings=st.sets(st.sampled_from(RENDERED), max_size=4),
    age=st.floats(18, 97),
    sex=st.sampled_from("FM"),
    difficulty=st.floats(0.3, 3),
)
def test_any_size_and_any_set_of_findings_can_be_rendered(size, findings, age, sex, difficulty):
    phantom = render(PhantomSpec(findings=tuple(findings), size=size, age=age, sex=sex, difficulty=difficulty))
    assert phantom.pixels.shape == (size, size) and phantom.pixels.dtype == np.uint8
    assert set(phantom.masks) <= findings
    assert all(mask.shape == (size, size) and mask.any() for mask in phantom.masks.values())
    assert 30 < phantom.pixels.mean() < 230 and phantom.pixels.std() > 20


@pytest.mark.parametrize("finding", RENDERED)
def test_a_finding_shows_where_its_mask_is(finding):
    """In most images the picture changes, and more inside the mask than outside."""
    shown = 0
    for image in SEVERAL:
        phantom, gray = change(image, finding)
        mask = phantom.masks.get(finding)
        if mask is not None:
            assert mask.mean() < 0.5
            outside = np.abs(gray[~mask]).mean()
            factor = FACTOR.get(finding, 1.2 if finding in SHAPES else 2.0)
            shown += np.abs(gray[mask]).mean() > max(2.0, factor * outside)
    assert shown >= len(SEVERAL) - (2 if finding in SHAPES else 1)


@pytest.mark.parametrize("finding", ["Nodule", "calcified densities", "sternotomy", "aortic atheromatosis", "fracture"])
def test_a_small_finding_changes_nothing_elsewhere(finding):
    for image in SEVERAL:
        phantom, gray = change(image, finding)
        near = binary_dilation(phantom.masks[finding], iterations=6)
        assert not gray[~near].any()


def test_one_finding_more_leaves_the_others_as_they_were():
    alone, together = render(spec(2, "Nodule")), render(spec(2, "Nodule", "sternotomy"))
    assert (alone.masks["Nodule"] == together.masks["Nodule"]).all()
    away = ~binary_dilation(together.masks["sternotomy"], iterations=6)
    assert (alone.pixels[away] == together.pixels[away]).all()


def test_normal_renders_nothing():
    assert (render(spec(4, "Normal")).pixels == render(spec(4)).pixels).all()
    assert not render(spec(4, "Normal")).masks


def test_masks_can_be_rendered_without_the_image():
    several = spec(5, "Hernia", "cardiomegaly", "Pneumothorax")
    masks, phantom = render_masks(several), render(several)
    assert set(masks) == set(phantom.masks)
    assert all((masks[name] == phantom.masks[name]).all() for name in masks)


@pytest.mark.parametrize("finding", ["Nodule", "azygos lobe", "Pneumothorax", "Subcutaneous Emphysema"])
def test_a_higher_difficulty_makes_a_finding_fainter(finding):
    strength = [
        np.mean([np.abs(change(image, finding, difficulty=difficulty)[1]).sum() for image in SEVERAL])
        for difficulty in (0.5, 1.0, 2.0)
    ]
    assert strength[0] > 1.3 * strength[1] > 1.3**2 * strength[2]


# Structure: what a texture in the right place would not have.


def test_calcified_densities_are_dense_dots_of_their_size():
    for image in SEVERAL:
        phantom, gray = change(image, "calcified densities", size=256)
        dots = phantom.facts["calcified densities"]["dots"]
        parts, count = label(gray > 8)
        assert 1 <= count <= len(dots)
        largest = max(radius for _, _, radius in dots) * 256
        assert np.bincount(parts.ravel())[1:].max() <= len(dots) * np.pi * (1.5 * largest + 1) ** 2
        assert gray.min() >= 0


def test_the_azygos_fissure_is_one_thin_line_in_the_right_upper_lung():
    for image in SEVERAL:
        phantom, gray = change(image, "azygos lobe", size=192)
        mask = phantom.masks["azygos lobe"]
        assert label(mask, np.ones((3, 3)))[1] == 1
        rows, columns = np.nonzero(mask)
        assert columns.max() < 96 and rows.max() < 96
        assert np.ptp(rows) > 0.12 * 192
        line = mask[rows.min() : rows.min() + int(0.6 * np.ptp(rows))]
        assert np.median(line.sum(1)) <= 5
        assert (gray[mask] > 0).mean() > 0.9


@pytest.mark.parametrize("finding", ["Hydropneumothorax", "Hernia"])
def test_a_fluid_level_is_flat_however_the_patient_leans(finding):
    for image in SEVERAL:
        phantom, gray = change(image, finding, size=192)
        level = phantom.facts[finding]["level"] * 192
        across = phantom.masks[finding].any(0)
        steps = ((gray[2:] - gray[:-2])[:, across] > 12).mean(1)
        assert abs(steps.argmax() + 1.5 - level) < 2
        assert steps.max() > 0.3


def test_subcutaneous_emphysema_is_dark_streaks_with_one_direction():
    for image in SEVERAL:
        phantom, gray = change(image, "Subcutaneous Emphysema", size=192)
        mask = phantom.masks["Subcutaneous Emphysema"]
        assert gray.max() <= 1 and gray[mask].mean() < -8
        half = slice(None, 96) if mask[:, :96].sum() > mask[:, 96:].sum() else slice(96, None)
        down, right = np.gradient(gray[30:, half].astype(float))
        tensor = np.array([[np.sum(right * right), np.sum(right * down)], [np.sum(right * down), np.sum(down * down)]])
        weak, strong = np.linalg.eigvalsh(tensor)
        assert (strong - weak) / (strong + weak) > 0.25


def test_beyond_the_visceral_line_there_are_no_vessels():
    for image in SEVERAL:
        phantom, gray = change(image, "Pneumothorax", size=192)
        assert np.median(gray[phantom.masks["Pneumothorax"]]) < 0
        rim = phantom.masks["Pneumothorax"]
        inner_edge = binary_dilation(rim, iterations=2) & ~rim
        assert np.percentile(gray[inner_edge], 80) > 4


def test_free_air_is_a_dark_crescent_under_the_diaphragm():
    for image in SEVERAL:
        phantom, gray = change(image, "pneumoperitoneo", size=192)
        mask = phantom.masks["pneumoperitoneo"]
        assert gray[mask].mean() < -15
        for x, y, width, height in boxes(mask):
            assert width > 1.5 * height or x + width >= 190
            assert y > 0.5 * 192


def test_cardiomegaly_is_a_heart_wider_than_half_of_the_chest():
    ratio = {
        finding: [render(spec(image, *finding, size=32)).facts["cardiothoracic ratio"] for image in range(20)]
        for finding in [(), ("cardiomegaly",)]
    }
    assert min(ratio["cardiomegaly",]) > 0.5 and np.mean(ratio[()]) < 0.46


def test_hyperinflated_lungs_are_longer_and_hypoexpanded_ones_shorter():
    def lung_pixels(*findings):
        return np.mean([(render(spec(image, *findings, size=64)).pixels < 120).mean() for image in SEVERAL])

    assert lung_pixels("hypoexpansion") < lung_pixels() < lung_pixels("hyperinflated lung")


def test_boxes_enclose_the_parts_of_a_mask():
    for finding in ("Nodule", "sternotomy", "hypoexpansion", "calcified densities"):
        mask = render(spec(3, finding)).masks[finding]
        covered = np.zeros_like(mask)
        for x, y, width, height in boxes(mask):
            part = mask[y : y + height, x : x + width]
            assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()
            covered[y : y + height, x : x + width] = True
        assert covered[mask].all()
    assert boxes(np.zeros((8, 8), bool)) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"findings": ("pneumonia",)}, "pneumonia.*cardiomegaly"),
        ({"size": 4}, "16 or more"),
        ({"difficulty": 0.0}, "above 0"),
    ],
)
def test_a_specification_that_cannot_be_rendered_is_refused(fields, message):
    with pytest.raises(DataError, match=message):
        replace(PhantomSpec(), **fields)
