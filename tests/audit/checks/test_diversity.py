"""Diversity is measured alike for synthetic and real images, and a generator that repeats itself is seen."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.audit.planting import phantoms
from trcgl.audit.checks.diversity import Diversity, Sample, diversity, vendi
from trcgl.audit.ms_ssim import levels
from trcgl.core.errors import DataError


def sample(images, patients=None, noise=0.0, seed=0):
    """Images with features: gray levels of 8 x 8 blocks around their mean."""
    side = images.shape[1] // 8
    blocks = images[:, : 8 * side, : 8 * side].reshape(len(images), 8, side, 8, side).mean((2, 4)).reshape(-1, 64)
    features = (blocks - 110).astype(np.float32)
    features += np.random.default_rng(seed).normal(0, 1, features.shape).astype(np.float32) * noise
    return Sample(images, features, patients if patients is not None else [f"p{row}" for row in range(len(images))])


@pytest.fixture(scope="module")
def images():
    return phantoms(180, 64)[0]


@pytest.fixture(scope="module")
def result(images):
    parts = np.split(images, 3)
    return diversity(*map(sample, parts), pairs=300, replicates=60)


def test_the_vendi_score_counts_different_images():
    assert vendi(np.eye(6)) == pytest.approx(6)
    assert vendi(np.ones((6, 4))) == pytest.approx(1)
    assert vendi(np.repeat(np.eye(3), 5, axis=0)) == pytest.approx(3)
    assert vendi(np.repeat(np.eye(3), [8, 1, 1], axis=0)) == pytest.approx(
        np.exp(-0.8 * np.log(0.8) - 0.2 * np.log(0.1))
    )


def test_the_vendi_score_is_that_of_the_whole_kernel_whatever_is_longer():
    for shape in ((40, 7), (7, 40)):
        rows = np.random.default_rng(0).normal(size=shape)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        values = np.linalg.eigvalsh(unit @ unit.T / len(rows)).clip(1e-15)
        assert vendi(rows * np.arange(1, len(rows) + 1)[:, None]) == pytest.approx(np.exp(-values @ np.log(values)))


def test_real_against_real_shows_no_difference(result):
    for measure in (result.ms_ssim, result.vendi):
        for difference in (measure.difference, measure.null):
            assert difference.ci[0] < difference.value < difference.ci[1]
            assert difference.ci[0] - 0.5 * abs(difference.value) < 0 < difference.ci[1] + 0.5 * abs(difference.value)
        assert measure.difference.value == pytest.approx(measure.synthetic.value - measure.held_out.value)
        assert measure.null.value == pytest.approx(measure.train.value - measure.held_out.value)


def test_n_and_levels_stand_beside_the_values(result):
    assert result.subset == 30 and result.betas == levels(64)
    assert result.images == result.patients == {"synthetic": 60, "held_out": 60, "train": 60}
    assert result.ms_ssim.n == {"synthetic": 300, "held_out": 300, "train": 300} and result.vendi.n["synthetic"] == 30
    assert 1 < result.vendi.synthetic.value < 30 and 0 < result.ms_ssim.synthetic.value < 1
    json.dumps(dataclasses.asdict(result), allow_nan=False)


def test_a_generator_that_repeats_itself_is_less_diverse(images):
    few = images[np.arange(60) % 6]
    result = diversity(sample(few, noise=0.1), sample(images[60:120]), sample(images[120:]), pairs=300, replicates=60)
    assert result.ms_ssim.difference.ci[0] > 0 > result.vendi.difference.ci[1]


def test_subsets_take_one_image_of_each_patient_and_the_smallest_sample_decides(images):
    names = [f"p{row // 2}" for row in range(60)]  # 30 patients with two images each
    result = diversity(
        sample(images[:60], names), sample(images[60:120]), sample(images[120:]), pairs=100, replicates=20
    )
    assert result.subset == 15 and result.patients["synthetic"] == 30


def test_too_few_patients_have_no_value_and_say_why(images):
    result = diversity(sample(images[:60]), sample(images[60:75]), sample(images[75:135]), pairs=50, replicates=20)
    assert isinstance(result, Diversity)
    assert result.vendi.synthetic.value is None and "10 are needed" in result.vendi.synthetic.why
    assert result.ms_ssim.held_out.value is None and "only 15 patients" in result.ms_ssim.held_out.why
    assert result.ms_ssim.difference.value is None and result.ms_ssim.synthetic.value is not None
    json.dumps(dataclasses.asdict(result), allow_nan=False)


def test_images_smaller_than_the_kernel_have_no_ms_ssim(images):
    result = diversity(*(sample(part[:, :10, :10]) for part in np.split(images, 3)), pairs=50, replicates=20)
    assert result.betas == () and "smaller than the kernel" in result.ms_ssim.synthetic.why
    assert result.vendi.synthetic.value is not None


def test_what_does_not_fit_together_is_refused(images):
    with pytest.raises(DataError, match="3 images, 3 rows of features, 2 patients"):
        Sample(images[:3], np.ones((3, 2), np.float32), ["a", "b"])
    with pytest.raises(DataError, match="image 1 has a feature"):
        Sample(images[:2], np.array([[1.0], [np.nan]], np.float32), ["a", "b"])
    with pytest.raises(DataError, match="differ in size"):
        diversity(sample(images[:30]), sample(images[:30, :32, :32]), sample(images[:30]))


@pytest.mark.slow
def test_intervals_of_the_null_cover_zero_as_often_as_they_say():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(12, 40))
    covered = np.zeros(2)
    for repetition in range(200):
        features = [(rng.normal(size=(80, 12)) @ mixed + 2).astype(np.float32) for _ in range(3)]
        coarse = rng.normal(size=(3, 80, 1, 4, 4))
        smooth = torch.nn.functional.interpolate(
            torch.from_numpy(coarse).flatten(0, 1).float(), (16, 16), mode="bicubic"
        )
        pixels = (128 + 40 * smooth.numpy()).clip(0, 255).astype(np.uint8).reshape(3, 80, 16, 16)
        names = [f"p{row}" for row in range(80)]
        samples = [Sample(one, two, names) for one, two in zip(pixels, features, strict=True)]
        result = diversity(*samples, seed=repetition, pairs=400, replicates=100)
        covered += [measure.null.ci[0] <= 0 <= measure.null.ci[1] for measure in (result.ms_ssim, result.vendi)]
    print(f"of 200 intervals {covered[0]:.0f} (MS-SSIM) and {covered[1]:.0f} (Vendi) cover 0")
    assert (covered >= 184).all()
