import numpy as np

from trcgl.model.views import checked_views, seen_as

IMAGES = np.random.default_rng(0).integers(0, 255, (2, 32, 32), dtype=np.uint8)


def test_a_view_has_one_spelling():
    assert checked_views(("flip", "1.10", "0.9")) == ("flip", "1.1", "0.9")


def test_flip_mirrors_left_to_right():
    assert (seen_as(IMAGES, "flip") == IMAGES[:, :, ::-1]).all()


def test_a_magnification_of_two_shows_the_middle_half_and_of_one_half_pads_with_zeros():
    block = np.kron(IMAGES[:, :16, :16], np.ones((2, 2), np.uint8))  # a bilinear sample inside a block is its value
    shrunk = seen_as(block, "0.5")
    assert (shrunk[:, 8:24, 8:24] == block[:, ::2, ::2]).all()
    assert shrunk[:, :8].max() == 0 and shrunk[:, :, 24:].max() == 0
    flat = np.full((1, 32, 32), 7, np.uint8)
    flat[:, 8:24, 8:24] = 200
    assert (seen_as(flat, "2")[:, 2:-2, 2:-2] == 200).all()
