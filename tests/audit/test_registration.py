"""A copy is recognized and what was done to it measured; another image is not taken for a copy."""

import numpy as np
import pytest
from PIL import Image

from tests.audit.planting import KINDS, phantoms
from trcgl.audit import registration
from trcgl.audit.registration import MOST, best_matches


@pytest.fixture(scope="module")
def images():
    return phantoms(90, 64)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_found_and_more_similar_than_any_other_image(images, kind):
    rng = np.random.default_rng(1)
    copies = np.stack([KINDS[kind](image, rng) for image in images[:12]])
    found = best_matches(copies, images[:45])
    others = best_matches(images[45:], images[:45])
    assert found.row.tolist() == list(range(12))
    assert found.similarity.min() > 0.98 > others.similarity.max() + 0.02
    assert (found.mirrored == (kind in ("mirrored", "everything"))).all()


@pytest.mark.parametrize("window", [(0, 3, 61, 64), (3, 3, 64, 64), (1, 0, 63, 62), (2, 1, 64, 63)])
def test_the_margins_of_a_crop_are_measured(images, window):
    left, top, right, bottom = window
    side = Image.Resampling.BILINEAR
    copy = np.asarray(Image.fromarray(images[5]).resize((64, 64), side, window))
    found = best_matches(copy[None], images[:20])
    assert found.row[0] == 5 and not found.mirrored[0]
    assert found.margins[0] * 64 == pytest.approx([top, 64 - bottom, left, 64 - right], abs=0.3)


def test_the_margins_of_other_images_stay_within_what_counts_as_a_copy(images):
    found = best_matches(images[:20], images[20:])
    for axis in (found.margins[:, :2], found.margins[:, 2:]):
        assert axis.min() >= 0 and axis.sum(1).max() <= MOST + 1e-6


@pytest.mark.parametrize("size", [28, 64, 160])
def test_images_of_any_size_are_compared(images, size):
    resized = np.stack([np.asarray(Image.fromarray(image).resize((size, size))) for image in images[:20]])
    found = best_matches(resized[3:5, :, ::-1], resized)
    assert found.row.tolist() == [3, 4] and found.mirrored.all()
    assert found.similarity.min() > 0.999


def test_images_of_one_patient_are_not_compared(images):
    patient = np.arange(10)
    found = best_matches(images[:10], images[:10], apart=(patient, patient))
    assert (found.row != patient).all() and found.similarity.max() < 0.98
    alone = best_matches(images[:2], images[:1], apart=(np.zeros(2, int), np.zeros(1, int)))
    assert alone.row.tolist() == [-1, -1] and alone.similarity.tolist() == [-1, -1]


def test_rows_choose_among_the_originals(images):
    found = best_matches(images[:4], images, np.array([2, 50, 51, 3]))
    assert found.row[2:].tolist() == [2, 3] and set(found.row[:2]) <= {2, 3, 50, 51}


def test_an_image_without_contrast_resembles_nothing(images):
    blank = np.full((1, 64, 64), 90, np.uint8)
    assert best_matches(blank, images[:9]).similarity[0] == 0
    assert best_matches(images[:2], np.repeat(blank, 3, 0)).similarity.tolist() == [0, 0]


def test_nothing_to_compare_with_is_said(images):
    found = best_matches(images[:2], images[:0])
    assert found.row.tolist() == [-1, -1] and found.similarity.tolist() == [-1, -1]


def test_chunks_change_nothing(images, monkeypatch):
    whole = best_matches(images[:12], images[6:40])
    for name, size in (("_CHUNK", 7), ("_QUERIES", 5), ("_TOGETHER", 4)):
        monkeypatch.setattr(registration, name, size)
    for one, other in zip(whole, best_matches(images[:12], images[6:40]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
