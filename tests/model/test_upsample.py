"""Maps at the pixels of the square picture and of the radiograph."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trcgl.imaging.radiograph import fit_square
from trcgl.model.upsample import to_radiograph, to_square


def ramp(side, cells):
    """A map whose value at every center is its distance from the left, and from the top, in pixels of the square."""
    centers = (np.arange(cells) + 0.5) * side / cells
    return np.stack([np.tile(centers, (cells, 1)), np.tile(centers[:, None], (1, cells))])


@pytest.mark.parametrize(("rows", "columns"), [(300, 200), (200, 300), (64, 64), (37, 120)])
@pytest.mark.parametrize("fit", ["letterbox", "squash"])
def test_undoing_the_square_is_exact(rows, columns, fit):
    _, placement = fit_square(np.zeros((rows, columns), np.uint8), 64, fit)
    x, y = to_radiograph(ramp(64, 16), (rows, columns), placement, 64)
    at_x = (np.arange(columns) + 0.5) * placement.scale_x + placement.offset_x
    at_y = (np.arange(rows) + 0.5) * placement.scale_y + placement.offset_y
    edge = 64 / 16 / 2  # beyond the outermost centers a map stays as it is
    np.testing.assert_allclose(x, np.tile(at_x.clip(edge, 64 - edge), (rows, 1)), atol=1e-3)
    np.testing.assert_allclose(y, np.tile(at_y.clip(edge, 64 - edge)[:, None], (1, columns)), atol=1e-3)


def test_what_was_bright_in_the_radiograph_is_hot_in_its_map():
    radiograph = np.zeros((120, 60), np.uint8)
    radiograph[90:96, 12:18] = 255
    square, placement = fit_square(radiograph, 40)
    found = to_radiograph(square / 255, radiograph.shape, placement, 40)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert found.shape == (120, 60) and 90 <= row < 96 and 12 <= column < 18


def test_a_larger_square_is_what_torch_interpolates():
    grid = np.random.default_rng(0).random((2, 3, 5, 7)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(grid), (32, 32), mode="bilinear")
    np.testing.assert_allclose(to_square(grid, 32), expected, atol=1e-5)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 50), st.integers(1, 50))
def test_a_map_without_preference_stays_one_and_no_value_leaves_its_range(rows, columns, height, width):
    _, placement = fit_square(np.zeros((height, width), np.uint8), 24)
    np.testing.assert_allclose(to_radiograph(np.ones((rows, columns)), (height, width), placement, 24), 1, atol=1e-6)
    grid = np.random.default_rng(rows).random((rows, columns))
    found = to_radiograph(grid, (height, width), placement, 24)
    assert found.min() >= grid.min() - 1e-6 and found.max() <= grid.max() + 1e-6
