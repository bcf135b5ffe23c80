"""Heat over a radiograph."""

import numpy as np
import pytest

from trcgl.imaging.radiograph import fit_square
from trcgl.model.maps import to_radiograph
from trcgl.predict.explain import safe_name
from trcgl.predict.overlay import EDGE, heat, over, small_map

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 90), dtype=np.uint8)


def test_where_nothing_counts_the_radiograph_is_as_it_was():
    values = np.zeros(PIXELS.shape, np.float32)
    values[:, 45:] = 0.4
    overlaid = over(PIXELS, heat(values))
    assert (overlaid[:, :45] == PIXELS[:, :45, None]).all()
    assert (overlaid[:, 45:] != PIXELS[:, 45:, None]).any()


def test_a_line_goes_around_the_decision_region_and_nowhere_else():
    values = np.full(PIXELS.shape, 0.49, np.float32)
    values[20:40, 30:60] = 0.51
    line = (heat(values) == (*EDGE, 255)).all(-1)
    expected = np.zeros(PIXELS.shape, bool)
    expected[20:40, 30:60] = True
    expected[21:39, 31:59] = False
    assert (line == expected).all()


@pytest.mark.parametrize("shape", [(600, 300), (300, 600), (500, 500)])
def test_a_small_map_is_the_full_one_made_smaller(shape):
    _, placement = fit_square(np.zeros(shape, np.uint8), 64)
    grid = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    full = to_radiograph(grid, shape, placement, 64)
    little = small_map(grid, shape, placement, 64, side=100)
    assert max(little.shape) == 100
    factor = max(shape) // 100
    block = full.reshape(little.shape[0], factor, little.shape[1], factor).mean((1, 3))
    np.testing.assert_allclose(little, block, atol=0.02)


@pytest.mark.parametrize(
    ("name", "safe"),
    [("a/b c.png", "a_b_c"), ("../../etc/passwd", "_.._etc_passwd"), ("..", "_"), ("Ödem <b>", "Ödem_b_")],
)
def test_a_name_is_one_harmless_part_of_a_path(name, safe):
    assert safe_name(name) == safe
