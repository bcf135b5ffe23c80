"""What an autoencoder erases is found, and what it keeps is measured to be kept."""

import numpy as np
import pytest
import torch

from tests.generate.small_generator import small_generator
from trcgl.audit.checks.ceiling import ceilings
from trcgl.audit.round_trip import pixel_error, round_trip
from trcgl.core.generator_recipe import AutoencoderRecipe
from trcgl.generate.autoencoder import build_autoencoder

HOW = {"replicates": 300, "seed": 0}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 32, 32), dtype=np.uint8)


def test_space_to_depth_is_measured_to_lose_nothing(images):
    rows = np.array([7, 2, 3])
    back = round_trip(small_generator()[0], images, rows, batch_size=2)
    assert np.array_equal(back, images[rows])
    error = pixel_error(images, rows, back)
    assert error.lossless
    assert (error.images, error.largest, error.mean) == (3, 0, 0.0)


def test_a_vae_and_another_size_are_measured_to_lose(images):
    generator, _ = small_generator()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator.vae = build_autoencoder(AutoencoderRecipe(kind="vae", factor=4, width=16)).eval()
    smaller, _ = small_generator(image_size=16)
    for some in (generator, smaller):
        rows = np.arange(10)
        error = pixel_error(images, rows, round_trip(some, images, rows))
        assert not error.lossless
        assert error.largest > 50
        assert 0 < error.mean < 255


def ceiling_of(before, after, positives=80, rows=400):
    """Ceiling of one finding whose positives score so much higher before and after."""
    rng = np.random.default_rng(0)
    truth = (np.arange(rows) < positives).astype(float)[:, None]
    noise = rng.normal(0, 1, (rows, 1))
    other = rng.normal(0, 1, (rows, 1))
    patients = [str(row // 2) for row in range(rows)]
    [found] = ceilings(truth, noise + before * truth, 0.7 * noise + 0.7 * other + after * truth, patients, **HOW)
    return found


def test_a_finding_that_survives_is_representable():
    found = ceiling_of(2.0, 2.0)
    assert found.representable is True
    assert found.loss["ci"][0] < found.loss["value"] < found.loss["ci"][1]
    assert found.loss["value"] == pytest.approx(found.untouched["value"] - found.reconstructed["value"])


def test_a_finding_that_is_erased_is_not_representable():
    found = ceiling_of(2.0, 0.0)
    assert found.representable is False
    assert "below 0.70" in found.why


def test_a_finding_that_loses_much_is_not_representable_even_above_the_floor():
    found = ceiling_of(3.0, 1.0)
    assert found.reconstructed["ci"][1] > 0.70
    assert found.representable is False
    assert "more than 0.10" in found.why


@pytest.mark.parametrize(("before", "positives", "why"), [(0.2, 80, "below 0.70"), (3.0, 10, "10 real images")])
def test_what_the_auditor_does_not_know_has_no_ceiling(before, positives, why):
    found = ceiling_of(before, 0.0, positives)
    assert found.representable is None
    assert why in found.why


def test_a_finding_without_positives_has_no_value_but_a_reason():
    truth = np.zeros((20, 1))
    [found] = ceilings(truth, np.random.default_rng(0).random((20, 1)), np.zeros((20, 1)), list(map(str, range(20))))
    assert found.representable is None
    assert found.untouched["value"] is None
    assert "no positive" in found.why
