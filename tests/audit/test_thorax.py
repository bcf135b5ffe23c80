"""The estimated thorax: where lungs and domes are, whatever lies over them."""

import numpy as np
import pytest

from trcgl.audit.thorax import estimate_thorax
from trcgl.phantom.render import PhantomSpec, render, render_masks


def spec(image, *findings, size=64):
    return PhantomSpec(seed=6, patient=image, image=image, findings=findings, age=60.0, sex="FM"[image % 2], size=size)


@pytest.mark.parametrize("size", [64, 96])
def test_the_lungs_are_found_under_devices_and_lesions(size):
    for image in range(3):
        # `hyperinflated lung` marks the open lungs and moves them; the same specification renders both.
        shown = spec(image, "Support Devices", "Nodule", "hyperinflated lung", size=size)
        truth = render_masks(shown)["hyperinflated lung"]
        found = estimate_thorax(render(shown).pixels).chest.open_lung > 0.5
        assert (truth & found).sum() / (truth | found).sum() > 0.85


def test_what_is_left_over_is_the_finding():
    shown = render(spec(1, "Mass"))
    excess = estimate_thorax(shown.pixels).excess
    inside = shown.masks["Mass"]
    assert np.median(excess[inside]) > 0.3
    assert abs(np.median(excess[~inside])) < 0.05


def test_the_same_picture_gives_the_same_thorax():
    picture = render(spec(2)).pixels
    first = estimate_thorax(picture)
    assert first is estimate_thorax(picture.copy())
    assert first.misfit < estimate_thorax(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).misfit
