"""Copies are found, mirrored, brightened or noisy; other images are not taken for copies."""

import numpy as np
import pytest
import torch

from trcgl.generate import near_duplicates
from trcgl.generate.near_duplicates import SIDE, nearest, repeats, thumbnails


def images(count, side=64, seed=0):
    """Smooth random pictures."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.normal(size=(count, 1, 8, 8))).float()
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[:, 0].numpy()
    return (128 + 40 * fine).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("side", [28, 32, 64, 100])
def test_thumbnails_have_mean_0_and_length_1(side):
    small = thumbnails(images(5, side))
    assert small.shape == (5, SIDE, SIDE)
    assert small.mean((1, 2)).abs().max() < 1e-6
    assert torch.allclose(small.norm(dim=(1, 2)), torch.ones(5))


def test_an_image_without_contrast_resembles_nothing():
    blank = np.full((1, 64, 64), 77, np.uint8)
    assert (thumbnails(blank) == 0).all()
    assert nearest(thumbnails(blank), thumbnails(images(3)))[0] == 0


def test_rows_choose_images_of_the_store():
    store = images(9)
    assert torch.equal(thumbnails(store, np.array([7, 2])), thumbnails(store)[[7, 2]])


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image[:, ::-1],
        lambda image: (0.8 * image + 30).astype(np.uint8),
        lambda image: (image + np.random.default_rng(1).normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8),
    ],
    ids=["exact", "mirrored", "brighter", "noisy"],
)
def test_a_copy_is_nearer_than_any_other_image(change):
    known = images(200)
    copies = np.stack([change(image) for image in known[:20]])
    found = nearest(thumbnails(copies), thumbnails(known))
    others = nearest(thumbnails(images(200, seed=1)), thumbnails(known))
    assert found.min() > 0.98
    assert others.max() < 0.95


def test_images_of_one_patient_are_not_compared():
    known = images(6)
    known[1] = known[0]
    patients = np.array([0, 0, 1, 2, 3, 4])
    small = thumbnails(known)
    assert nearest(small, small)[0] == pytest.approx(1)
    assert nearest(small, small, apart=(patients, patients))[0] < 0.95
    assert nearest(small[:2], small[:2], apart=(patients[:2], patients[:2])).tolist() == [-1, -1]


def test_nothing_to_compare_with_is_said():
    small = thumbnails(images(2))
    assert nearest(small, small[:0]).tolist() == [-1, -1]


def test_chunks_change_nothing(monkeypatch):
    synthetic, known = thumbnails(images(50, seed=1)), thumbnails(images(40))
    synthetic[30] = synthetic[3].flip(-1)
    whole = nearest(synthetic, known), *repeats(synthetic, np.arange(50) % 5 > 0, 0.9)
    monkeypatch.setattr(near_duplicates, "_PRODUCTS", 300)
    parts = nearest(synthetic, known), *repeats(synthetic, np.arange(50) % 5 > 0, 0.9)
    for expected, found in zip(whole, parts, strict=True):
        np.testing.assert_allclose(expected, found, atol=1e-6)


def test_of_repeated_images_the_first_candidate_stays():
    synthetic = images(6)
    synthetic[2] = synthetic[0][:, ::-1]
    synthetic[4] = synthetic[0]
    similarity, repeated = repeats(thumbnails(synthetic), np.ones(6, bool), 0.99)
    assert repeated.tolist() == [False, False, True, False, True, False]
    assert np.isnan(similarity[0])
    assert similarity[[2, 4]] == pytest.approx([1, 1])

    similarity, repeated = repeats(thumbnails(synthetic), np.array([False, True, True, True, True, True]), 0.99)
    assert repeated.tolist() == [False, False, False, False, True, False]
    assert np.isnan(similarity[[0, 1]]).all()
